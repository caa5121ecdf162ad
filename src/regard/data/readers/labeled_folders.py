"""Folders of labeled files, one folder a label, as in Speech Commands and many image collections.

    words/yes/0a7c2a8d.wav
    words/no/0a9f9af7.wav

A label's folder may have folders of its own; `DataSource.files` chooses the files. Cost: one pass
over the names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from regard.data.listing import list_first
from regard.data.readers import FORMATS
from regard.data.readers.source import OFFICIAL_LISTS, SourceLike, as_source
from regard.errors import DataError

T = TypeVar("T")

AUDIO_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "audio")
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "image")
_NUM_NAMED = 3  # files in a message


class LabeledFile(NamedTuple):
    """A file and its label, the name of its folder."""

    path: Path
    label: str


def labeled_files(data: SourceLike, suffixes: Collection[str]) -> list[LabeledFile]:
    """Return the files with some suffixes of a folder with one folder a label, in sorted order.

    Raises:
        DataError: The folder is missing, or no label's folder holds such files itself: folders like
            ``train/yes/a.wav`` are parts, not labels.
    """
    source = as_source(data)
    root = Path(source.path)
    if not source.is_folder:
        raise DataError(
            f"{root}: a file, not a folder.  Name one that has a folder for every label."
        )
    files = [
        LabeledFile(path, path.relative_to(root).parts[0])
        for path in source.files
        if path.suffix.lower() in suffixes and path.parent != root
    ]
    if not any(file.path.parent.parent == root for file in files):
        first = min(suffixes, key=lambda suffix: (suffix not in (".wav", ".png"), suffix))
        names = [path.relative_to(root).as_posix() for path in source.files]
        seen = f"Seen: {list_first(names, _NUM_NAMED)}." if names else "The folder is empty."
        raise DataError(
            f"{root}: no {first} file or the like in folders named for their labels.  "
            f"Expected {root}/LABEL/FILE{first}.  {seen}"
        )
    return files


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
        DataError: Some files cannot be read; the message names all of them.
    """
    values: list[T] = []
    failed: list[Path] = []
    first: DataError | None = None
    for path in paths:
        try:
            values.append(read(path))
        except DataError as error:
            first = first or error
            failed.append(path)
    if first is not None:
        paths_after = list_first([str(path) for path in failed[1:]], _NUM_NAMED)
        message = f"{first}  The same for {paths_after}." if paths_after else str(first)
        raise DataError(message, *first.next_steps)
    return values


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
