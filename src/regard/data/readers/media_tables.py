"""Images and recordings within tables of Parquet or Arrow, as `datasets` writes them.

A row has a label and the bytes of a file, or an object with ``bytes`` and ``path``. Labels that are
numbers have the names that the table keeps in its metadata. Cost: a few rows in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regard.data.listing import list_first
from regard.data.readers.arrow_tables import open_table_on_disk
from regard.data.readers.arrow_values import ArrowColumn, read_label_names
from regard.data.readers.columns import describe_missing, find_column
from regard.data.readers.embedded_file import EmbeddedFile
from regard.data.readers.json_lines import describe_several, json_fields, only_item
from regard.data.readers.source import DataSource
from regard.errors import DataError

_NUM_NAMED = 10  # columns in a message


class MediaColumns(NamedTuple):
    """The columns of a table that are read.

    Args:
        media: That of images or recordings.
        label: That of labels; empty where they are not read.
        unused: The others.
    """

    media: str
    label: str
    unused: tuple[str, ...]


class MediaRow(NamedTuple):
    """A row of a table.

    Args:
        location: Where it is, such as ``row 12``, or file and row in a folder of tables.
        label: Its label; empty where it has none.
        file: The image or recording.
    """

    location: str
    label: str
    file: EmbeddedFile


def has_media(source: DataSource) -> bool:
    """Return whether a source is a table with a column of images or recordings."""
    return source.table is not None and bool(source.table.media)


def count_rows(source: DataSource) -> int:
    """Return the number of rows of a table."""
    return source.content.count(b"\n")


def media_columns(
    source: DataSource, columns: Sequence[str] = (), *, has_labels: bool = True
) -> MediaColumns:
    """Return which columns of a table are read.

    Args:
        source: A table for which `has_media` is true.
        columns: Name of the column of labels, or of media and labels; empty finds them.
        has_labels: Whether labels are read, too.

    Raises:
        DataError: A column is missing, or it is not clear which one holds the labels.
    """
    assert source.table is not None
    names = list(json_fields(source.content.split(b"\n", 1)[0].decode()))
    media = next(iter(source.table.media))
    if len(columns) > 1:
        media = columns[0]
    label = ""
    if has_labels:
        label = columns[-1] if columns else _find_label(source, names)
    for name in (media, label):
        if name and name not in names:
            raise DataError(f"{source.path}: {describe_missing('column', name, names)}")
    if media not in source.table.media:
        kinds = ", ".join(source.table.media)
        raise DataError(
            f"{source.path}: column {media} holds no images or recordings, {kinds} does."
        )
    return MediaColumns(media, label, tuple(x for x in names if x not in (media, label)))


def _find_label(source: DataSource, names: Sequence[str]) -> str:
    """Return the column that is named for labels, else the only one whose labels have names."""
    label = find_column(names, "label")
    if label is not None:
        return label
    with open_table_on_disk(_files_of(source)[0]) as (schema, _):
        named = [name for name in names if name in read_label_names(schema.metadata)]
    if len(named) == 1:
        return named[0]
    columns = named or names
    raise DataError(
        f"{source.path}: {'several columns' if named else 'no column'} of labels.  Columns seen: "
        f"{list_first(columns, _NUM_NAMED)}.  Name the one: `data.columns=NAME`"
    )


def read_media_rows(source: DataSource, columns: MediaColumns) -> Iterator[MediaRow]:
    """Yield the rows of a table, read from its files again.

    Where labels are read, rows without a label, or without an image or recording, are left out.

    Args:
        source: A table for which `has_media` is true.
        columns: The columns that are read.

    Yields:
        The rows.

    Raises:
        DataError: A file cannot be read any more, or a row has no bytes, or several labels.
    """
    assert source.table is not None
    for path in _files_of(source):
        name = Path(path).relative_to(source.path) if source.table.files else ""
        with open_table_on_disk(path) as (schema, batches):
            for row, (value, content) in enumerate(_cells(path, schema, batches, columns), 1):
                label = _label_of(value, columns.label, f"{path}:{row}")
                if columns.label and not (label and _has_content(content)):
                    continue
                where = f"{path}:{row}: column {columns.media}"
                location = f"{name}:{row}" if name else f"row {row:,}"
                file = EmbeddedFile(where, content_of(content, where), source.path)
                yield MediaRow(location, label, file)


def _has_content(value: object) -> bool:
    """Return whether a cell has a file, here or elsewhere; an object with nothing has none."""
    return any(value.values()) if isinstance(value, dict) else value is not None


def _label_of(value: object, column: str, location: str) -> str:
    """Return the label in a cell, maybe that of a list of one; empty where there is none.

    Raises:
        DataError: There are several.
    """
    label = only_item(value)
    if isinstance(label, list):
        raise DataError(f"{location}: {describe_several(column, list(map(str, label)))}")
    return "" if label is None else str(label)


def _cells(
    path: str, schema: Any, batches: Iterable[Any], columns: MediaColumns
) -> Iterator[tuple[object, object]]:
    """Yield the label and the image or recording of each row of a file, as Python has them."""
    names = list(schema.names)
    label_names = read_label_names(schema.metadata).get(columns.label, ())
    labels = ArrowColumn(names.index(columns.label or columns.media), columns.label, label_names)
    row = 0
    for batch in batches:
        values: list[Any] = [None] * batch.num_rows
        if columns.label:
            array = batch.column(labels.number)
            values = labels.values(array, lambda i, row=row: f"{path}:{row + i + 1}")
        for label, cell in zip(values, batch.column(names.index(columns.media)), strict=True):
            yield label, cell.as_py()
        row += batch.num_rows


def _files_of(source: DataSource) -> tuple[str, ...]:
    """Return the files that a table was read from; raise DataError for a stream."""
    if source.is_stream:
        raise DataError(
            f"{source.path}: images and recordings are read from a table on disk, not from a "
            "stream.  Write it to a file, and name that."
        )
    assert source.table is not None
    return source.table.files or (source.path,)


def content_of(value: object, location: str) -> bytes:
    """Return the bytes of a cell: its own, or those of an object with bytes and path.

    Raises:
        DataError: It has none.
    """
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError(
            f"{location}: no bytes, as of a file that is elsewhere.  Leave the row out."
        )
    return content
