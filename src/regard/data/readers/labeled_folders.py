"""Folders of labeled files, one folder a label, as in Speech Commands and many image collections.

    words/yes/0a7c2a8d.wav
    words/no/0a9f9af7.wav

A label's folder may have folders of its own. Names that begin with a dot are passed over, and
folders that begin with an underscore, such as Speech Commands' ``_background_noise_``. Cost: one
pass over the names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from regard.data.readers import FORMATS
from regard.data.readers.source import OFFICIAL_LISTS, DataSource, file_hash
from regard.errors import DataError

T = TypeVar("T")

AUDIO_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "audio")
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in FORMATS.items() if name == "image")
_SHOWN = 3  # names in a message


class LabeledFile(NamedTuple):
    """A file and the label that its folder names.

    Args:
        path: The file.
        label: Name of its folder.
    """

    path: Path
    label: str


def labeled_files(folder: str | Path, suffixes: Collection[str]) -> list[LabeledFile]:
    """List the files of a folder that has one folder a label, in alphabetical order.

    Where no such file stands right in a label's folder, the folders are taken for parts
    (``train/yes/a.wav``), not for labels.

    Args:
        folder: Its place.
        suffixes: Of the files wanted, in lower case, with the dot.

    Raises:
        DataError: The folder is missing, or holds no such file.
    """
    root = Path(folder)
    try:
        owners = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and _counts(entry)]
        found = [
            LabeledFile(path, owner.name)
            for owner in owners
            for path in sorted(_files(owner))
            if path.suffix.lower() in suffixes
        ]
    except FileNotFoundError as error:
        raise DataError(f"{root}: no such folder.") from error
    except NotADirectoryError as error:
        raise DataError(
            f"{root}: a file, not a folder.  Name one that has a folder for every label."
        ) from error
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror or error}).") from error
    if not any(file.path.parent.parent == root for file in found):
        first = min(suffixes, key=lambda suffix: (suffix not in (".wav", ".png"), suffix))
        raise DataError(
            f"{root}: no {first} file or the like in folders named for their labels.  "
            f"Expected {root}/LABEL/FILE{first}.  {_seen(root)}"
        )
    return found


def files_within(folder: str | Path, suffixes: Collection[str]) -> list[Path]:
    """List the files of a folder and of all folders within it, in alphabetical order.

    What `labeled_files` passes over is passed over here, too.

    Args:
        folder: Its place.
        suffixes: As for `labeled_files`.

    Raises:
        DataError: There is none.
    """
    root = Path(folder)
    found = sorted(path for path in _files(root) if path.suffix.lower() in suffixes)
    if not found:
        raise DataError(f"{root}: no file that ends in {', '.join(sorted(suffixes))}.")
    return found


def count_suffixes(folder: str | Path) -> Counter[str]:
    """Count the suffixes of the files in the folders of a folder, in lower case."""
    owners = (entry for entry in Path(folder).iterdir() if entry.is_dir() and _counts(entry))
    return Counter(path.suffix.lower() for owner in owners for path in _files(owner))


def read_each(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    """Read files, and name all that cannot be read, not the first alone.

    Args:
        paths: The files.
        read: Reads one; raises `DataError`.

    Raises:
        DataError: Some cannot be read.
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
        others = [str(path) for path in failed[1 : 1 + _SHOWN]]
        rest = len(failed) - 1 - len(others)
        more = f" and {rest:,} more" if rest else ""
        raise DataError(f"{first}  Likewise: {', '.join(others)}{more}." if others else str(first))
    return values


def official_parts(folder: str | Path) -> dict[str, set[str]]:
    """Read which files of a folder its makers hold out, where they say so.

    Speech Commands (Warden 2018) has ``validation_list.txt`` and ``testing_list.txt``, one
    ``LABEL/FILE`` a line, so that no speaker stands in two parts.

    Returns:
        Names of files under ``valid`` and ``test``; only what there is a list for.
    """
    found = {}
    for name, part in OFFICIAL_LISTS.items():
        path = Path(folder) / name
        if path.is_file():
            found[part] = set(path.read_text(encoding="utf-8").split("\n")) - {""}
    return found


def data_files_hash(path: str | Path) -> str:
    """Compute the SHA-256 of a file, or of the names and contents of a folder's data files.

    Other files may come and go, such as a model folder that a run writes there.

    Raises:
        DataError: It is missing or cannot be read.
    """
    return DataSource(str(path), None).sha256 if Path(path).is_dir() else file_hash(path)


def _counts(path: Path) -> bool:
    """Tell whether a folder counts; cameras begin names of files with an underscore."""
    return not path.name.startswith((".", "_"))


def _files(folder: Path) -> Iterator[Path]:
    """Walk over the files of a folder and of all folders within it that count."""
    for entry in folder.iterdir():
        if entry.is_dir():
            if _counts(entry):
                yield from _files(entry)
        elif not entry.name.startswith(".") and entry.is_file():
            yield entry


def _seen(root: Path) -> str:
    """Tell what a folder holds instead."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    if not names:
        return "The folder is empty."
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"Seen: {', '.join(names[:_SHOWN])}{more}."
