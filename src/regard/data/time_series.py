"""Series of numbers on a regular grid of times, and the calendar of that grid.

A series is an array of values, NaN where one is missing, and the times are computed from the time
of the first value and the step: seconds to weeks are fixed amounts of time, months, quarters and
years follow the calendar. Cost: the values, and nothing for their times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.rows import Rows
from regard.errors import DataError

TimeUnit = Literal["row", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]
"""Units of the distance of two values; a ``row`` is a number without a calendar."""

SECONDS: dict[TimeUnit, int] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 604_800,
}
"""Units that are a fixed amount of time, in seconds."""
MONTHS: dict[TimeUnit, int] = {"month": 1, "quarter": 3, "year": 12}
"""Units that follow the calendar, in months."""
MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
"""English names of the months, for times such as ``Jan 2024``."""
WEEKDAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""English names of the days of a week, for times such as ``Mon, 1 Jan 2024``."""

_Cycle = Literal["minute", "hour", "day", "week", "month", "year"]
_CYCLES: dict[TimeUnit, tuple[_Cycle, ...]] = {
    "row": (),
    "second": ("minute", "hour", "day", "week", "month", "year"),
    "minute": ("hour", "day", "week", "month", "year"),
    "hour": ("day", "week", "month", "year"),
    "day": ("week", "month", "year"),
    "week": ("month", "year"),
    "month": ("year",),
    "quarter": ("year",),
    "year": (),
}
"""Cycles of the calendar that are longer than a step of one unit."""
_CYCLE_SECONDS: dict[_Cycle, float] = {
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 604_800,
    "month": 365.2425 / 12 * 86_400,
    "year": 365.2425 * 86_400,
}
_LAST_TIME = np.datetime64("9999-12-31T23:59:59")  # of Python's dates
_MONDAY = np.datetime64("1969-12-29", "s")
_CODE = re.compile(r"%(-?)([A-Za-z])")


class TimeStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The distance of two values of a series.

    Args:
        count: Number of units, 1 or more.
        unit: A fixed amount of time up to ``week``; ``month``, ``quarter`` and ``year`` follow the
            calendar; a ``row`` is a whole number that counts.

    >>> str(TimeStep(count=30, unit="minute")), str(TimeStep(unit="month"))
    ('30 minutes', 'month')
    """

    count: int = 1
    unit: TimeUnit = "row"

    def __post_init__(self) -> None:
        """Check the number of units."""
        if self.count < 1:
            raise ValueError(f"count={self.count}: 1 or more units were expected.")

    def __str__(self) -> str:
        return self.unit if self.count == 1 else f"{self.count:,} {self.unit}s"

    @classmethod
    def parse(cls, text: str) -> TimeStep:
        """Return the step that `str` writes.

        Raises:
            ValueError: The text is not a step.

        >>> TimeStep.parse("30 minutes"), TimeStep.parse("month")
        (TimeStep(count=30, unit='minute'), TimeStep(count=1, unit='month'))
        """
        number, _, unit = text.rpartition(" ")
        name = unit.removesuffix("s") if number else unit
        units: tuple[TimeUnit, ...] = get_args(TimeUnit)
        for candidate in units:
            if candidate == name:
                return cls(count=int(number.replace(",", "") or 1), unit=candidate)
        raise ValueError(f"{text}: a step such as 30 minutes was expected.")

    @property
    def cycles(self) -> dict[str, float]:
        """Cycles of the calendar that `TimeIndex.calendar` describes, with their lengths in steps.

        >>> TimeStep(count=30, unit="minute").cycles["week"], TimeStep(unit="month").cycles
        (336.0, {'year': 12.0})
        """
        if self.unit in MONTHS:
            months = self.count * MONTHS[self.unit]
            return dict.fromkeys(_CYCLES[self.unit], 12 / months)
        return {
            cycle: _CYCLE_SECONDS[cycle] / (self.count * SECONDS[self.unit])
            for cycle in _CYCLES[self.unit]
        }

    @property
    def seconds(self) -> int | None:
        """Length in seconds; None where it follows the calendar, or counts rows."""
        seconds = SECONDS.get(self.unit)
        return None if seconds is None else self.count * seconds


class TimeIndex(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times of the values of a series.

    Args:
        start: Time of value 0 in ISO form without a UTC offset, such as ``1990-01-31T00:30:00``, or
            a whole number where the unit of the step is ``row``.
        step: Distance of two values.
        zone: UTC offset of the times, such as ``+01:00``; empty for none.
        form: How the file writes times: codes of ``strftime``, with ``%-d`` for a number without a
            leading zero, ``%q`` for the quarter, ``%s`` and ``%Q`` for seconds and milliseconds
            since 1970; empty for ISO form.
        day: Day of the month on which the values of months, quarters and years are, 31 for the last
            one; 0 for the day of `start`.
    """

    start: str
    step: TimeStep
    zone: str = ""
    form: str = ""
    day: int = 0

    def times(self, first: int, count: int) -> list[str]:
        """Return the times of some values, in the form of the file.

        Args:
            first: 0-based index of the first value; it may be after the last value that is known.
            count: Number of values.

        Raises:
            DataError: They are after the year 9999.
        """
        if self.step.unit == "row":
            begin = int(self.start)
            return [str(begin + self.step.count * (first + i)) for i in range(count)]
        datetimes = self.datetimes(first, count)
        if count and datetimes[-1] > _LAST_TIME:
            raise DataError(f"times from {self.start} on go beyond the year 9999.  Correct them.")
        form = self.form or self._iso_form()
        return [format_time(datetime, form, self.zone) for datetime in datetimes]

    def datetimes(self, first: int, count: int) -> NDArray[np.datetime64]:
        """Return the times of some values to the second, ``[count]``, in the zone of the file.

        Raises:
            ValueError: The values are counted, and have no times.
        """
        if self.step.unit == "row":
            raise ValueError("values that are counted by rows have no times.")
        start = np.datetime64(self.start, "s")
        numbers = first + np.arange(count)
        seconds = self.step.seconds
        if seconds is not None:
            return start + numbers * np.timedelta64(seconds, "s")
        month, date = start.astype("M8[M]"), start.astype("M8[D]")
        months = month + (numbers * MONTHS[self.step.unit] * self.step.count).astype("m8[M]")
        day = self.day or int((date - month.astype("M8[D]")).astype(int)) + 1
        days = np.minimum(day, days_of_months(months)) - 1
        return (months.astype("M8[D]") + days.astype("m8[D]")).astype("M8[s]") + (start - date)

    def starting_at(self, first: int) -> TimeIndex:
        """Return the index whose value 0 is a value of this one.

        Args:
            first: 0-based index of that value; negative before the first.

        >>> index = TimeIndex(start="2024-01-31T00:00:00", step=TimeStep(unit="month"))
        >>> index.starting_at(1).times(0, 3)
        ['2024-02-29', '2024-03-31', '2024-04-30']
        """
        if self.step.unit == "row":
            start, day = str(int(self.start) + first * self.step.count), self.day
        else:
            start = str(self.datetimes(first, 1)[0])
            day = self.day or int(self.start[8:10]) if self.step.unit in MONTHS else self.day
        return msgspec.structs.replace(self, start=start, day=day)

    def calendar(self, first: int, count: int) -> NDArray[np.float32]:
        """Return where values are in the cycles of the calendar.

        The cycles are those that are longer than a step of one unit: of half hours, the hour, the
        day, the week, the month and the year; of months and quarters, the year; of years and of
        rows that are counted, none.

        Args:
            first: 0-based index of the first value; it may be after the last value that is known.
            count: Number of values.

        Returns:
            Sine and cosine of each cycle, shortest first, ``[count, 2 * cycles]``.
        """
        cycles = _CYCLES[self.step.unit]
        if not cycles:
            return np.zeros((count, 0), np.float32)
        datetimes = self.datetimes(first, count)
        if self.step.unit in MONTHS:  # the day of the month does not count
            datetimes = datetimes.astype("M8[M]").astype("M8[s]")
            month = datetimes.astype("M8[M]").astype(np.int64) % 12
            phases = [month / 12]
        else:
            phases = [_PHASES[cycle](datetimes) for cycle in cycles]
        angles = 2 * np.pi * np.stack(phases, axis=1)  # [count, cycles]
        pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2)  # [count, cycles, 2]
        return pairs.reshape(count, -1).astype(np.float32)

    def _iso_form(self) -> str:
        """Return the form of ISO: a date where all values are at midnight, else date and time."""
        start = np.datetime64(self.start, "s")
        is_sub_daily = self.step.unit in ("second", "minute", "hour")
        is_midnight = not is_sub_daily and start == start.astype("M8[D]")
        form = "%Y-%m-%d" if is_midnight else "%Y-%m-%dT%H:%M:%S"
        return f"{form}%z" if self.zone and not is_midnight else form


class TimeSeries(Rows, frozen=True, kw_only=True):
    """Series of a file, one entry each; a value of one is a number, NaN where it is missing.

    Args:
        path: File as named.
        names: Name of each series.
        values: Values of each, float64 ``[length]``.
        indices: Times of each.
        known: Columns that are known ahead, float64 ``[length or more, num_known]``; rows after the
            last value are those of the future.
        observed: Columns that are known as far as the values, float64 ``[length, num_observed]``.
    """

    names: list[str]
    values: list[NDArray[np.float64]]
    indices: list[TimeIndex]
    known: list[NDArray[np.float64]]
    observed: list[NDArray[np.float64]]

    def until(self, ends: Sequence[int]) -> TimeSeries:
        """Return the first values of each series; what is known ahead stays whole.

        Args:
            ends: Number of values of each series, 0 to its length.

        Raises:
            ValueError: There is not one end for each series, or one is after its last value.
        """
        for name, values, end in zip(self.names, self.values, ends, strict=True):
            if not 0 <= end <= len(values):
                raise ValueError(f"series {name} has {len(values):,} values, not {end:,}.")
        return msgspec.structs.replace(
            self,
            values=[values[:end] for values, end in zip(self.values, ends, strict=True)],
            observed=[rows[:end] for rows, end in zip(self.observed, ends, strict=True)],
        )


def format_time(time: np.datetime64, form: str, zone: str = "") -> str:
    """Return a time in a form.

    Args:
        time: The time.
        form: As in `TimeIndex`.
        zone: What ``%z`` is replaced by.

    >>> format_time(np.datetime64("2024-02-03T16:05"), "%-d.%-m.%Y %I:%M %p")
    '3.2.2024 04:05 PM'
    >>> format_time(np.datetime64("2024-02-03"), "%YQ%q"), format_time(
    ...     np.datetime64("2024-12-30"), "%G-W%V"
    ... )
    ('2024Q1', '2025-W01')
    """
    moment = time.astype("M8[s]").item()
    week = moment.isocalendar()
    seconds = int(time.astype("M8[s]").astype(np.int64))
    texts = {
        "Y": f"{moment.year:04}",
        "y": f"{moment.year % 100:02}",
        "m": f"{moment.month:02}",
        "b": MONTH_NAMES[moment.month - 1][:3],
        "B": MONTH_NAMES[moment.month - 1],
        "d": f"{moment.day:02}",
        "a": WEEKDAY_NAMES[moment.weekday()][:3],
        "A": WEEKDAY_NAMES[moment.weekday()],
        "H": f"{moment.hour:02}",
        "I": f"{(moment.hour - 1) % 12 + 1:02}",
        "M": f"{moment.minute:02}",
        "S": f"{moment.second:02}",
        "p": "AM" if moment.hour < 12 else "PM",
        "q": f"{(moment.month + 2) // 3}",
        "G": f"{week.year:04}",
        "V": f"{week.week:02}",
        "u": f"{week.weekday}",
        "s": f"{seconds}",
        "Q": f"{1000 * seconds}",
        "z": zone,
    }

    def text_of(code: re.Match[str]) -> str:
        text = texts[code[2]]
        return str(int(text)) if code[1] else text

    return _CODE.sub(text_of, form)


def days_of_months(months: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the number of days of each month."""
    after = months + np.timedelta64(1, "M")
    return (after.astype("M8[D]") - months.astype("M8[D]")).astype(np.int64)


def _phase(seconds: int) -> Callable[[NDArray[np.datetime64]], NDArray[np.float64]]:
    """Return the function to the phase, 0 to 1, in a cycle of some seconds since a Monday."""
    return lambda times: (times - _MONDAY).astype(np.int64) % seconds / seconds


def _month_phase(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return where times are in their month, 0 to 1."""
    months = times.astype("M8[M]")
    return (times - months).astype(np.int64) / (SECONDS["day"] * days_of_months(months))


def _year_phase(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return where times are in their year, 0 to 1."""
    years = times.astype("M8[Y]")
    first, after = years.astype("M8[s]"), (years + np.timedelta64(1, "Y")).astype("M8[s]")
    return (times - first).astype(np.int64) / (after - first).astype(np.int64)


_PHASES: dict[_Cycle, Callable[[NDArray[np.datetime64]], NDArray[np.float64]]] = {
    "minute": _phase(SECONDS["minute"]),
    "hour": _phase(SECONDS["hour"]),
    "day": _phase(SECONDS["day"]),
    "week": _phase(SECONDS["week"]),
    "month": _month_phase,
    "year": _year_phase,
}
