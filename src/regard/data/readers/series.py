"""Rows of numbers with a label: CSV or TSV, a header, one column ``label``, all others numbers.

    label,x1,x2,x3,x4
    sine,0.00,0.84,0.91,0.14
    saw,0.00,0.25,0.50

The end of a row may be left empty or out where its series is shorter. Cost: one pass over the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.source import DataSource, as_source
from regard.data.readers.tables import read_cells
from regard.data.readers.text_lines import TextFile
from regard.errors import DataError

_LONGEST_QUOTE = 40  # characters of a cell that a message repeats
_SHOWN = 10  # names of columns in a message
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


class NumberRow(NamedTuple):
    """A row of a file.

    Args:
        line: Where it begins, from 1.
        label: Of the row; empty where the file has no labels.
        numbers: ``[numbers]`` float32, one or more.
    """

    line: int
    label: str
    numbers: NDArray[np.float32]


def read_number_rows(
    path: DataSource | str | Path, *, label: str | None = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Read rows of numbers with their labels.

    Args:
        path: The file.
        label: Name of the column of labels.
        encoding: Of the file.

    Raises:
        DataError: The file is missing or empty, has no such column, or cells that are no numbers.
    """
    source = as_source(path)
    path = source.path
    file = TextFile(path, encoding, None, problems=[], content=source.content)
    records = read_cells(file)
    line, header = next(records, (1, []))
    header = [name.strip() for name in header]
    if label not in header and not file.problems:
        file.refuse(line, f'no column "{label}".  {_headings(header)}')
    place = header.index(label) if label in header else None
    rows = [] if file.problems else list(_rows(file, records, header, place))
    if file.problems:
        more = len(file.problems) - 1
        raise DataError(file.problems[0] + (f"  And {more:,} more like it." if more else ""))
    if not rows:
        raise DataError(
            f"{path}: there are no rows of numbers.  Expected a header, then one a row."
        )
    return rows


def read_unlabeled_rows(
    path: DataSource | str | Path, *, label: str = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Read rows of numbers to be classified; a header and a column of labels may be there.

    Args:
        path: The file, or ``-`` for standard input.
        label: Name of the column to pass over, where there is a header that has it.
        encoding: Of the file.

    Raises:
        DataError: As `read_number_rows`, but that no column is asked for.
    """
    source = as_source(path)
    path = source.path
    file = TextFile(path, encoding, None, problems=[], content=source.content)
    records = list(read_cells(file))
    header: list[str] = []
    if records and not all(is_number(cell) for cell in records[0][1] if cell.strip()):
        line, first = records.pop(0)
        header = [name.strip() for name in first]
        if _are_numbers(header):
            file.refuse(line, f"a text among numbers.  {_headings(header)}")
    names = header or [str(number) for number in range(1, 1 + max(map(len, _cells(records))))]
    rows = list(_rows(file, iter(records), names, header.index(label) if label in header else None))
    if file.problems:
        raise DataError(file.problems[0])
    if not rows:
        raise DataError(f"{path}: there are no rows of numbers.  Expected one series a row.")
    return rows


def is_number(text: str) -> bool:
    """Tell whether a cell is a number.

    >>> is_number(" -1.5e3"), is_number("one")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_numbers(header: Sequence[str]) -> bool:
    """Tell whether a first row is no header: names may be numbers, but these have points."""
    return sum("." in name and is_number(name) for name in header) > 1


def _headings(header: Sequence[str]) -> str:
    """Tell what stands where a column of labels was looked for, and how to name it."""
    if _are_numbers(header):
        return "The first row holds numbers; write names above them: label,x1,x2,..."
    if not header:
        return "Columns seen: none."
    num_more = len(header) - _SHOWN
    more = f" and {num_more:,} more" if num_more > 0 else ""
    return (
        f"Columns seen: {', '.join(header[:_SHOWN])}{more}.  Name the one: --set data.columns=NAME"
    )


def _cells(records: Sequence[tuple[int, list[str]]]) -> list[list[str]]:
    return [cells for _, cells in records] or [[]]


def _rows(
    file: TextFile,
    records: Iterator[tuple[int, list[str]]],
    header: Sequence[str],
    place: int | None,
) -> Iterator[NumberRow]:
    names = [name for number, name in enumerate(header) if number != place]
    for line, cells in records:
        if len(cells) > len(header):
            file.refuse(line, f"{len(cells):,} columns, {len(header):,} expected.")
            continue
        label = "" if place is None or place >= len(cells) else cells[place].strip()
        if place is not None and not label:
            file.refuse(line, "the label is empty.  Fill it in, or leave the row out.")
            continue
        own = [cell for number, cell in enumerate(cells) if number != place]
        while own and not own[-1].strip():
            own.pop()
        problem = _problem(own, names)
        if problem:
            file.refuse(line, problem)
        else:
            yield NumberRow(line, label, np.array([float(cell) for cell in own], np.float32))


def _problem(cells: Sequence[str], names: Sequence[str]) -> str:
    """Tell what is wrong with the numbers of a row; empty where nothing is."""
    if not cells:
        return "no numbers.  Fill them in, or leave the row out."
    for name, cell in zip(names, cells, strict=False):
        if not cell.strip():
            return f"column {name} is empty, and numbers follow.  Only the end of a row may be."
        if not is_number(cell):
            comma = "A decimal comma?  Write a point." if _DECIMAL_COMMA.fullmatch(cell) else ""
            shown = cell if len(cell) <= _LONGEST_QUOTE else f"{cell[: _LONGEST_QUOTE - 1]}…"
            return f'column {name} holds no number.  "{shown}"  {comma}'.rstrip()
        if not math.isfinite(float(cell)) or abs(float(cell)) > 1e30:
            return f'column {name} is too large, or not finite.  "{cell.strip()}"'
    return ""
