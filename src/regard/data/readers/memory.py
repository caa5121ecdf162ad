"""Rows in memory as a source: pairs, records, texts, or a data frame become lines of JSON.

A run keeps them in its folder, so that it can be resumed. Cost: the JSON text of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import msgspec

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


Row = Sequence[str] | Mapping[str, Any] | str
InMemory = Iterable[Row] | DataFrame


def source_of_rows(data: InMemory, *, name: str = "data") -> DataSource:
    """Return a source of JSON, one object a line, for rows in memory.

    Args:
        data: Pairs ``(source, target)``, records with named values, texts, or a data frame.
        name: Name of the data, for messages.

    Raises:
        DataError: The data is empty or no sequence of rows, or a row is of another kind.
    """
    rows: Iterable[Row]
    if isinstance(data, DataFrame):
        columns = {str(column): list(data[column]) for column in data.columns}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"{name}: a {type(data).__name__}, not rows.  Expected a sequence of pairs (source, "
            "target), of records {'text': ..., 'label': ...} or of texts, or a data frame."
        )
    else:
        rows = data
    lines = [_json_line(name, number, row) for number, row in enumerate(rows, start=1)]
    if not lines:
        raise DataError(f"{name}: there are no rows.")
    return DataSource(f"{name}.jsonl", b"".join(lines), is_stream=True)


def is_in_memory(data: object) -> TypeGuard[InMemory]:
    """Return whether data is rows in memory, not the name of a file or a folder."""
    return data is not None and not isinstance(data, str | Path | DataSource | Number)


def _json_line(name: str, number: int, row: object) -> bytes:
    if isinstance(row, str):
        fields: dict[str, Any] = {"text": row}
    elif isinstance(row, Mapping):
        fields = {str(key): value for key, value in row.items()}
    elif isinstance(row, Sequence) and len(row) == 2 and all(isinstance(text, str) for text in row):
        fields = dict(zip(("source", "target"), row, strict=True))
    else:
        raise DataError(
            f"{name}: row {number:,} is a {type(row).__name__}: {str(row)[:60]!r}.  Expected a "
            "pair (source, target), a record such as {'text': ..., 'label': ...}, or a text."
        )
    try:
        return msgspec.json.encode(fields) + b"\n"
    except (TypeError, msgspec.MsgspecError) as error:
        raise DataError(f"{name}: row {number:,} cannot be written as JSON ({error}).") from error
