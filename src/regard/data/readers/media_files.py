"""Images and recordings within tables, as `datasets` writes them: brought to files.

    pets.parquet  ->  files/cat/0.jpg, files/dog/1.jpg
    pets/data/train-00000-of-00001.parquet  ->  files/train/cat/0.jpg, ...

Labels have the names that the table keeps in its metadata. Cost: a few rows in memory at a
time; the bytes are not decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regard.data.readers.arrow_tables import open_table_on_disk
from regard.data.readers.arrow_values import ArrowColumn, media_of, read_label_names
from regard.data.readers.columns import find_column
from regard.data.readers.media_tables import content_of
from regard.data.readers.table_folders import is_table_name, select_tables
from regard.errors import DataError

_PARTS = ("train", "valid", "test")
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".wav",
    b"ID3": ".mp3",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
}
"""Suffixes of files by their first bytes; WebP begins as WAV does."""
_WEBP = slice(8, 12)
_NOT_IN_NAMES = re.compile(r"[/\\\0]|^[._]")  # such folders are left out where data is read


def write_media(data: str | Path, folder: str | Path) -> int:
    """Write the images or recordings of a table, or a folder of tables, to folders of their labels.

    Args:
        data: A file of Parquet or Arrow, or a folder of such files, whose parts get folders.
        folder: A new folder.

    Returns:
        Number of files; rows without a label have none.

    Raises:
        DataError: The folder exists, or a table has no bytes of images or recordings, or no labels.
    """
    path, root = Path(data), Path(folder)
    if root.exists():
        raise DataError(f"{root}: is there already.  Name a new folder.")
    if not path.is_dir():
        return _write_tables([path], root)
    tables = list(filter(is_table_name, path.rglob("*")))
    if not tables:
        raise DataError(f"{path}: a folder without tables of Parquet or Arrow.")
    first = select_tables(path, tables, "train")
    if not first.part:
        return _write_tables(first.files, root)
    parts = [part for part in _PARTS if part in (first.part, *first.other_parts)]
    return sum(
        _write_tables(select_tables(path, tables, part).files, root / part) for part in parts
    )


def _write_tables(tables: Sequence[Path], root: Path) -> int:
    """Write the media of some tables to one folder; return how many there are."""
    count = 0
    for table in tables:
        for label, content in _labeled_media(table):
            name = _NOT_IN_NAMES.sub("-", label)
            start = next((start for start in _SUFFIXES if content.startswith(start)), b"")
            suffix = ".webp" if content[_WEBP] == b"WEBP" else _SUFFIXES.get(start, "")
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{count}{suffix}").write_bytes(content)
            count += 1
    return count


def _labeled_media(table: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the label and the bytes of each row that has a label."""
    with open_table_on_disk(str(table)) as (schema, batches):
        names = list(schema.names)
        label_names = read_label_names(schema.metadata)
        column = find_column(names, "label") or next(filter(names.__contains__, label_names), None)
        if column is None:
            raise DataError(f"{table}: no column of labels.  Columns seen: {', '.join(names)}.")
        labels = ArrowColumn(names.index(column), column, label_names.get(column, ()))
        media, row = "", 0
        for batch in batches:
            values = labels.values(
                batch.column(labels.number), lambda i, row=row: f"{table}:{row + i + 1}"
            )
            if any(value is not None for value in values):
                media = media or _media_column(str(table), batch)
            for index, label in enumerate(values):
                row += 1
                if label is not None:
                    value = batch.column(names.index(media))[index].as_py()
                    yield str(label), content_of(value, f"{table}:{row}: column {media}")


def _media_column(name: str, batch: Any) -> str:
    """Return the first column with images or recordings."""
    for column in batch.schema.names:
        first = next((v.as_py() for v in batch.column(column) if v.is_valid), None)
        if media_of(first):
            return column
    raise DataError(f"{name}: no column holds the bytes of images or recordings.")
