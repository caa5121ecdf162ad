"""Rows in memory as a source: pairs, records, texts, a data frame or a table become lines of JSON.

A run keeps them in its folder, so that it can be resumed. Cost: the JSON text of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import msgspec

from regard.data.readers.arrow_tables import convert_stream
from regard.data.readers.columns import PAIR_ROLES
from regard.data.readers.row_encoder import ROW_ENCODER, name_infinite
from regard.data.readers.source import DataSource
from regard.errors import DataError


@runtime_checkable
class DataFrame(Protocol):
    """A table with named columns, such as a data frame of pandas or polars."""

    columns: Any

    def to_dict(self, *arguments: Any) -> Any:
        """Return the columns as a mapping."""

    def __getitem__(self, column: Any) -> Any:
        """Return the values of a column."""


@runtime_checkable
class ArrowTable(Protocol):
    """A table with Arrow's C interface for streams, such as that of pyarrow."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the rows, in batches."""


Row = Sequence[str] | Mapping[str, Any] | str
InMemory = Iterable[Row] | DataFrame | ArrowTable


def source_of_rows(data: InMemory, *, name: str = "data") -> DataSource:
    """Return a source of JSON, one object a line, for rows in memory.

    Args:
        data: Pairs ``(source, target)``, records with named values, texts, a data frame, or a table
            of Arrow. An index of times becomes columns.
        name: Name of the data, for messages.

    Raises:
        DataError: The data is empty or no sequence of rows, or a row is of another kind.
    """
    if isinstance(data, ArrowTable) and not isinstance(data, DataFrame):
        lines: list[bytes] = []
        convert_stream(name, data, lines.append)
    else:
        rows = enumerate(_rows_of(name, data), start=1)
        lines = [_json_line(name, number, row) for number, row in rows]
    if not lines:
        raise DataError(f"{name}: there are no rows.")
    return DataSource(f"{name}.jsonl", b"".join(lines), is_stream=True)


def _rows_of(name: str, data: InMemory) -> Iterable[Row]:
    """Return the rows of data in memory, those of a data frame as records."""
    columns = _columns_of(data)
    if columns is not None:
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"{name}: {type(data).__name__}, not rows.  Expected a sequence of pairs (source, "
            "target), of records {'text': ..., 'label': ...} or of texts, or a data frame."
        )
    return data


def _columns_of(data: InMemory) -> dict[str, list[Any]] | None:
    """Return the columns of a data frame, or of a series with an index; None for other rows."""
    index = _columns_of_index(data)
    if isinstance(data, DataFrame):
        return index | {str(column): list(data[column]) for column in data.columns}
    if index and isinstance(data, Iterable):  # one column with an index, as a series of pandas
        return index | {str(getattr(data, "name", None) or "value"): list(data)}
    return None


def is_in_memory(data: object) -> TypeGuard[InMemory]:
    """Return whether data is rows in memory, not the name of a file or a folder."""
    return data is not None and not isinstance(data, str | Path | DataSource | Number)


def _json_line(name: str, number: int, row: object) -> bytes:
    if isinstance(row, str):
        fields: dict[str, Any] = {"text": row}
    elif isinstance(row, Mapping):
        fields = {str(key): value for key, value in row.items()}
    elif _is_pair(row):
        fields = dict(zip(PAIR_ROLES, row, strict=True))
    else:
        raise DataError(
            f"{name}: row {number:,} is {str(row)[:60]!r} ({type(row).__name__}).  Expected a "
            "pair (source, target), a record such as {'text': ..., 'label': ...}, or a text."
        )
    try:
        return ROW_ENCODER.encode(name_infinite(fields)) + b"\n"
    except (TypeError, UnicodeError, msgspec.MsgspecError) as error:
        raise DataError(f"{name}: row {number:,} cannot be written as JSON ({error}).") from error


def _is_pair(row: object) -> TypeGuard[Sequence[str]]:
    """Return whether a row is two texts."""
    if not isinstance(row, Sequence) or len(row) != 2:
        return False
    return all(isinstance(text, str) for text in row)


def _columns_of_index(data: object) -> dict[str, list[Any]]:
    """Return the levels of the index of a data frame by name, if one holds times; else none."""
    index = getattr(data, "index", None)
    index_names = getattr(index, "names", None)
    if index_names is None or not isinstance(index, Iterable):
        return {}
    levels = _levels_of(list(index))
    if not any(map(_holds_times, levels)):
        return {}
    numbered = enumerate(zip(index_names, levels, strict=True), start=1)
    return {_name_of_level(number, name, level): level for number, (name, level) in numbered}


def _levels_of(labels: list[Any]) -> list[list[Any]]:
    """Return the levels of the labels of an index: one, unless each label is a tuple."""
    if labels and isinstance(labels[0], tuple):
        return [list(level) for level in zip(*labels, strict=True)]
    return [labels]


def _name_of_level(number: int, name: object, level: Sequence[object]) -> str:
    """Return the name of a level of an index; one without is named for its times or its number."""
    if name is not None:
        return str(name)
    return "time" if _holds_times(level) else f"level {number}"


def _holds_times(values: Sequence[object]) -> bool:
    """Return whether the first of some values is a date, a time, or a period of pandas."""
    return any(
        hasattr(first, "isoformat") or hasattr(first, "to_timestamp") for first in values[:1]
    )
