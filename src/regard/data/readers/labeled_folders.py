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
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from regard.data.listing import list_first
from regard.data.readers import FORMATS
from regard.data.readers.problems import RowProblem, UnreadableRowsError
from regard.data.readers.source import OFFICIAL_LISTS, DataSource, SourceLike, as_source
from regard.errors import DataError

T = TypeVar("T")

AUDIO_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "audio")
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "image")
_NUM_NAMED = 3  # files in a message
_NUM_KINDS = 10  # of files that are not read
_PART_OF_NAME = {
    **{"train": "train", "training": "train"},
    **{"val": "valid", "valid": "valid", "validation": "valid", "dev": "valid"},
    **{"test": "test", "testing": "test"},
}
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
    for path in source.files:
        names = path.relative_to(root).parts
        depth = 1 if names[0] in parts else 0  # of the folders of labels
        if path.suffix.lower() in suffixes and len(names) > depth + 1:
            part_root = root / names[0] if depth else root
            part = parts.get(names[0], "train")
            files.append(LabeledFile(path, names[depth], part, part_root))
    if not any(file.path.parent.parent == file.root for file in files if file.part == "train"):
        raise DataError(_describe_unlabeled(source, suffixes))
    return files


def part_folders(source: DataSource, suffixes: Collection[str]) -> dict[str, str]:
    """Return the part of each folder at the top of a folder of data; empty where they are labels.

    They are parts if all are named like parts and the one of training has folders of its own.

    Raises:
        DataError: Some are parts and others are not, or files of training have no label.
    """
    is_nested: dict[str, bool] = {}  # whether a folder has files in folders of its own
    for path in source.files:
        names = path.relative_to(source.path).parts
        if path.suffix.lower() in suffixes and len(names) > 1:
            is_nested[names[0]] = is_nested.get(names[0], False) or len(names) > 2
    parts = {name: _PART_OF_NAME.get(name.casefold(), "") for name in is_nested}
    num_parts = len(set(parts.values()) - {""})
    labels = [name for name, part in parts.items() if not part]
    has_labels = any(is_nested[name] for name, part in parts.items() if part == "train")
    if has_labels and not labels:
        return parts
    if has_labels and num_parts > 1:
        named = list_first([name for name in parts if name not in labels], _NUM_NAMED)
        raise DataError(
            f"{source.path}: the folders {named} are parts of the data, "
            f"{list_first(labels, _NUM_NAMED)} is not.  Move it to another folder, or name the "
            f"parts: {source.path}/train with `data.valid=FOLDER`, `data.test=FOLDER`"
        )
    if num_parts > 1 and not labels:
        raise DataError(
            f"{source.path}: the folders {list_first(sorted(parts), _NUM_NAMED)} are parts of the "
            f"data, not labels.  Expected {source.path}/train/LABEL/FILE{_first_suffix(suffixes)}."
        )
    return {}


def describe_unread(data: SourceLike, suffixes: Collection[str], unit: str) -> list[str]:
    """Return what of a folder of labels is not read: kinds of files, and labels without files.

    Args:
        data: The folder.
        suffixes: Suffixes of the files that are read.
        unit: What is read, such as ``images``.
    """
    source = as_source(data)
    root = Path(source.path)
    roots = [root / name for name in part_folders(source, suffixes)] or [root]  # of the labels
    files = labeled_files(data, suffixes)
    labels = {file.root / file.label for file in files}
    unread = set(source.files) - {file.path for file in files}
    counts = _count_unread(unread, {root, *roots}, suffixes)
    notes = [f"Files that are not read: {list_first(counts, _NUM_KINDS)}."] if counts else []
    empty = [
        folder.relative_to(root).as_posix()
        for label_root in sorted({root, *roots})
        for folder in sorted(label_root.iterdir())
        if folder.is_dir() and not folder.name.startswith((".", "_"))
        if folder not in labels and folder not in roots
    ]
    if empty:
        noun, verb = ("folder", "not a label") if len(empty) == 1 else ("folders", "not labels")
        notes.append(f"No {unit} in the {noun} {list_first(empty, _NUM_KINDS)}: {verb}.")
    return notes


def _count_unread(
    paths: Collection[Path], roots: Collection[Path], suffixes: Collection[str]
) -> list[str]:
    """Return the number of unread files of each kind, in words, first those within labels.

    Args:
        paths: The files.
        roots: Folders of the folders of labels; of files in them only media are counted.
        suffixes: Suffixes of the files that are read elsewhere.
    """
    within, outside = Counter[str](), Counter[str]()
    for path in sorted(paths):
        is_outside, suffix = path.parent in roots, path.suffix.lower()
        is_media = (mimetypes.guess_type(path.name)[0] or "").split("/")[0] in _MEDIA
        is_counted = not is_outside or is_media or suffix in suffixes
        if is_counted and path.name.lower() not in _LEFT_BY_SYSTEMS:
            (outside if is_outside else within)[suffix or "without a suffix"] += 1
    counts = [f"{count:,} {kind}" for kind, count in within.most_common()]
    return counts + [
        f"{count:,} {kind} outside the folders of labels" for kind, count in outside.items()
    ]


def describe_kinds(files: Sequence[Path]) -> str:
    """Return the number of files of each suffix in a sentence; empty without files.

    >>> describe_kinds([Path("a.heic"), Path("b.HEIC"), Path("README")])
    'Kinds of files: 2 .heic, 1 without a suffix.'
    """
    kinds = Counter(path.suffix.lower() or "without a suffix" for path in files)
    counts = [f"{count:,} {kind}" for kind, count in kinds.most_common()]
    return f"Kinds of files: {list_first(counts, _NUM_KINDS)}." if counts else ""


def files_within(data: SourceLike, suffixes: Collection[str]) -> list[Path]:
    """Return the files with some suffixes of a folder and of all folders in it, in sorted order.

    Raises:
        DataError: No such file exists.
    """
    source = as_source(data)
    files = [path for path in source.files if path.suffix.lower() in suffixes]
    if not files:
        raise DataError(f"{source.path}: no file that ends in {', '.join(sorted(suffixes))}.")
    return files


def read_each(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    """Return what `read` returns for each file.

    Raises:
        UnreadableRowsError: Some files cannot be read; the message counts them.
    """
    values: list[T] = []
    problems: list[RowProblem] = []
    first: DataError | None = None
    for path in paths:
        try:
            values.append(read(path))
        except DataError as error:
            first = first or error
            problems.append(RowProblem(str(path), None, str(error).removeprefix(f"{path}: ")))
    if first is None:
        return values
    message = str(first)
    if len(problems) > 1:
        names = list_first([problem.path for problem in problems], _NUM_NAMED)
        message += f"  {len(problems):,} of {len(paths):,} files cannot be read: {names}."
    raise UnreadableRowsError(message, *first.next_steps, problems=problems, num_rows=len(values))


def official_parts(data: SourceLike) -> dict[str, set[str]]:
    """Return the held-out files, under ``valid`` and ``test``, by the lists of a collection.

    Speech Commands (Warden 2018) has ``validation_list.txt`` and ``testing_list.txt``, one
    ``LABEL/FILE`` a line, so that no speaker is in two parts.
    """
    root = Path(as_source(data).path)
    lists = ((part, root / name) for name, part in OFFICIAL_LISTS.items())
    return {
        part: set(path.read_text(encoding="utf-8").split("\n")) - {""}
        for part, path in lists
        if path.is_file()
    }


def _first_suffix(suffixes: Collection[str]) -> str:
    """Return the most usual of some suffixes, for messages."""
    return min(suffixes, key=lambda suffix: (suffix not in (".wav", ".png"), suffix))


def _describe_unlabeled(source: DataSource, suffixes: Collection[str]) -> str:
    """Return what a folder without labels should hold, and what it holds."""
    root, first = Path(source.path), _first_suffix(suffixes)
    names = [path.relative_to(root).as_posix() for path in source.files]
    seen = f"Seen: {list_first(names, _NUM_NAMED)}." if names else "The folder is empty."
    if not any(path.suffix.lower() in suffixes for path in source.files):
        seen += f"  {describe_kinds(source.files)}".rstrip()
    folders = {name.split("/")[0] for name in names}
    if len(folders) == 1 and all(name.count("/") > 1 for name in names):
        seen += f"  Name the folder of the labels: {root / folders.pop()}"
    return (
        f"{root}: no {first} file or the like in folders named for their labels.  "
        f"Expected {root}/LABEL/FILE{first}.  {seen}"
    )
