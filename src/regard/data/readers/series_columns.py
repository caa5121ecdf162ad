"""The columns of a table with times, by what they hold: as set, else by their names and cells.

A wide table has one series a column. A long one has a column of names, without which several rows
have the same time. Cost: a few passes over the rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.columns import find_column, fold_name
from regard.data.readers.number_columns import are_mostly_numbers, is_missing
from regard.data.readers.problems import quote
from regard.data.readers.text_lines import TextFile
from regard.data.readers.time_column import TimeColumn
from regard.data.readers.time_table import TimeCells, TimeTable
from regard.data.readers.times import TIME_NAMES
from regard.errors import DataError, did_you_mean

_MAX_COLUMNS = 3  # that are set: of times, values, and names of series
_MIN_REPEATED = 0.05  # fraction of rows with the time of another, in a table of several series
_MAX_DISTINCT = 0.75  # names of series for each row
_SERIES_NAMES = (
    "series id ids uid name item sku product store shop site sensor station meter device symbol "
    "ticker country region city state entity location key code group segment customer channel "
    "variable metric indicator category class type topic section tag label genre machine household "
    "building zone line route iso iso3 iso2 geo nation province county warehouse brand department "
    "dept account currency asset stock fund"
)
_SERIES_WORDS = frozenset(_SERIES_NAMES.split())
_ROW_NAMES = frozenset(["", "id", "index", "row", "rownames", "no", "nr", "unnamed: 0"])
LABEL_NAMES = frozenset(["label", "class", "class label", "label name", "class name"])
"""Names of columns by which rows are classified, not forecast."""
_CALENDAR_NAMES = TIME_NAMES | {
    *("weekday", "dayofweek", "day of week", "dow", "dayofyear", "day of year", "doy"),
    *("weekofyear", "week of year", "is weekend", "weekend", "month of year", "hour of day"),
}


class ColumnRequest(NamedTuple):
    """The columns that are set, as indices; None where nothing is set."""

    time: int | None = None
    targets: tuple[int, ...] | None = None
    known: tuple[int, ...] = ()
    observed: tuple[int, ...] = ()
    keys: tuple[int, ...] | None = None

    @property
    def columns(self) -> list[int]:
        """All columns that are set."""
        times = [] if self.time is None else [self.time]
        return [*times, *(self.targets or ()), *self.known, *self.observed, *(self.keys or ())]

    @property
    def repeated(self) -> int | None:
        """The first column that is set for two things; None where each is for one."""
        return next((index for index in self.columns if self.columns.count(index) > 1), None)


class ColumnRoles(NamedTuple):
    """The columns of a table by what they hold, as indices."""

    targets: tuple[int, ...]
    known: tuple[int, ...]
    observed: tuple[int, ...]
    keys: tuple[int, ...]
    unused: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Columns of numbers: those to be forecast, those known ahead, and the others."""
        return (*self.targets, *self.known, *self.observed)


def find_request(
    file: TextFile,
    table: TimeTable,
    columns: Sequence[str],
    targets: Sequence[str],
    known: Sequence[str],
    observed: Sequence[str],
) -> ColumnRequest:
    """Return the columns that are set; one that is missing or set twice becomes a problem."""
    if len(columns) > _MAX_COLUMNS:
        raise DataError(
            f"{file.name}: {len(columns)} columns are set.  Set one to three: that of the times, "
            "that of the values, and that of the names of series; others are `forecast.targets`."
        )
    index_of = partial(_index_of, file, table)
    named = list(map(index_of, columns))
    values = (*named[1:2], *map(index_of, targets))
    request = ColumnRequest(
        time=next(iter(named), None),
        targets=tuple(dict.fromkeys(values)) or None,
        known=tuple(map(index_of, known)),
        observed=tuple(map(index_of, observed)),
        keys=tuple(named[2:]) if len(named) > 1 else None,
    )
    if request.repeated is not None and not file.problems:
        name = table.name_of(request.repeated)
        file.refuse(table.first_line, f'the column "{name}" is set for two things.')
    return request


def _index_of(file: TextFile, table: TimeTable, name: str) -> int:
    """Return the index of a column that is set; -1, and a problem, where the table lacks it."""
    column = find_column(table.names, name)
    if column is not None:
        return table.names.index(column)
    hint = did_you_mean(name, table.names)
    reason = f'no column "{name}".  Columns seen: {table.list_names()}.{hint}'
    file.refuse(table.first_line, reason)
    return -1


def find_column_roles(
    table: TimeTable, cells: TimeCells, times: TimeColumn, request: ColumnRequest
) -> ColumnRoles:
    """Return what the columns hold: as set, else by their names and cells."""
    free = sorted({*range(len(table.names))} - {*cells.columns, *request.columns})
    numbers = [index for index in free if are_mostly_numbers(table.columns[index])]
    keys, targets = request.keys, request.targets
    if keys is None:
        keys = _find_keys(table, times, _key_candidates(table, free, numbers))
    if targets is None:
        values = sorted({*numbers} - {*keys})
        targets = tuple(index for index in values if not _describes_row(table, index))
    unused = sorted({*free} - {*targets, *keys})
    unused = tuple(index for index in unused if table.names[index])
    return ColumnRoles(targets, request.known, request.observed, keys, unused)


def _key_candidates(table: TimeTable, free: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """Return columns of texts, and of numbers that are named for series, of some free columns."""
    empty = [index for index in free if all(map(is_missing, table.columns[index]))]
    texts = sorted({*free} - {*numbers, *empty})
    return [*texts, *(index for index in numbers if _is_series_name(table.names[index]))]


def _is_series_name(name: str) -> bool:
    """Return whether a column is named for series: ``unique_id``, ``Shop``."""
    words = re.findall(r"\w+", fold_name(name))
    return bool(words) and (words[-1] in _SERIES_WORDS or words[0] in _SERIES_WORDS)


def _describes_row(table: TimeTable, index: int) -> bool:
    """Return whether numbers are those of rows, a part of the date, or a number of a series."""
    name, cells = fold_name(table.names[index]), table.filled(index)
    if name in _CALENDAR_NAMES | LABEL_NAMES or name.split(" ")[-1:] == ["id"]:
        return True
    is_whole = all(cell.isdecimal() for cell in cells)
    if index == 0 and name in _ROW_NAMES and is_whole:
        return True
    return is_whole and _is_series_name(name) and len(set(cells)) == 1


def _find_keys(table: TimeTable, times: TimeColumn, candidates: Sequence[int]) -> tuple[int, ...]:
    """Return the columns by whose texts the rows of a long table belong to series.

    They are those without which several rows have the same time.

    Args:
        table: The rows.
        times: Their times.
        candidates: Columns of texts, and of numbers that are named for series.
    """
    num_rows = len(table.lines)
    codes = {index: _codes_of(table.columns[index]) for index in candidates}
    # A number or a remark of each row is not the name of a series.
    candidates = [i for i in candidates if codes[i].max() + 1 <= _MAX_DISTINCT * num_rows]
    named = [index for index in candidates if _is_series_name(table.names[index])]
    groups = np.unique(times.times, return_inverse=True)[1]  # of rows with one time and one name
    if int(groups.max()) + 1 == num_rows:
        return tuple(index for index in named if _is_in_blocks(table.columns[index]))[:1]
    ordered = sorted(candidates, key=lambda index: index not in named)
    return _split_rows(groups, codes, ordered, named)


def _split_rows(
    groups: NDArray[np.int64],
    codes: dict[int, NDArray[np.int64]],
    candidates: Sequence[int],
    named: Sequence[int],
) -> tuple[int, ...]:
    """Return the columns that split groups into single rows, those that split most of them first.

    Args:
        groups: Number of each row's group, ``[rows]``.
        codes: Number of each row's text, ``[rows]``, in each column.
        candidates: Columns that may split them.
        named: Those that may also split off a few rows.
    """
    keys: list[int] = []
    num_rows, num_groups = len(groups), int(groups.max()) + 1
    while num_groups < num_rows:
        is_much = num_rows - num_groups > _MIN_REPEATED * num_rows
        split = {
            index: np.unique(groups * num_rows + codes[index], return_inverse=True)[1]
            for index in (candidates if is_much else named)
            if index not in keys
        }
        best = max(split, key=lambda index: split[index].max(), default=None)
        if best is None or split[best].max() + 1 == num_groups:
            break
        keys.append(best)
        groups, num_groups = split[best], int(split[best].max()) + 1
    return tuple(sorted(keys))


def _codes_of(cells: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each text, in the order in which they appear, ``[rows]``."""
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(cell, len(codes)) for cell in cells], np.int64)


def _is_in_blocks(cells: Sequence[str]) -> bool:
    """Return whether texts, not numbers, are names of series that follow each other."""
    runs = [cell for cell, before in zip(cells, [None, *cells], strict=False) if cell != before]
    is_text = not are_mostly_numbers(cells)
    return is_text and len(runs) == len(set(cells)) and 2 * len(runs) <= len(cells)


def group_rows(table: TimeTable, keys: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each series by its name, which is empty without a column of names."""
    if not keys:
        return {"": np.arange(len(table.lines))}
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, name in enumerate(zip(*(table.columns[index] for index in keys), strict=True)):
        rows.setdefault(name, []).append(row)
    names = list(map(" ".join, rows))
    if len(set(names)) < len(names):  # "a b", "c" and "a", "b c"
        names = [" ".join(map(quote, name)) for name in rows]
    return dict(zip(names, map(np.array, rows.values()), strict=True))
