"""Tables of Parquet and Arrow: each row becomes an object of JSON on a line of its own.

pyarrow reads what Hugging Face's datasets, pandas, polars and Spark write. A struct is an object
and a list a list; dates and times are written as ISO 8601. Cost: the JSON of all rows, and the
Python objects of a thousand of them at a time, of 16 where rows hold bytes; the file itself stays
on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from regard.data.listing import list_first
from regard.data.progress import stage_counter
from regard.data.readers.arrow_values import ArrowColumn, media_of, read_label_names
from regard.data.readers.row_encoder import ROW_ENCODER
from regard.data.readers.source import open_file
from regard.data.readers.table_bytes import ENCRYPTED, PARQUET, find_form
from regard.errors import DataError

WriteLine = Callable[[bytes], object]
"""Receives each line of JSON."""
_ROWS_AT_ONCE = 1000
_ROWS_OF_FILES = 16  # where a row may hold an image or a recording
_BUFFER_BYTES = 1 << 20
_NUM_START = 4096  # bytes by which the form of a file is known
_INDEX = re.compile(r"__index_level_\d+__")  # of a data frame of pandas, without a name
_NUM_NAMED = 10  # columns in a message


class ConvertedRows(NamedTuple):
    """What became of the rows of a table.

    Args:
        names: Names of the columns.
        num_rows: Number of rows.
        notes: How columns were read, where their values do not say it.
        media: What each column of ``images`` or ``recordings`` holds, by its name.
    """

    names: tuple[str, ...]
    num_rows: int
    notes: tuple[str, ...]
    media: dict[str, str]


def convert_file(name: str, content: bytes | None, form: str, write: WriteLine) -> ConvertedRows:
    """Write the rows of a file of Parquet or Arrow as lines of JSON.

    Args:
        name: Name of the file, for messages.
        content: Its bytes; None reads the file on disk, some rows at a time.
        form: What it is, by `find_form`.
        write: Receives each line.

    Returns:
        What became of the rows.

    Raises:
        DataError: The file is damaged or encrypted, or has values that JSON cannot have.
    """
    with ExitStack() as stack:
        file = BytesIO(content) if content is not None else stack.enter_context(open_file(name))
        return _convert(name, stack.enter_context(_opened(name, file, form)), write)


@contextmanager
def open_table_on_disk(name: str) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Open a file of Parquet or Arrow.

    A table with bytes, such as images, is read a few rows at a time. It is not mapped into memory:
    a map of a file that becomes shorter ends the process.

    Args:
        name: The file.

    Yields:
        Its schema, and its batches of rows, not yet read.

    Raises:
        DataError: It is another file, missing, packed, damaged or encrypted.
    """
    with open_file(name) as file:
        form = find_form(file.read(_NUM_START), is_named=True)
        if not form:
            raise DataError(f"{name}: not Parquet or Arrow by its first bytes.  Unpack it first.")
        with _opened(name, file, form) as table:
            yield table.schema, table.batches


@contextmanager
def _opened(name: str, file: BinaryIO, form: str) -> Iterator[_OpenTable]:
    """Open a table; raise `DataError` for what pyarrow cannot read in it."""
    with _described(name, file, form):
        _require_end(name, file, form)
        yield _open(import_module("pyarrow").PythonFile(file, "r"), form)


def _require_end(name: str, file: BinaryIO, form: str) -> None:
    """Raise `DataError` for a file of Parquet that is cut short; go to the start of any other."""
    if form == "Parquet":
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(PARQUET)))
        if file.read() != PARQUET:
            raise DataError(f"{name}: the Parquet file has no end.  Cut short?  Copy it again.")
    file.seek(0)


@contextmanager
def _described(name: str, file: BinaryIO, form: str) -> Iterator[None]:
    """Raise `DataError` for what pyarrow cannot read, and for a file that is encrypted."""
    file.seek(0)
    if file.read(len(ENCRYPTED)) == ENCRYPTED:
        raise DataError(f"{name}: an encrypted Parquet file.  Write it without encryption.")
    pyarrow: Any = _import_pyarrow(f"{name}: {form}")
    try:
        yield
    except DataError:  # which is a ValueError, too
        raise
    except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
        cause = str(error).strip().split("\n")[0].rstrip(".")
        is_encrypted = "encrypt" in cause or "decrypt" in cause
        if is_encrypted or isinstance(error, NotImplementedError):
            remedy = f"Write it {'without encryption' if is_encrypted else 'with another codec'}."
        else:
            remedy = "Damaged?  Copy it again."
        raise DataError(f"{name}: {form} that cannot be read ({cause}).  {remedy}") from error


def convert_stream(name: str, table: Any, write: WriteLine) -> ConvertedRows:
    """Write the rows of an object with Arrow's C interface for streams as lines of JSON.

    Args:
        name: Its name, for messages.
        table: A table of pyarrow, or of another package with ``__arrow_c_stream__``.
        write: Receives each line.

    Returns:
        What became of the rows.

    Raises:
        DataError: It has values that JSON cannot have.
    """
    pyarrow: Any = _import_pyarrow(f"{name}: {type(table).__name__}")
    reader = pyarrow.RecordBatchReader.from_stream(table)
    batches = _slices(reader, _rows_at_once(reader.schema))
    return _convert(name, _OpenTable(reader.schema, batches), write)


def _import_pyarrow(what: str) -> ModuleType:
    """Return the package pyarrow; raise `DataError`, which begins with `what`, without it."""
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise DataError(
            f"{what} is read by pyarrow, which is not installed.  "
            "Install it: pip install 'regard[parquet]'"
        ) from error


class _OpenTable(NamedTuple):
    """A table that is read by batches.

    Args:
        schema: Its columns.
        batches: Its batches of rows, not yet read.
        num_rows: Number of rows; 0 where it is not known before they are read.
    """

    schema: Any
    batches: Iterable[Any]
    num_rows: int = 0


def _open(source: Any, form: str) -> _OpenTable:
    """Return a file of pyarrow in batches of a limited number of rows."""
    if form == "Parquet":
        parquet = import_module("pyarrow.parquet")
        # So that groups of rows are read page by page; what is read before stays in memory.
        paging: dict[str, Any] = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
        file = parquet.ParquetFile(source, page_checksum_verification=True, **paging)
        num_rows = _rows_at_once(file.schema_arrow)
        batches = file.iter_batches(num_rows)
        return _OpenTable(file.schema_arrow, batches, file.metadata.num_rows)
    ipc = import_module("pyarrow.ipc")
    if form == "Arrow stream":
        batches = file = ipc.open_stream(source)
    else:
        file = ipc.open_file(source)
        batches = map(file.get_batch, range(file.num_record_batches))
    return _OpenTable(file.schema, _slices(batches, _rows_at_once(file.schema)))


def _rows_at_once(schema: Any) -> int:
    """Return how many rows are in memory at a time: few where a column may hold files."""
    return _ROWS_OF_FILES if any(map(_may_hold_files, schema.types)) else _ROWS_AT_ONCE


def _may_hold_files(kind: Any) -> bool:
    """Return whether values of a type are bytes, or objects that have some."""
    types = import_module("pyarrow").types
    if types.is_struct(kind):
        return any(_may_hold_files(kind.field(i).type) for i in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _may_hold_files(kind.value_type)
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view)
    return types.is_fixed_size_binary(kind) or any(test(kind) for test in tests)


def _convert(name: str, table: _OpenTable, write: WriteLine) -> ConvertedRows:
    """Write the rows of a table as lines of JSON."""
    columns, notes = _read_columns(name, table.schema)
    names = [column.name for column in columns]
    media: dict[str, str] = {}
    num_rows = 0
    count = stage_counter(f"reading {name}", table.num_rows)
    for batch in table.batches:
        if count is not None:
            count(num_rows)
        first = num_rows + 1
        arrays = [batch.column(column.number) for column in columns]
        for column, array in zip(columns, arrays, strict=True):
            if column.name not in media and (kind := media_of(_first_value(array))):
                media[column.name] = kind
        values = [
            column.values(array, lambda row, first=first: f"{name}:{first + row}")
            for column, array in zip(columns, arrays, strict=True)
        ]
        for row in zip(*values, strict=True):
            write(ROW_ENCODER.encode(dict(zip(names, row, strict=True))) + b"\n")
        num_rows += batch.num_rows
    return ConvertedRows(tuple(names), num_rows, notes, media)


def _read_columns(name: str, schema: Any) -> tuple[list[ArrowColumn], tuple[str, ...]]:
    """Return the columns that are read, and notes on them.

    An index of pandas without a name is a column ``time`` where it has times, and else left out.

    Raises:
        DataError: There are none, or two have one name.
    """
    if not schema.names:
        raise DataError(f"{name}: a table without columns.")
    label_names = read_label_names(schema.metadata)
    types = import_module("pyarrow").types
    columns, notes = [], []
    for index, (column, kind) in enumerate(zip(schema.names, schema.types, strict=True)):
        if not _INDEX.fullmatch(column):
            columns.append(ArrowColumn(index, column, label_names.get(column, ())))
        elif types.is_temporal(kind):
            columns.append(ArrowColumn(index, "time"))
        else:
            notes.append("without the index of pandas")
    names = [column.name for column in columns]
    repeated = next((one for index, one in enumerate(names) if one in names[:index]), None)
    if repeated is not None:
        raise DataError(f'{name}: two columns have the name "{repeated}".  Rename one of them.')
    if named := [column.name for column in columns if column.label_names]:
        notes.append(f"names of labels by the file: {list_first(named, _NUM_NAMED)}")
    return columns, tuple(notes)


def _slices(batches: Iterable[Any], num_rows: int) -> Iterator[Any]:
    """Yield the rows of batches, which may be whole files, in batches of a limited size."""
    for batch in batches:
        for start in range(0, batch.num_rows, num_rows):
            yield batch.slice(start, num_rows)


def _first_value(array: Any) -> object:
    """Return the first value of an array of bytes or objects with bytes; None of another one."""
    if not _may_hold_files(array.type):
        return None
    return next((value.as_py() for value in array if value.is_valid), None)
