"""Series on a regular grid of times: rows sorted and merged, what is missing filled with NaN.

Cost: a sort for each series.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first, pluralize
from regard.data.readers.problems import require_readable
from regard.data.readers.series_columns import ColumnRoles, group_rows
from regard.data.readers.text_lines import TextFile
from regard.data.readers.time_column import TimeColumn
from regard.data.readers.time_grid import OffGrid, TimeGrid, find_grid
from regard.data.readers.time_rows import (
    ClockChange,
    Conflict,
    SeriesRows,
    clock_step_of,
    days_of_clocks,
    find_set_forward,
    merge_rows,
)
from regard.data.readers.time_table import TimeTable
from regard.data.time_series import TimeIndex, TimeSeries, TimeStep, format_time
from regard.errors import DataError

_NUM_NAMED = 5  # series in a note
_SPANS = {1800: "half hour", 3600: "hour", 7200: "span of two hours"}  # by seconds
_WEEK = 7
_THURSDAY = 4  # 1 January 1970, of the days of a week from Sunday
_LEAST_LAST_DAY = 28  # days that all months have


class SeriesAligner:
    """Brings the rows of a table on a regular grid.

    Args:
        file: The file.
        table: Its rows.
        times: Their times.
        roles: What the columns hold.
        numbers: Numbers of the columns of numbers, ``[rows, columns]``.
        expected: The step, if it is known.
    """

    def __init__(
        self,
        file: TextFile,
        table: TimeTable,
        times: TimeColumn,
        roles: ColumnRoles,
        numbers: NDArray[np.float64],
        expected: TimeStep | None = None,
    ) -> None:
        self.file, self.table, self.times = file, table, times
        self.roles, self.numbers, self.expected = roles, numbers, expected
        self.notes: list[str] = []
        self.dropped: list[DroppedRow] = []
        self.set_back: list[ClockChange] = []  # so that times are there twice
        self.set_forward: list[ClockChange] = []  # so that times do not exist
        self.num_forward = 0  # times of the grid that do not exist

    def align(self) -> tuple[TimeSeries, TimeStep]:
        """Return the series and their step.

        Raises:
            DataError: The times are on no regular grid, or have different values.
        """
        times = self._times_of_days()
        groups = {
            name: SeriesRows(times[rows], self.numbers[rows], rows)
            for name, rows in group_rows(self.table, self.roles.keys).items()
        }
        unsorted = groups
        groups = {name: rows.sorted() for name, rows in groups.items()}
        grid = self._grid(groups)
        if grid.is_by_month:
            self.notes.append("days of the months differ: only the months count")
        groups = {name: self._merged(name, rows, grid) for name, rows in groups.items()}
        require_readable(self.file.problems)
        self._note_order(list(unsorted.values()))
        tables = [_GridTable.on_grid(name, rows, grid, self.times) for name, rows in groups.items()]
        self._note_clocks()
        self._note_empty_times(tables, grid.step)
        return self._series(tables), grid.step

    def _times_of_days(self) -> NDArray[np.int64]:
        """Return the times, those of days at one time of day where clocks are set."""
        days = None if self.times.is_count else days_of_clocks(self.times.times)
        if days is None:
            return self.times.times
        self.notes.append("days begin at two times of day, as clocks are set: the later is taken")
        return days

    def _note_order(self, groups: Sequence[SeriesRows]) -> None:
        """Add a note where rows are not in the order of their times."""
        if all(len(rows.times) > 1 and np.all(np.diff(rows.times) < 0) for rows in groups):
            self.notes.append("rows are in the reverse order of their times: sorted")
            return
        falls = [rows.rows[1:][np.diff(rows.times) < 0] for rows in groups]
        rows = np.sort(np.concatenate(falls))
        if len(rows) > len(self.set_back):  # each of which is one step back, too
            line = self.table.lines[rows[0]]
            self.notes.append(f"rows are not in the order of their times (line {line:,}): sorted")

    def _grid(self, groups: dict[str, SeriesRows]) -> TimeGrid:
        """Return the grid of all series; raise DataError where there is none."""
        times = [np.unique(rows.times) for rows in groups.values()]
        grid = find_grid(times, is_count=self.times.is_count, expected=self.expected)
        if isinstance(grid, TimeGrid):
            return grid
        if grid is None:
            raise DataError(
                f"{self.file.name}: {self._num_times()}.  A series needs two or more rows with "
                "different times."
            )
        name, rows = list(groups.items())[grid.series]
        raise DataError(self._describe_off_grid(grid, name, rows))

    def _describe_off_grid(self, grid: OffGrid, name: str, rows: SeriesRows) -> str:
        """Return between which rows of a series the times are on no grid, and what to do."""
        index = np.unique(rows.times, return_index=True)[1][grid.position : grid.position + 2]
        lines = [self.table.lines[row] for row in rows.rows[index]]
        first, second = map(self._time_text, rows.times[index])
        where = f"{self.file.name}:{lines[1]}"
        if grid.own_step is not None:
            return (
                f"{where}: series {name} has a step of one {grid.own_step}, others of one "
                f"{grid.step}.  Put series with different steps into different files."
            )
        if grid.is_sparse:
            return (
                f"{where}: no row from {first} (line {lines[0]:,}) to {second}, and for most other "
                f"times of the usual step ({grid.step}).  Add up or average the values of a longer "
                "step, such as a day."
            )
        remedy = "Bring the times to a regular step"
        if not self.times.is_count:
            remedy += ": add up or average the values of an hour or a day"
        if grid.step.unit in ("minute", "hour"):
            remedy += ".  Clocks set forward or back?  Write times with their UTC offset"
        return (
            f"{where}: from {first} (line {lines[0]:,}) to {second} is not a multiple of the usual "
            f"step ({grid.step}).  {remedy}."
        )

    def _num_times(self) -> str:
        """Return how many times there are, where that is not enough."""
        count = len(self.table.lines)
        if count == 1:
            return "there is one row"
        return (
            "every series has one row" if self.roles.keys else f"all {count:,} rows have one time"
        )

    def _time_text(self, time: int) -> str:
        """Return a time as the file writes it."""
        if self.times.is_count:
            return f"{time:,}"
        form = self.times.form or "%Y-%m-%d"
        return format_time(np.datetime64(int(time), "s"), form, self.times.zone)

    def _merged(self, name: str, rows: SeriesRows, grid: TimeGrid) -> SeriesRows:
        """Return the rows of a series with one for each time; others are dropped or problems."""
        seconds = None if self.times.is_count else grid.step.seconds
        clock_step = clock_step_of(seconds, self.times.zone)
        merged = merge_rows(rows, clock_step)
        for row in merged.repeated:
            line, text = self.table.lines[row], self.table.row_text(row)
            reason = "repeats the time of another row"
            self.dropped.append(DroppedRow(line=line, reason=reason, text=text))
        for conflict in merged.conflicts:
            self._refuse_conflict(name, conflict)
        self.set_back += merged.set_back
        set_forward = find_set_forward(merged.rows.times, clock_step)
        self.set_forward += set_forward
        self.num_forward += sum(shift // (clock_step or shift) for _, shift in set_forward)
        return merged.rows

    def _refuse_conflict(self, name: str, conflict: Conflict) -> None:
        """Make two rows with one time and different numbers a problem."""
        first, second = conflict.rows
        column = self.roles.numbers[conflict.column]
        before, after = (self.table.columns[column][row] for row in conflict.rows)
        of_series = f" of series {name}" if name else ""
        reason = (
            f"a second value{of_series} for {self._time_text(self.times.times[second])} in column "
            f"{self.table.name_of(column)}, {after} after {before} in line "
            f"{self.table.lines[first]:,}."
        )
        remedy = "Keep one of the rows."
        if not name:
            remedy = "Several series?  Name the columns: `data.columns=TIME,VALUE,SERIES`"
        self.file.refuse(self.table.lines[second], reason, remedy=remedy)

    def _note_clocks(self) -> None:
        """Add notes on hours that are there twice, or do not exist, since clocks are set."""
        for changes, direction, what in (
            (self.set_back, "back", "is there twice is averaged"),
            (self.set_forward, "forward", "does not exist is missing"),
        ):
            nights = sorted(set(changes))
            if nights:
                more = f" and {len(nights) - 1:,} more times" if len(nights) > 1 else ""
                first, span = self._time_text(nights[0].start), _SPANS[nights[0].shift]
                self.notes.append(
                    f"clocks are set {direction} at {first}{more}: the {span} that {what}"
                )

    def _note_empty_times(self, tables: Sequence[_GridTable], step: TimeStep) -> None:
        """Add a note on times of the grid that have no row."""
        num_empty = sum(int(np.sum(~table.has_row)) for table in tables)
        if num_empty == self.num_forward:
            return
        if step == TimeStep(unit="day") and all(map(_GridTable.has_only_workdays, tables)):
            self.notes.append(_describe_weekends(tables))
            return
        table = next(table for table in tables if not table.has_row.all())
        first = table.time_index.times(int(np.argmin(table.has_row)), 1)[0]
        words = "time has no row: its value is", "times have no row: their values are"
        self.notes.append(f"{pluralize(num_empty, *words)} missing (first: {first})")

    def _series(self, tables: Sequence[_GridTable]) -> TimeSeries:
        """Return the series of all tables, one for each column to be forecast."""
        placed = [self._cut(table, i) for table in tables for i in range(len(self.roles.targets))]
        empty = [series.name for series in placed if not len(series.values)]
        if empty:
            names = list_first(empty, _NUM_NAMED)
            raise DataError(f"{self.file.name}: no value at all in {names}.  Leave it out.")
        self._note_missing(placed)
        names, values, indices, ahead, observed, *_ = map(list, zip(*placed, strict=True))
        return TimeSeries(
            path=self.file.name,
            names=names,
            values=values,
            indices=indices,
            known=ahead,
            observed=observed,
        )

    def _cut(self, table: _GridTable, number: int) -> _PlacedSeries:
        """Return a series of a table, from its first value to its last.

        Args:
            table: Rows on a grid.
            number: 0-based number of the column to be forecast.
        """
        targets, num_known = len(self.roles.targets), len(self.roles.known)
        column = self.table.name_of(self.roles.targets[number])
        name = f"{table.name} {column}" if table.name and targets > 1 else table.name or column
        ahead = table.values[:, targets : targets + num_known]
        has_value = ~np.isnan(table.values[:, number])
        first = int(np.argmax(has_value))
        end = _end_of(has_value)
        end_known = end
        if num_known:
            end_known = max(end, _end_of(np.logical_not(np.isnan(ahead).any(axis=1))))
        values = table.values[first:end, number]
        return _PlacedSeries(
            name=name,
            values=values,
            time_index=msgspec.structs.replace(table.time_index, start=table.start_of(first)),
            known=ahead[first:end_known],
            observed=table.values[first:end, targets + num_known :],
            num_missing=int(np.sum(np.isnan(values) & table.has_row[first:end])),
            num_left_out=first + int(np.sum(table.has_row[end_known:])),
        )

    def _note_missing(self, placed: Sequence[_PlacedSeries]) -> None:
        """Add notes on values that are missing, rows of the future, and constant series."""
        ahead = list_first(self.table.names_of(self.roles.known), _NUM_NAMED)
        future, outside = f"no value yet, but {ahead}: the future", "after the last value"
        num_missing, num_left_out = (
            sum(map(attrgetter(count), placed)) for count in ("num_missing", "num_left_out")
        )
        counts = (
            (
                num_missing,
                "value is missing",
                "values are missing",
            ),
            (
                max(series.num_future for series in placed),
                f"row has {future}",
                f"rows have {future}",
            ),
            (
                num_left_out,
                f"row before the first or {outside} is left out",
                f"rows before the first or {outside} are left out",
            ),
            (
                sum(int(np.isnan(series.known).sum()) for series in placed),
                "value of columns known ahead is missing",
                "values of columns known ahead are missing",
            ),
        )
        self.notes += [pluralize(*words) for words in counts if words[0] > 0]
        self._note_constant([series.name for series in placed if series.is_constant])

    def _note_constant(self, names: Sequence[str]) -> None:
        """Add a note on series that have one value only."""
        if names:
            verb = "has" if len(names) == 1 else "have"
            self.notes.append(f"{list_first(names, _NUM_NAMED)} {verb} one value only")


class _PlacedSeries(NamedTuple):
    """A series from its first value to its last.

    Args:
        name: Its name.
        values: Float64 ``[length]``; empty where it has none.
        time_index: Its times.
        known: Columns known ahead, ``[length or more, num_known]``.
        observed: Columns known as far as the values, ``[length, num_observed]``.
        num_missing: Number of rows without a value.
        num_left_out: Number of rows before the first value and after the last.
    """

    name: str
    values: NDArray[np.float64]
    time_index: TimeIndex
    known: NDArray[np.float64]
    observed: NDArray[np.float64]
    num_missing: int
    num_left_out: int

    @property
    def num_future(self) -> int:
        """Number of rows after the last value, of columns known ahead."""
        return len(self.known) - len(self.values)

    @property
    def is_constant(self) -> bool:
        """Whether there are several values, and all are one."""
        values = self.values[~np.isnan(self.values)]
        return len(values) > 1 and bool(np.all(values == values[0]))


class _GridTable(NamedTuple):
    """Rows on a grid.

    Args:
        name: Name of the series; empty where the columns have the names.
        values: Float64 ``[length, columns]``, NaN where one is missing.
        has_row: Whether a time of the grid has a row, bool ``[length]``.
        time_index: Times of the grid.
    """

    name: str
    values: NDArray[np.float64]
    has_row: NDArray[np.bool_]
    time_index: TimeIndex

    @classmethod
    def on_grid(cls, name: str, rows: SeriesRows, grid: TimeGrid, times: TimeColumn) -> _GridTable:
        """Return the rows of a series, with one for each time, on a grid."""
        indices = grid.indices(rows.times)
        values = np.full((int(indices[-1]) + 1, rows.values.shape[1]), np.nan)
        values[indices] = rows.values
        has_row = np.zeros(len(values), bool)
        has_row[indices] = True
        start = str(int(rows.times[0]))
        if not times.is_count:
            start = str(np.datetime64(int(rows.times[0]), "s"))
        day = grid.day if grid.is_by_month or grid.day > _LEAST_LAST_DAY else 0
        index = TimeIndex(start=start, step=grid.step, zone=times.zone, form=times.form, day=day)
        if grid.is_by_month:
            index = msgspec.structs.replace(index, start=str(index.datetimes(0, 1)[0]))
        return cls(name, values, has_row, index)

    def start_of(self, row: int) -> str:
        """Return the time of a row as `TimeIndex` has the first."""
        if self.time_index.step.unit == "row":
            return self.time_index.times(row, 1)[0]
        return str(self.time_index.datetimes(row, 1)[0])

    def is_weekend(self) -> NDArray[np.bool_]:
        """Return whether the times of a grid of days are Saturdays or Sundays, ``[length]``."""
        days = self.time_index.datetimes(0, len(self.has_row)).astype("M8[D]").astype(np.int64)
        return (days + _THURSDAY) % _WEEK % (_WEEK - 1) == 0

    def has_only_workdays(self) -> bool:
        """Return whether there are rows on most days from Monday to Friday, and on no others."""
        is_weekend = self.is_weekend()
        is_mostly_there = 2 * np.sum(self.has_row) > np.sum(~is_weekend)
        has_weekend = np.any(is_weekend) and not np.any(self.has_row & is_weekend)
        return bool(is_mostly_there and has_weekend)


def _describe_weekends(tables: Sequence[_GridTable]) -> str:
    """Return a note on tables of days without rows on weekends, and on other days without one."""
    num_others = sum(int(np.sum(~table.has_row & ~table.is_weekend())) for table in tables)
    words = f" and on {num_others:,} other days" if num_others else ""
    return f"no rows on Saturdays and Sundays{words}: their values are missing"


def _end_of(flags: NDArray[np.bool_]) -> int:
    """Return the index after the last flag that is set; 0 where none is.

    >>> _end_of(np.array([True, False, True, False])), _end_of(np.array([False]))
    (3, 0)
    """
    indices = np.flatnonzero(flags)
    return int(indices[-1]) + 1 if len(indices) else 0
