"""Whether the first row of a table of series has names, and names where it has none.

A first row that is a time and numbers has no names; nor has one whose cells are all as those below
them: times of the same kind, numbers, or names of series that are repeated. Cost: the first rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import filterfalse
from operator import itemgetter

import numpy as np

from regard.data.readers.number_columns import is_like_a_number, is_missing
from regard.data.readers.time_numbers import NUMBER, read_time_numbers
from regard.data.readers.times import are_clocks, are_times

_NUM_SAMPLED = 50  # rows below the first one


def has_no_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first of some rows is like those below it.

    Where it has no date, a column of numbers rises from its cell on, and no cell of it is empty:
    pandas writes ``,0`` above an index and values.

    >>> has_no_header([["0", "5"], ["1", "7"]]), has_no_header([["", "0"], ["0", "7"]])
    (True, False)
    """
    columns = _columns_of(rows[: 1 + _NUM_SAMPLED])
    first = [cells[0] for cells in columns]
    if is_row_of_values(first):
        return True
    if not all(map(_is_like_others, columns)):
        return False
    return any(map(_is_time, first)) or (all(first) and _find_rising(columns) is not None)


def is_row_of_values(cells: Sequence[str]) -> bool:
    """Return whether a row has a date and numbers, and nothing else."""
    values = list(filterfalse(_is_time, cells))
    not_numbers = list(filterfalse(is_like_a_number, values))
    return len(not_numbers) < len(values) < len(cells) and all(map(is_missing, not_numbers))


def default_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return names for the columns of a table without a header, by the cells of its first rows.

    >>> default_names([["0", "5", "A"], ["1", "7", "A"]])
    ['time', 'value', 'series']
    >>> default_names([["0", "2024-01-01", "5"], ["1", "2024-01-02", "7"]])  # numbers of rows
    ['', 'time', 'value']
    """
    columns = _columns_of(rows)
    kinds = list(map(_kind_of, map(itemgetter(0), columns)))
    if "time" not in kinds and (index := _find_rising(columns)) is not None:
        kinds[index] = "time"
    elif kinds.count("value") > 1 and _are_numbers_of_rows(columns[0]):
        kinds[0] = ""
    counts, before = Counter(kinds), Counter[str]()
    names = []
    for kind in kinds:
        is_only = counts[kind] == 1 or (kind == "time" and not before[kind])
        before[kind] += 1
        names.append(kind if is_only else f"{kind} {before[kind]}")
    return names


def _columns_of(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the cells of each column, of rows as wide as the first one."""
    same = [row for row in rows if len(row) == len(rows[0])]
    return [[cell.strip() for cell in cells] for cells in zip(*same, strict=True)]


def _is_like_others(cells: Sequence[str]) -> bool:
    """Return whether the first cell of a column is of the same kind as those below it."""
    cell, below = cells[0], list(filter(None, cells[1:]))
    num_numbers = sum(map(is_like_a_number, below))
    if 2 * num_numbers >= len(below):
        return is_missing(cell) or is_like_a_number(cell)
    if are_times(below, "") or are_clocks(below):
        return _is_time(cell) and not NUMBER.fullmatch(cell)
    return cell in below


def _is_time(cell: str) -> bool:
    """Return whether a cell is a date or a time of day."""
    return are_times([cell], "") or are_clocks([cell])


def _kind_of(cell: str) -> str:
    """Return what a column is called for its first cell."""
    if _is_time(cell):
        return "time"
    return "value" if is_missing(cell) or is_like_a_number(cell) else "series"


def _find_rising(columns: Sequence[Sequence[str]]) -> int | None:
    """Return the first column of numbers that rise as times do, where there are other columns."""
    rising = (index for index, cells in enumerate(columns) if _are_rising(cells))
    return next(rising, None) if len(columns) > 1 else None


def _are_numbers_of_rows(cells: Sequence[str]) -> bool:
    """Return whether cells are whole numbers that rise by one, from 0 or 1 on."""
    start = cells[0]
    return start in ("0", "1") and list(cells) == [str(int(start) + i) for i in range(len(cells))]


def _are_rising(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers that rise; those that count rise by one step."""
    if len(cells) < 2 or not all(map(NUMBER.fullmatch, cells)):
        return False
    column = read_time_numbers(cells, "time")
    if column is None:
        return False
    steps = np.diff(column.times)
    least = steps.max() if column.is_count else 1
    return bool(np.all(steps >= max(least, 1)))
