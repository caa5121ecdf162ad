"""Columns that are named by their number, 1 for the first: those of tables without a header."""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.readers.columns import find_roles
from regard.data.readers.headers import find_header, looks_like_header

_NUM_DIGITS = 4  # of a number of a column


def are_numbers_of_columns(names: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether names are numbers of columns, and none is a name in a header.

    >>> are_numbers_of_columns(["2", "1"], ["id", "text"]), are_numbers_of_columns(["0"], ["id"])
    (True, False)
    >>> are_numbers_of_columns(["1", "2"], ["1", "text"])
    False
    """
    are_numbers = all(
        name.isascii() and name.isdecimal() and name[0] != "0" and len(name) <= _NUM_DIGITS
        for name in names
    )
    return bool(names) and are_numbers and {*names}.isdisjoint(header)


def number_header(
    names: Sequence[str],
    cells: Sequence[str],
    below: Sequence[Sequence[str]],
    *,
    is_csv: bool,
) -> tuple[list[str], bool]:
    """Return names of columns, of which those that are read are numbers.

    The first row is a header where its names are usual, or would be one above these columns alone.

    Args:
        names: Numbers of the columns that are read.
        cells: The first row.
        below: Rows below it.
        is_csv: Whether tables of the format have a header as a rule.

    Returns:
        The names, and whether the first row is a header.
    """
    indices = [int(name) - 1 for name in names if int(name) <= len(cells)]
    first = [cells[index] for index in indices]
    rows = [[row[index] for index in indices] for row in below if len(row) == len(cells)]
    has_header = bool(first) and (
        find_header(cells, is_csv=is_csv) is not None
        or {"text", "label"} <= find_roles(cells).keys()
        or looks_like_header(first, rows, is_csv=is_csv)
    )
    header = list(cells) if has_header else [str(1 + index) for index in range(len(cells))]
    for index in indices:
        header[index] = str(1 + index)
    return header, has_header
