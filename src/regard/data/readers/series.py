"""Rows of numbers with a label: CSV or TSV, a header, one column ``label``, all others numbers.

    label,x1,x2,x3,x4
    sine,0.00,0.84,0.91,0.14
    saw,0.00,0.25,0.50

A first column without a name, or named for numbers of rows (``id``), is left out. The end of a row
may be left empty or out where its series is shorter. Cost: one pass over the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.listing import list_first
from regard.data.readers.columns import find_column, fold_name
from regard.data.readers.source import SourceLike, as_source
from regard.data.readers.tables import Records, read_cells, require_readable
from regard.data.readers.text_lines import TextFile, open_text
from regard.errors import DataError

_NUM_NAMED = 10  # columns in a message
_INDEX_NAMES = ("", "id", "index", "row", "unnamed: 0")  # the last is what pandas writes
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


class NumberRow(NamedTuple):
    """Numbers, ``[length]`` float32, with their 1-based line and their label, empty if unknown."""

    line: int
    label: str
    numbers: NDArray[np.float32]


def read_number_rows(
    data: SourceLike, *, label: str = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Return the rows of numbers of a file, at least one, with the labels in a column.

    Raises:
        DataError: The file is missing or empty, has no such column, or cells without a number.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = read_cells(file, source.suffix)
    line, first = next(records, (1, []))
    header = [name.strip() for name in first]
    column = find_column(header, label)
    if column is None and not file.problems:
        reason, remedy = _describe_header(header)
        file.refuse(line, f'no column "{label}".{reason}', remedy=remedy)
    index = None if column is None else header.index(column)
    rows = [] if file.problems else list(_number_rows(file, records, header, index))
    require_readable(file.problems)
    if not rows:
        raise DataError(
            f"{file.name}: there are no rows of numbers.  Expected a header, then one a row."
        )
    return rows


def read_unlabeled_rows(
    data: SourceLike, *, label: str = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Return rows of numbers to be classified; a header and a column of labels are optional.

    Raises:
        DataError: The file is missing or empty, or has cells without a number.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = list(read_cells(file, source.suffix))
    header: list[str] = []
    if records and not all(is_number(cell) for cell in records[0][1] if cell.strip()):
        line, first = records.pop(0)
        header = [name.strip() for name in first]
        if _are_numbers(header):
            file.refuse(line, f"a text among numbers.{_describe_header(header)[0]}")
    widest = max((len(cells) for _, cells in records), default=0)
    names = header or [str(number) for number in range(1, 1 + widest)]
    column = find_column(header, label)
    index = None if column is None else header.index(column)
    rows = list(_number_rows(file, iter(records), names, index))
    require_readable(file.problems[:1])
    if not rows:
        raise DataError(f"{file.name}: there are no rows of numbers.  Expected one series a row.")
    return rows


def find_index_column(header: Sequence[str]) -> int | None:
    """Return 0 if the first column has the numbers of the rows by its name, else None.

    >>> find_index_column(["", "label", "x"]), find_index_column(["label", "x"])
    (0, None)
    """
    return 0 if len(header) > 1 and fold_name(header[0]) in _INDEX_NAMES else None


def is_number(text: str) -> bool:
    """Return whether a cell is a number.

    >>> is_number(" -1.5e3"), is_number("one")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_numbers(header: Sequence[str]) -> bool:
    """Return whether a first row is not a header: a name may be a number, but without a point."""
    return sum("." in name and is_number(name) for name in header) > 1


def _describe_header(header: Sequence[str]) -> tuple[str, str]:
    """Return what the first row holds instead of a column of labels, and how to name the column."""
    if _are_numbers(header):
        return "  The first row holds numbers; write names above them: label,x1,x2,...", ""
    if not header:
        return "  Columns seen: none.", ""
    columns = list_first(header, _NUM_NAMED)
    return f"  Columns seen: {columns}.", "Name the one: `data.columns=NAME`"


def _number_rows(
    file: TextFile, records: Records, header: Sequence[str], label_index: int | None
) -> Iterator[NumberRow]:
    """Yield the rows that can be read; the others become problems of the file."""
    left_out = (label_index, find_index_column(header))
    names = [name for index, name in enumerate(header) if index not in left_out]
    for line, cells in records:
        if len(cells) > len(header):
            file.refuse(line, f"{len(cells):,} columns, {len(header):,} expected.")
            continue
        label = "" if label_index is None else "".join(cells[label_index : label_index + 1]).strip()
        if label_index is not None and not label:
            file.refuse(line, "the label is empty.", remedy="Fill it in, or leave the row out.")
            continue
        values = [cell for index, cell in enumerate(cells) if index not in left_out]
        while values and not values[-1].strip():
            values.pop()
        if not values:
            file.refuse(line, "no numbers.", remedy="Fill them in, or leave the row out.")
        elif _are_readable(file, line, values, names):
            yield NumberRow(line, label, np.array([float(cell) for cell in values], np.float32))


def _are_readable(file: TextFile, line: int, cells: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether all cells hold numbers; the first that does not becomes a problem."""
    for name, cell in zip(names, cells, strict=False):
        if not cell.strip():
            remedy = "Only the end of a row may be."
            file.refuse(line, f"column {name} is empty, and numbers follow.", remedy=remedy)
        elif not is_number(cell):
            remedy = "A decimal comma?  Write a point." if _DECIMAL_COMMA.fullmatch(cell) else ""
            file.refuse(line, f"column {name} holds no number.", cell, remedy)
        elif not math.isfinite(float(cell)) or abs(float(cell)) > 1e30:
            file.refuse(line, f"column {name} is too large, or not finite.", cell.strip())
        else:
            continue
        return False
    return True
