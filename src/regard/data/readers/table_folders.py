"""Folders of tables: which of their files are read, and which part of the data each belongs to.

    data/train-00000-of-00002.parquet      sales.parquet/_SUCCESS
    data/train-00001-of-00002.parquet      sales.parquet/part-00000-3f2a.snappy.parquet
    data/test-00000-of-00001.parquet       sales.parquet/part-00001-3f2a.snappy.parquet

A file belongs to the part that the beginning of its name or a folder above it is called. Cost: one
pass over the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from regard.data.listing import list_first
from regard.data.readers import FORMATS, ROW_FORMATS
from regard.data.readers.suffixes import suffix_of
from regard.errors import DataError

PART_OF_NAME = {
    **{"train": "train", "training": "train"},
    **{"val": "valid", "valid": "valid", "validation": "valid", "dev": "valid"},
    **{"test": "test", "testing": "test"},
}
"""The part of the data by the name of a folder or file in lower case."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")
_LEADING_WORD = re.compile(r"[a-z]+(?=[-_.]|$)")
_LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi", "metadata": "Iceberg"}
_CACHE = re.compile(r"cache-[0-9a-f]{16}")  # what `datasets` keeps next to its data
_KINDS_OF_TEXT = ((".jsonl", ".ndjson"), (".csv",), (".tsv",))
_NUM_NAMED = 5  # folders or files in a message


class TableFolder(NamedTuple):
    """The files of a folder that are read.

    Args:
        files: The files, in alphabetical order.
        part: Their part: ``train``, ``valid`` or ``test``; empty where the folder has one alone.
        other_parts: The other parts that the folder has.
        unread: Names of other tables, which belong to no part.
    """

    files: tuple[Path, ...]
    part: str
    other_parts: tuple[str, ...]
    unread: tuple[str, ...]


def is_table_name(path: Path) -> bool:
    """Return whether a file is a table of Parquet or Arrow by its name."""
    is_left_out = path.name.startswith(("_", ".")) or _CACHE.match(path.name) is not None
    return FORMATS.get(path.suffix.lower()) in ROW_FORMATS and not is_left_out


def select_row_files(files: Iterable[Path]) -> list[Path]:
    """Return those of the files of a folder whose rows are data, all of one kind.

    They are tables, or without any JSONL, or without any CSV, or without any TSV.
    """
    files = list(files)
    kinds = [list(filter(is_table_name, files))]
    kinds += [[file for file in files if _is_named(file, kind)] for kind in _KINDS_OF_TEXT]
    return next(filter(None, kinds), [])


def _is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Return whether a file has rows of text by its name; what describes data is ``.json``."""
    return suffix_of(path.name) in suffixes and not path.name.startswith(("_", "."))


def select_tables(folder: Path, files: Sequence[Path], part: str) -> TableFolder:
    """Return the files of one part of a folder, or all where it has no parts.

    Args:
        folder: The folder.
        files: Its tables, at any depth.
        part: The part that is asked for.

    Raises:
        DataError: It has no such part, or its files are in several folders, or a log says which of
            them count.
    """
    _refuse_log(folder)
    parts: dict[str, list[Path]] = {}
    for file in sorted(files):
        parts.setdefault(_part_of(file.relative_to(folder)), []).append(file)
    unread = parts.pop("", []) if len(parts) > 1 else []
    if len(parts) > 1 and part not in parts:
        seen = ", ".join(parts)
        raise DataError(f"{folder}: has no part named {part}.  Parts seen: {seen}.  Name a file.")
    name = part if part in parts else next(iter(parts))
    selected = parts[name]
    _refuse_several_folders(folder, selected)
    names = tuple(file.relative_to(folder).as_posix() for file in unread)
    other_parts = tuple(other for other in parts if other != name)
    return TableFolder(tuple(selected), name if other_parts else "", other_parts, names)


def describe_shard(name: str) -> str:
    """Return which of several files one is by its name; empty for any other file.

    >>> describe_shard("data/train-00000-of-00002.parquet")
    'file 1 of 2; all are in data'
    """
    shard = _SHARD.search(Path(name).name)
    if shard is None or int(shard[2]) < 2:
        return ""
    return f"file {int(shard[1]) + 1:,} of {int(shard[2]):,}; all are in {Path(name).parent}"


def _part_of(path: Path) -> str:
    """Return the part of a file by the beginning of its name, or by a folder; empty without one."""
    word = _LEADING_WORD.match(path.name.lower())
    names = [*map(str.lower, reversed(path.parts[:-1]))]
    return next(
        (PART_OF_NAME[one] for one in [word[0] if word else "", *names] if one in PART_OF_NAME), ""
    )


def _refuse_log(folder: Path) -> None:
    """Raise DataError for a folder whose log says which of its files count."""
    for name, form in _LOGS.items():
        is_log = any((folder / name).glob("*.metadata.json")) if name == "metadata" else True
        if (folder / name).is_dir() and is_log:
            raise DataError(
                f"{folder}: a table of {form}, whose log says which files count.  Write its rows "
                "to one Parquet file."
            )


def _refuse_several_folders(folder: Path, files: Sequence[Path]) -> None:
    """Raise DataError where files are in folders that may be columns, or other data."""
    folders = sorted({file.parent.relative_to(folder).as_posix() for file in files})
    if len(folders) == 1 and "=" not in folders[0]:
        return
    seen = list_first(folders, _NUM_NAMED)
    if "=" in seen:
        raise DataError(
            f"{folder}: has a column in the names of folders: {seen}.  Write one file: "
            f'python -c "import pyarrow.parquet as p; p.write_table(p.read_table({str(folder)!r}), '
            "'rows.parquet')\""
        )
    raise DataError(f"{folder}: tables are in several folders: {seen}.  Name one of them.")
