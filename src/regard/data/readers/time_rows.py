"""The rows of one series in the order of their times: repeated ones, and changes of the clock.

Where local times have no UTC offset, an hour is there twice when clocks are set back, and one is
missing when they are set forward. Both are recognized by when they are: in the night to a Sunday of
spring or autumn, or where clocks are set in some place by the time zones of this machine (on a
Thursday in Cairo, by half an hour on Lord Howe). Cost: a sort; the first change of the second kind
reads all time zones, 0.1 s.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HOUR, _DAY = 3600, 86_400
_MONTHS_OF_CHANGE = frozenset([2, 3, 4, 5, 9, 10, 11])
_LATEST_CHANGE = 4  # hour of a Sunday before which clocks are set
_SATURDAY, _SUNDAY = 5, 6
_LAST_HOUR = 23  # of a Saturday, where clocks are set back at midnight
_MOST_CHANGES = 100  # that are looked for in all time zones; more are other gaps or repeats
_SHIFTS = (_HOUR, _HOUR // 2, 2 * _HOUR)  # by which clocks are set, in seconds


class SeriesRows(NamedTuple):
    """The rows of a series.

    Args:
        times: Seconds since 1970 or numbers that count, int64 ``[rows]``.
        values: Numbers of each row, float64 ``[rows, columns]``.
        rows: Index of each row in the table, ``[rows]``.
    """

    times: NDArray[np.int64]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]

    def sorted(self) -> SeriesRows:
        """Return the rows in the order of their times, those of one time in the order of lines."""
        order = np.argsort(self.times, kind="stable")
        return SeriesRows(self.times[order], self.values[order], self.rows[order])


class Conflict(NamedTuple):
    """Two rows with one time and different numbers in a column.

    Args:
        rows: Indices of the two rows in the table, the earlier line first.
        column: Index of the column.
    """

    rows: tuple[int, int]
    column: int


class ClockChange(NamedTuple):
    """A change of the clock.

    Args:
        start: First local time that is there twice or missing, in seconds since 1970.
        shift: By how much clocks are set, in seconds.
    """

    start: int
    shift: int


class MergedRows(NamedTuple):
    """The rows of a series with one row for each time.

    Args:
        rows: The rows.
        repeated: Indices in the table of rows that add nothing.
        conflicts: Rows that contradict each other.
        set_back: Changes by which clocks were set back, so that times are there twice.
    """

    rows: SeriesRows
    repeated: list[int]
    conflicts: list[Conflict]
    set_back: list[ClockChange]


def merge_rows(series: SeriesRows, clock_step: int | None) -> MergedRows:
    """Return rows with one row for each time.

    A row that repeats another, or fills what that has not, is merged with it. Rows of an hour that
    is there twice become their mean.

    Args:
        series: Rows in the order of their times.
        clock_step: Seconds between local times without a UTC offset; None for other times.
    """
    times, starts, counts = np.unique(series.times, return_index=True, return_counts=True)
    if len(times) == len(series.times):
        return MergedRows(series, [], [], [])
    values = series.values[starts].copy()
    set_back = _find_set_back(set(times[counts == 2].tolist()), clock_step)
    spans = (range(start, start + shift) for start, shift in set_back)
    is_twice = {time for span in spans for time in times[counts == 2].tolist() if time in span}
    repeated, conflicts = [], []
    for index in np.flatnonzero(counts > 1):
        first = starts[index]
        if int(times[index]) in is_twice:
            values[index] = _mean_of(series.values[first : first + 2])
            continue
        for other in range(first + 1, first + counts[index]):
            added, row = series.values[other], values[index]
            different = ~(np.isnan(added) | np.isnan(row) | (added == row))
            if np.any(different):
                pair_of_rows = (int(series.rows[first]), int(series.rows[other]))
                conflicts.append(Conflict(pair_of_rows, int(np.argmax(different))))
            else:
                values[index] = np.where(np.isnan(row), added, row)
                repeated.append(int(series.rows[other]))
    merged = SeriesRows(times, values, series.rows[starts])
    return MergedRows(merged, repeated, conflicts, set_back)


def _mean_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each column of ``[rows, columns]`` without NaN; NaN where all are NaN."""
    num_values = np.sum(~np.isnan(rows), axis=0)
    return np.where(num_values, np.nansum(rows, axis=0) / np.maximum(num_values, 1), np.nan)


def find_set_forward(times: NDArray[np.int64], clock_step: int | None) -> list[ClockChange]:
    """Return the changes by which clocks were set forward, so that times are missing.

    Args:
        times: Rising local times in seconds since 1970.
        clock_step: Seconds between them; None where they have a UTC offset or are longer apart.
    """
    if clock_step is None:
        return []
    distances = np.diff(times)
    changes = [
        ClockChange(_floor(int(times[gap]) + clock_step, clock_step), shift)
        for shift in _SHIFTS
        if not shift % clock_step
        for gap in np.flatnonzero(distances == clock_step + shift)
    ]
    return _possible_changes(changes, -1)


def _find_set_back(pairs: Collection[int], clock_step: int | None) -> list[ClockChange]:
    """Return the changes by which clocks were set back.

    Args:
        pairs: Times that two rows have.
        clock_step: Seconds between local times without a UTC offset; None for other times.
    """
    if clock_step is None:
        return []
    starts = [time for time in sorted(pairs) if time - clock_step not in pairs]
    ends = [time + clock_step for time in sorted(pairs) if time + clock_step not in pairs]
    changes = [
        ClockChange(_floor(start, clock_step), end - start)
        for start, end in zip(starts, ends, strict=True)
    ]
    return _possible_changes([change for change in changes if change.shift in _SHIFTS], 1)


def _floor(time: int, step: int) -> int:
    """Return the time of a clock's step at or before another, which may be at half past."""
    return time - time % step


def _possible_changes(changes: Sequence[ClockChange], direction: int) -> list[ClockChange]:
    """Return the changes by which clocks may be set, in their order.

    Args:
        changes: What may be changes of the clock.
        direction: 1 where clocks are set back, -1 where they are set forward.
    """
    usual = set(filter(_is_usual, changes))
    unusual = [change for change in changes if change not in usual]
    if len(unusual) <= _MOST_CHANGES:
        usual |= {
            change for change in unusual if _is_in_zones(change.start, direction * change.shift)
        }
    return sorted(usual)


def _is_usual(change: ClockChange) -> bool:
    """Return whether clocks are set by an hour in the night to a Sunday of spring or autumn."""
    moment = _moment_of(change.start)
    is_night = moment.weekday() == _SUNDAY and moment.hour < _LATEST_CHANGE
    is_midnight = moment.weekday() == _SATURDAY and moment.hour == _LAST_HOUR
    return (
        (change.shift == _HOUR and change.start % _HOUR == 0)
        and moment.month in _MONTHS_OF_CHANGE
        and (is_night or is_midnight)
    )


@cache
def _is_in_zones(start: int, shift: int) -> bool:
    """Return whether clocks are set at a local time in some zone, back by a positive shift.

    A time that does not exist, or exists twice, has two UTC offsets (PEP 495).
    """
    moment, before = _moment_of(start), _moment_of(start - 1)
    return any(
        _offset_change(moment, zone) == shift and _offset_change(before, zone) == 0
        for zone in _time_zones()
    )


def _offset_change(moment: datetime.datetime, zone: zoneinfo.ZoneInfo) -> int:
    """Return by how many seconds the two UTC offsets of a local time differ; mostly 0."""
    first, second = (
        moment.replace(tzinfo=zone, fold=fold).utcoffset() or datetime.timedelta()
        for fold in (0, 1)
    )
    return int((first - second).total_seconds())


def _moment_of(time: int) -> datetime.datetime:
    """Return a local time, in seconds since 1970."""
    return np.datetime64(time, "s").item()


@cache
def _time_zones() -> tuple[zoneinfo.ZoneInfo, ...]:
    """Return the time zones that this machine knows; none where it has no database of them."""
    return tuple(map(zoneinfo.ZoneInfo, sorted(zoneinfo.available_timezones())))


def days_of_clocks(times: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return times of days, weeks or months at one time of day, where two differ by an hour.

    Days that begin at midnight of local time are at two times of UTC, as clocks are set.

    Args:
        times: Seconds since 1970.

    Returns:
        Times at the later of the two, as in winter; None for all other times.
    """
    of_day = np.unique(times % _DAY)
    distances = np.diff(np.unique(times))
    if len(of_day) != 2 or not len(distances) or distances.min() < _DAY - _HOUR:
        return None
    early, late = of_day.tolist()
    if late - early == _DAY - _HOUR:  # 23:00 and midnight
        early, late = late, early
    if (late - early) % _DAY != _HOUR:
        return None
    return np.where(times % _DAY == early, times + _HOUR, times)


def clock_step_of(seconds: int | None, zone: str) -> int | None:
    """Return a step of local times by which an hour is missing or there twice; None for others."""
    is_part = seconds is not None and seconds <= _HOUR and _HOUR % seconds == 0
    return seconds if is_part and not zone else None
