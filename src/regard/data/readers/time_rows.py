"""The rows of one series in the order of their times: repeated ones, and changes of the clock.

Where local times have no UTC offset, an hour is there twice when clocks are set back, and one is
missing when they are set forward. Both are recognized by when they are: in the night to a Sunday of
spring or autumn. Cost: a sort.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HOUR, _DAY = 3600, 86_400
_MONTHS_OF_CHANGE = frozenset([2, 3, 4, 5, 9, 10, 11])
_LATEST_CHANGE = 4  # hour of a Sunday before which clocks are set
_SATURDAY, _SUNDAY = 5, 6
_LAST_HOUR = 23  # of a Saturday, where clocks are set back at midnight


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


class MergedRows(NamedTuple):
    """The rows of a series with one row for each time.

    Args:
        rows: The rows.
        repeated: Indices in the table of rows that add nothing.
        conflicts: Rows that contradict each other.
        hours_back: First time of each hour that is there twice since clocks were set back.
    """

    rows: SeriesRows
    repeated: list[int]
    conflicts: list[Conflict]
    hours_back: list[int]


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
    hours_back = _hours_twice(set(times[counts == 2].tolist()), clock_step)
    repeated, conflicts = [], []
    for index in np.flatnonzero(counts > 1):
        first = starts[index]
        if times[index] - times[index] % _HOUR in hours_back:
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
    return MergedRows(merged, repeated, conflicts, hours_back)


def _mean_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each column of ``[rows, columns]`` without NaN; NaN where all are NaN."""
    num_values = np.sum(~np.isnan(rows), axis=0)
    return np.where(num_values, np.nansum(rows, axis=0) / np.maximum(num_values, 1), np.nan)


def find_hours_forward(times: NDArray[np.int64], clock_step: int | None) -> list[int]:
    """Return the first time of each hour that is missing since clocks were set forward.

    Args:
        times: Rising local times in seconds since 1970.
        clock_step: Seconds between them; None where they have a UTC offset or are longer apart.
    """
    if clock_step is None:
        return []
    gaps = np.flatnonzero(np.diff(times) == clock_step + _HOUR)
    starts = [int(times[gap]) + clock_step for gap in gaps]
    return [start for start in starts if _is_change(start)]


def _hours_twice(pairs: set[int], clock_step: int | None) -> list[int]:
    """Return the starts of hours that are there twice, in a night in which clocks are set.

    Args:
        pairs: Times that two rows have.
        clock_step: Seconds between local times without a UTC offset; None for other times.
    """
    if clock_step is None:
        return []
    return [start for start in sorted(pairs) if _is_twice(start, pairs, clock_step)]


def _is_twice(start: int, pairs: set[int], clock_step: int) -> bool:
    """Return whether all times of a whole hour are in pairs, those next to it are not."""
    around = {start - clock_step, start + _HOUR}
    hour = range(start, start + _HOUR, clock_step)
    is_hour = start % _HOUR == 0 and pairs.issuperset(hour) and not around & pairs
    return is_hour and _is_change(start)


def _is_change(time: int) -> bool:
    """Return whether clocks may be set at a local time, in seconds since 1970."""
    moment = np.datetime64(time, "s").item()
    is_night = moment.weekday() == _SUNDAY and moment.hour < _LATEST_CHANGE
    is_midnight = moment.weekday() == _SATURDAY and moment.hour == _LAST_HOUR
    return moment.month in _MONTHS_OF_CHANGE and (is_night or is_midnight)


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
