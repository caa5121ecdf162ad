"""Whether the first row of a table of series has names, and names where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse

from regard.data.readers.number_columns import is_like_a_number, is_missing
from regard.data.readers.times import are_clocks, are_times


def is_row_of_values(cells: Sequence[str]) -> bool:
    """Return whether a row is not a header: it has a date and numbers, and nothing else."""
    values = list(filterfalse(_is_time, cells))
    not_numbers = list(filterfalse(is_like_a_number, values))
    return len(not_numbers) < len(values) < len(cells) and all(map(is_missing, not_numbers))


def _is_time(cell: str) -> bool:
    """Return whether a cell is a date or a time of day."""
    return are_times([cell], "") or are_clocks([cell])


def default_names(cells: Sequence[str]) -> list[str]:
    """Return names for the columns of a table without a header, by the cells of its first row."""
    is_time = list(map(_is_time, cells))
    num_values = is_time.count(False)
    names = []
    for index, is_one in enumerate(is_time):
        before = is_time[:index].count(is_one)
        if is_one:
            names.append("time" if before == 0 else f"time {1 + before}")
        else:
            names.append("value" if num_values == 1 else f"value {1 + before}")
    return names
