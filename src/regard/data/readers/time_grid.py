"""The regular grid of a column of times: its step, and the index of each time on it.

The step is the most frequent distance of two times that follow each other. Distances of whole
months follow the calendar. Cost: a sort, and one pass over the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.time_series import MONTHS, SECONDS, TimeStep, TimeUnit, days_of_months

_DAY = SECONDS["day"]
_LEAST_MONTHLY = 20 * _DAY  # between days of two months, such as their last working days
_UNITS: dict[int, TimeUnit] = {3: "quarter"}  # of a number of months that is not all years
_MIN_FREQUENT = 0.1  # fraction of the distances that are the step, where others are multiples
_MAX_EMPTY = 3  # times of such a grid for each time with a value
_LONGEST_SPARSE = 1000  # values of a grid that may be mostly empty
_MAX_SPARSE = 20  # times of a longer grid for each time with a value
_LAST_DAY = 31
_MIN_REGULAR = 5  # distances by which a series has a step of its own
_MOST_REGULAR = 0.9  # fraction of them that are it


class TimeGrid(NamedTuple):
    """A grid that has all times of some series.

    Args:
        step: Its step.
        day: Day of the month of its times where they follow the calendar, 31 for the last; else 0.
        is_by_month: Whether times of months are on different days, and only the month counts.
    """

    step: TimeStep
    day: int = 0
    is_by_month: bool = False

    def indices(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of each of some times on the grid that begins with the first of them.

        Args:
            times: Seconds since 1970, or whole numbers where the step counts rows, ``[rows]``, at
                least one. They are on the grid.
        """
        if self.step.unit in MONTHS:
            months = _months(times)
            return (months - months[0]) // (MONTHS[self.step.unit] * self.step.count)
        return (times - times[0]) // (self.step.seconds or self.step.count)


class OffGrid(NamedTuple):
    """A time that is on no regular grid with the others.

    Args:
        series: Index of its series.
        position: Index of the time before it.
        step: The most frequent step.
        is_sparse: Whether all times are on a grid of that step, but most of its times have none.
        own_step: The step of a series that is regular, where others have a shorter one.
    """

    series: int
    position: int
    step: TimeStep
    is_sparse: bool = False
    own_step: TimeStep | None = None


def find_grid(
    series: Sequence[NDArray[np.int64]],
    *,
    is_count: bool = False,
    expected: TimeStep | None = None,
) -> TimeGrid | OffGrid | None:
    """Return the grid of the times of some series; None where no series has two times.

    Args:
        series: Seconds since 1970 of each series, rising, or whole numbers that count.
        is_count: Whether they are whole numbers that count, not seconds.
        expected: The step, if it is known. It is taken where all distances are multiples of it, and
            the grid is not mostly empty.
    """
    pooled = np.concatenate([np.zeros(0, np.int64), *map(np.diff, series)])
    if not len(pooled):
        return None
    fixed = _fixed_grid(series, pooled, expected, is_count=is_count)
    if is_count or pooled.min() < _LEAST_MONTHLY:
        return fixed
    ways = (False, True) if isinstance(fixed, OffGrid) else (False,)
    calendars = (_calendar_grid(series, expected, is_by_month=is_by_month) for is_by_month in ways)
    return next(filter(None, calendars), fixed)


def regular_grid(times: NDArray[np.int64]) -> tuple[TimeStep, int] | None:
    """Find the regular grid of some times.

    Args:
        times: Seconds since 1970, in any order.

    Returns:
        Its step, and how many of its times are missing; None where the times have no grid.
    """
    rising = np.unique(times)
    grid = find_grid([rising])
    if not isinstance(grid, TimeGrid):
        return None
    return grid.step, int(grid.indices(rising)[-1]) + 1 - len(rising)


def step_of_seconds(seconds: int) -> TimeStep:
    """Return a step of some seconds, in the largest unit that divides them.

    >>> str(step_of_seconds(5400)), str(step_of_seconds(14 * 86400))
    ('90 minutes', '2 weeks')
    """
    unit: TimeUnit = next(
        unit for unit, length in reversed(SECONDS.items()) if not seconds % length
    )
    return TimeStep(count=seconds // SECONDS[unit], unit=unit)


def _fixed_grid(
    series: Sequence[NDArray[np.int64]],
    pooled: NDArray[np.int64],
    expected: TimeStep | None,
    *,
    is_count: bool,
) -> TimeGrid | OffGrid:
    """Return a grid of a fixed step, of which all differences are multiples."""
    differences = list(map(np.diff, series))
    length = _fixed_step(pooled, expected, is_count=is_count)
    step = TimeStep(count=length) if is_count else step_of_seconds(length)
    off_grid = (
        OffGrid(number, int(np.flatnonzero(distances % length)[0]), step)
        for number, distances in enumerate(differences)
        if np.any(distances % length)
    )
    with_own_step = (
        OffGrid(number, 0, step, own_step=own_step)
        for number, distances in enumerate(differences)
        if not is_count and (own_step := _longer_step(distances, length)) is not None
    )
    sparse = (
        OffGrid(number, int(np.argmax(differences[number])), step, is_sparse=True)
        for number, times in enumerate(series)
        if _is_sparse(times, length)
    )
    return next(chain(off_grid, with_own_step, sparse), TimeGrid(step))


def _fixed_step(distances: NDArray[np.int64], expected: TimeStep | None, *, is_count: bool) -> int:
    """Return the step of times: the one that is expected where it fits, else a frequent one."""
    step = None if expected is None else expected.count if is_count else expected.seconds
    return step if step and _is_filled(distances, step) else _frequent_step(distances)


def _is_sparse(times: NDArray[np.int64], step: int) -> bool:
    """Return whether most times of a long grid have no value."""
    num_steps = int(times[-1] - times[0]) // step + 1 if len(times) else 0
    return num_steps > max(_LONGEST_SPARSE, _MAX_SPARSE * len(times))


def _longer_step(distances: NDArray[np.int64], frequent: int) -> TimeStep | None:
    """Return the step of a regular series whose distances are all longer than the frequent one.

    Args:
        distances: Seconds between its times, ``[times - 1]``.
        frequent: The most frequent distance of all series.

    Returns:
        The step; None where the series is too short or irregular, or has shorter distances.
    """
    if len(distances) < _MIN_REGULAR:
        return None
    steps, counts = np.unique(distances, return_counts=True)
    is_regular = counts.max() >= _MOST_REGULAR * len(distances)
    is_longer = is_regular and steps.min() > frequent
    return step_of_seconds(int(steps[np.argmax(counts)])) if is_longer else None


def _frequent_step(distances: NDArray[np.int64]) -> int:
    """Return the most frequent distance, or the divisor of all where that is frequent, too."""
    steps, counts = np.unique(distances, return_counts=True)
    frequent = int(steps[np.argmax(counts)])
    divisor = int(np.gcd.reduce(distances))
    is_usual = divisor in steps and counts[steps == divisor][0] >= _MIN_FREQUENT * len(distances)
    return divisor if is_usual and _is_filled(distances, divisor) else frequent


def _is_filled(distances: NDArray[np.int64], step: int) -> bool:
    """Return whether distances are multiples of a step, and on average three steps at most."""
    is_multiple = not np.any(distances % step)
    return is_multiple and _MAX_EMPTY * len(distances) * step >= int(distances.sum())


def _calendar_grid(
    series: Sequence[NDArray[np.int64]],
    expected: TimeStep | None,
    *,
    is_by_month: bool = False,
) -> TimeGrid | None:
    """Return a grid of months, quarters or years; None where times are on none.

    Args:
        series: Seconds since 1970 of each series.
        expected: The step, if it is known.
        is_by_month: Whether the times may be on different days of their months.
    """
    day = _day_of_months(np.concatenate(list(series)), is_by_month=is_by_month)
    distances = np.concatenate([np.diff(_months(times)) for times in series])
    frequent = _frequent_months(distances, is_by_month=is_by_month)
    if day is None or frequent is None:
        return None
    months = _expected_months(distances, expected) or frequent
    unit = _UNITS.get(months, "month" if months % 12 else "year")
    return TimeGrid(TimeStep(count=months // MONTHS[unit], unit=unit), day, is_by_month)


def _frequent_months(distances: NDArray[np.int64], *, is_by_month: bool) -> int | None:
    """Return the divisor of all distances in months; None where it is rare, or a distance is 0."""
    steps, counts = np.unique(distances, return_counts=True)
    divisor, frequent = int(np.gcd.reduce(distances)), int(steps[np.argmax(counts)])
    is_usual = counts[steps == divisor].sum() >= _MIN_FREQUENT * len(distances)
    is_step = divisor == frequent or (is_usual and not is_by_month)
    return divisor if is_step and steps[0] > 0 else None


def _expected_months(distances: NDArray[np.int64], expected: TimeStep | None) -> int | None:
    """Return the months of the step that is expected; None where it does not fit the distances."""
    if expected is None or expected.unit not in MONTHS:
        return None
    months = expected.count * MONTHS[expected.unit]
    return months if _is_filled(distances, months) else None


def _day_of_months(times: NDArray[np.int64], *, is_by_month: bool) -> int | None:
    """Return the day of the month of all times, 31 for the last; None where they differ.

    Args:
        times: Seconds since 1970, ``[rows]``, at least one.
        is_by_month: Whether they may differ; the day is then the first or the last of the month,
            whichever is nearer to most of them.
    """
    datetimes = times.astype("M8[s]")
    months, dates = datetimes.astype("M8[M]"), datetimes.astype("M8[D]")
    days = (dates - months.astype("M8[D]")).astype(np.int64) + 1
    last = days_of_months(months)
    if is_by_month:
        return _LAST_DAY if float(np.median(last - days)) < float(np.median(days)) else 1
    day = _LAST_DAY if bool(np.all(days == last)) else int(days.max())
    is_one_day = np.array_equal(days, np.minimum(day, last))
    return day if is_one_day and len(np.unique(times % _DAY)) == 1 else None


def _months(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the month of seconds since 1970."""
    return times.astype("M8[s]").astype("M8[M]").astype(np.int64)
