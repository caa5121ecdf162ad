"""Folders of labeled files, one folder a label, as in Speech Commands and many image collections.

    words/yes/0a7c2a8d.wav               pets/train/cat/1.jpg
    words/no/0a9f9af7.wav                pets/test/dog/2.jpg

A label's folder may have folders of its own; `DataSource.files` chooses the files. Folders named
``train``, ``val`` and ``test`` at the top are parts of the data, not labels. Cost: one pass over
the names.
"""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple, TypeVar

from regard.data.listing import list_first
from regard.data.progress import tracked
from regard.data.readers import FORMATS
from regard.data.readers.embedded_file import FileLike
from regard.data.readers.problems import RowProblem, UnreadableRowsError
from regard.data.readers.source import OFFICIAL_LISTS, DataSource, SourceLike, as_source
from regard.data.readers.table_folders import PART_OF_NAME
from regard.data.readers.text_lines import read_lines
from regard.errors import DataError

T = TypeVar("T")
F = TypeVar("F", bound=FileLike)

AUDIO_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "audio")
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "image")
_NUM_NAMED = 3  # files in a message
_NUM_KINDS = 10  # of files that are not read
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")
_MEDIA = ("image", "audio", "video")


class LabeledFile(NamedTuple):
    """A file, its label (the name of its folder), and its part: ``train``, ``valid``, ``test``.

    Args:
        path: The file.
        label: The name of its folder.
        part: Part of the data, ``train`` where no folder says which.
        root: The folder of the labels: that of the data, or of the part.
    """

    path: Path
    label: str
    part: str
    root: Path


def labeled_files(data: SourceLike, suffixes: Collection[str]) -> list[LabeledFile]:
    """Return the files with some suffixes of a folder with one folder a label, in sorted order.

    Raises:
        DataError: The folder is missing, no label's folder holds such files itself, or its folders
            are partly labels and partly parts of the data.
    """
    source = as_source(data)
    root = Path(source.path)
    if not source.is_folder:
        raise DataError(
            f"{root}: a file, not a folder.  Name one that has a folder for every label."
        )
    parts = part_folders(source, suffixes)
    files = []
    for path in _with_suffix(source, suffixes):
        names = path.relative_to(root).parts
        depth = int(names[0] in parts)  # of the folders of labels
        if len(names) > depth + 1:
            part = parts.get(names[0], "train")
            files.append(LabeledFile(path, names[depth], part, root.joinpath(*names[:depth])))
    if not any(file.path.parent.parent == file.root for file in files if file.part == "train"):
        raise DataError(_describe_unlabeled(source, suffixes))
    return files


def _with_suffix(source: DataSource, suffixes: Collection[str]) -> list[Path]:
    """Return the files of a folder, at any depth, with some suffixes."""
    return [path for path in source.files if path.suffix.lower() in suffixes]


def part_folders(source: DataSource, suffixes: Collection[str]) -> dict[str, str]:
    """Return the part of each folder at the top of a folder of data; empty where they are labels.

    They are parts if all are named like parts and the one of training has folders of its own.

    Raises:
        DataError: Some are parts and others are not, or files of training have no label.
    """
    folders, nested = _top_folders(source, suffixes)
    parts = {
        name: PART_OF_NAME[name.casefold()]
        for name in sorted(folders)
        if name.casefold() in PART_OF_NAME
    }
    labels = sorted(folders - parts.keys())
    has_labels = "train" in map(parts.get, nested)
    if has_labels and not labels:
        return parts
    if len(set(parts.values())) > 1 and has_labels == bool(labels):
        raise DataError(_describe_parts(source, list(parts), labels, suffixes))
    return {}


def _top_folders(source: DataSource, suffixes: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the folders at the top that hold files with some suffixes, and that do deeper down."""
    paths = [path.relative_to(source.path).parts for path in _with_suffix(source, suffixes)]
    folders = {names[0] for names in paths if len(names) > 1}
    return folders, {names[0] for names in paths if len(names) > 2}


def _describe_parts(
    source: DataSource, parts: Sequence[str], labels: Sequence[str], suffixes: Collection[str]
) -> str:
    """Return that folders are parts of the data, and others, or the files in them, are not."""
    named = list_first(parts, _NUM_NAMED)
    if not labels:
        return (
            f"{source.path}: the folders {named} are parts of the "
            f"data, not labels.  Expected {source.path}/train/LABEL/FILE{_first_suffix(suffixes)}."
        )
    return (
        f"{source.path}: the folders {named} are parts of the data, "
        f"{list_first(labels, _NUM_NAMED)} is not.  Move it to another folder, or name the "
        f"parts: {source.path}/train with `data.valid=FOLDER`, `data.test=FOLDER`"
    )


def describe_unread(data: SourceLike, suffixes: Collection[str], unit: str) -> list[str]:
    """Return what of a folder of labels is not read: kinds of files, and labels without files.

    Args:
        data: The folder.
        suffixes: Suffixes of the files that are read.
        unit: What is read, such as ``images``.
    """
    source = as_source(data)
    root = Path(source.path)
    roots = {root, *(root / name for name in part_folders(source, suffixes))}  # of the labels
    files = labeled_files(data, suffixes)
    unread = {*source.files} - {file.path for file in files}
    counts = _count_unread(filterfalse(_is_left_by_system, unread), roots, suffixes)
    notes = [f"Files that are not read: {list_first(counts, _NUM_KINDS)}."] if counts else []
    empty = _empty_folders(root, roots, files)
    if empty:
        noun, verb = ("folder", "not a label") if len(empty) == 1 else ("folders", "not labels")
        notes.append(f"No {unit} in the {noun} {list_first(empty, _NUM_KINDS)}: {verb}.")
    return notes


def _empty_folders(root: Path, roots: Collection[Path], files: Sequence[LabeledFile]) -> list[str]:
    """Return the folders in the folders of labels that hold no file that is read."""
    labels = {file.root / file.label for file in files}
    return [
        folder.relative_to(root).as_posix()
        for label_root in sorted(roots)
        for folder in sorted({*filter(Path.is_dir, label_root.iterdir())} - labels - {*roots})
        if not folder.name.startswith((".", "_"))
    ]


def _count_unread(
    paths: Iterable[Path], roots: Collection[Path], suffixes: Collection[str]
) -> list[str]:
    """Return the number of unread files of each kind, in words, first those within labels.

    Args:
        paths: The files.
        roots: Folders of the folders of labels; of files in them only media are counted.
        suffixes: Suffixes of the files that are read elsewhere.
    """
    within, outside = Counter[str](), Counter[str]()
    for path in sorted(paths):
        if path.parent not in roots:
            within[_kind_of(path)] += 1
        elif _is_input(path, suffixes):
            outside[_kind_of(path)] += 1
    counts = [f"{count:,} {kind}" for kind, count in within.most_common()]
    return counts + [
        f"{count:,} {kind} outside the folders of labels" for kind, count in outside.items()
    ]


def _kind_of(path: Path) -> str:
    """Return the suffix of a file in lower case, or that it has none."""
    return path.suffix.lower() or "without a suffix"


def _is_left_by_system(path: Path) -> bool:
    """Return whether a file is one that Windows writes into folders."""
    return path.name.lower() in _LEFT_BY_SYSTEMS


def _is_input(path: Path, suffixes: Collection[str]) -> bool:
    """Return whether a file has one of some suffixes, or that of an image, sound or film."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    return kind.split("/")[0] in _MEDIA or path.suffix.lower() in suffixes


def describe_kinds(files: Sequence[Path]) -> str:
    """Return the number of files of each suffix in a sentence; empty without files.

    >>> describe_kinds([Path("a.heic"), Path("b.HEIC"), Path("README")])
    'Kinds of files: 2 .heic, 1 without a suffix.'
    """
    counts = [f"{count:,} {kind}" for kind, count in Counter(map(_kind_of, files)).most_common()]
    return f"Kinds of files: {list_first(counts, _NUM_KINDS)}." if counts else ""


def files_within(data: SourceLike, suffixes: Collection[str]) -> list[Path]:
    """Return the files with some suffixes of a folder and of all folders in it, in sorted order.

    Raises:
        DataError: No such file exists.
    """
    source = as_source(data)
    files = _with_suffix(source, suffixes)
    if not files:
        raise DataError(f"{source.path}: no file that ends in {', '.join(sorted(suffixes))}.")
    return files


def read_each(files: Iterable[F], read: Callable[[F], T], num_files: int) -> list[T]:
    """Return what `read` returns for each file.

    Args:
        files: The files, on disk or within a table.
        read: Reads one.
        num_files: How many there are.

    Raises:
        UnreadableRowsError: Some files cannot be read; the message counts them.
    """
    values: list[T] = []
    errors: list[DataError] = []
    problems: list[RowProblem] = []
    for file in tracked(files, "reading the files", num_files, "files"):
        try:
            values.append(read(file))
        except DataError as error:
            errors.append(error)
            problems.append(RowProblem(str(file), None, str(error).removeprefix(f"{file}: ")))
    if not errors:
        return values
    message = str(errors[0])
    if len(problems) > 1:
        names = list_first([problem.path for problem in problems], _NUM_NAMED)
        message += f"  {len(problems):,} of {num_files:,} files cannot be read: {names}."
    steps = errors[0].next_steps
    raise UnreadableRowsError(message, *steps, problems=problems, num_rows=len(values))


def official_parts(data: SourceLike) -> dict[str, set[str]]:
    """Return the held-out files, under ``valid`` and ``test``, by the lists of a collection.

    Speech Commands (Warden 2018) has ``validation_list.txt`` and ``testing_list.txt``, one
    ``LABEL/FILE`` a line, so that no speaker is in two parts.

    Raises:
        DataError: A list cannot be read.
    """
    root = Path(as_source(data).path)
    lists = ((part, root / name) for name, part in OFFICIAL_LISTS.items())
    return {part: set(read_lines(path)) - {""} for part, path in lists if path.is_file()}


def _first_suffix(suffixes: Collection[str]) -> str:
    """Return the most usual of some suffixes, for messages."""
    return min(suffixes, key=lambda suffix: (suffix not in (".wav", ".png"), suffix))


def _describe_unlabeled(source: DataSource, suffixes: Collection[str]) -> str:
    """Return what a folder without labels should hold, and what it holds."""
    root, first = Path(source.path), _first_suffix(suffixes)
    paths = [path.relative_to(root) for path in source.files]
    names = list(map(Path.as_posix, paths))
    seen = f"Seen: {list_first(names, _NUM_NAMED)}." if names else "The folder is empty."
    if not _with_suffix(source, suffixes):
        seen += f"  {describe_kinds(source.files)}".rstrip()
    folders = {path.parts[:-2][:1] for path in paths}  # () for files that are less deep
    if len(folders - {()}) == len(folders) == 1:
        seen += f"  Name the folder of the labels: {root.joinpath(*folders.pop())}"
    return (
        f"{root}: no {first} file or the like in folders named for their labels.  "
        f"Expected {root}/LABEL/FILE{first}.  {seen}"
    )
