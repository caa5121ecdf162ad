"""Numbers as times: years, seconds since 1970, days of a spreadsheet, or a count, by their size."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.time_column import MICROSECONDS, TimeColumn, has_word, to_seconds
from regard.data.readers.time_texts import UNIX_DAY, read_pattern

# A number may have 19 digits where no difference of two is beyond 64 bits.
NUMBER = re.compile(r"(?:-?\d{1,18}|[1-4]\d{18})(?:\.\d*)?|-?\d+(?:\.\d+)?[eE]\+?\d{1,2}")
_COUNT_NAMES = frozenset(["t", "step", "hour", "minute", "second", "stunde", "heure", "hora"])
_WEEK_NAMES = frozenset(["week", "woche", "semaine", "semana", "yearweek", "yyyyww"])
_FIRST_YEAR, _LAST_YEAR = 1500, 2199  # of years written as numbers
_EXCEL_DAYS = range(15_000, 80_000)  # 1941 to 2119, in days since 30 December 1899
_EXCEL_EPOCH = datetime.date(1899, 12, 30)
_EPOCHS = {1e8: 1_000_000, 1e11: 1000, 1e14: 1, 1e17: 0}  # least number: microseconds a unit
_EPOCH_FORMS = {1_000_000: "%s", 1000: "%Q"}
_EPOCH_UNITS = {1_000_000: "seconds", 1000: "milliseconds", 1: "microseconds", 0: "nanoseconds"}
_LAST_EPOCH = 4.2e9  # seconds: the year 2103
_SERIAL_NAMES = frozenset(
    ["date", "datetime", "timestamp", "ds", "dt", "day", "datum", "tag", "fecha"]
)
_COMPACT = re.compile(
    r"(?P<Y>1[5-9]\d\d|2[01]\d\d)(?P<m>0[1-9]|1[0-2])"
    r"(?:(?P<d>\d\d)(?:(?P<H>\d\d)(?:(?P<M>\d\d)(?P<S>\d\d)?)?)?)?"
)
_COMPACT_WEEK = re.compile(r"(?P<G>\d{4})(?P<V>\d{2})")
_MONTH_ROUNDING = 0.05  # of a month, in years with decimals
_MAX_COUNT = 2.0**53  # above which floats skip whole numbers
_COUNT_ROUNDING = 0.01  # of a step, in numbers with decimals that rise by it
_DAY = 86_400


def read_time_numbers(texts: Sequence[str], name: str) -> TimeColumn | None:
    """Return the times of distinct numbers, by their size and the name of the column."""
    for pattern in (_COMPACT_WEEK, _COMPACT) if has_word(name, _WEEK_NAMES) else (_COMPACT,):
        if (column := read_pattern(texts, pattern)) is not None:
            return column
    if all(text.removeprefix("-").isdecimal() for text in texts):
        return _read_whole_numbers(np.array(list(map(int, texts)), np.int64), name)
    return _read_decimals(np.array(list(map(float, texts))), name)


def _read_whole_numbers(numbers: NDArray[np.int64], name: str) -> TimeColumn:
    """Return the times of whole numbers: years, a time since 1970, days, or a count."""
    least, most = int(numbers.min()), int(numbers.max())
    if _FIRST_YEAR <= least <= most <= _LAST_YEAR and not has_word(name, _COUNT_NAMES):
        years = (numbers - 1970).astype("M8[Y]").astype("M8[s]").astype(np.int64)
        return TimeColumn(years, form="%Y")
    if (since_1970 := _read_epoch(numbers)) is not None:
        return since_1970
    if _EXCEL_DAYS[0] <= least <= most <= _EXCEL_DAYS[-1] and has_word(name, _SERIAL_NAMES):
        return _read_serials(numbers.astype(np.float64))
    return TimeColumn(numbers, is_count=True)


def _read_epoch(numbers: NDArray[np.int64]) -> TimeColumn | None:
    """Return the times of numbers of seconds, or smaller units, since 1970, by their size."""
    least, most = int(numbers.min()), int(numbers.max())
    smallest = next((number for number in reversed(_EPOCHS) if number <= least), None)
    if smallest is None or most > _LAST_EPOCH / 1e8 * smallest:
        return None
    size = _EPOCHS[smallest]
    microseconds = numbers * size if size else numbers // 1000
    note = f"times are {_EPOCH_UNITS[size]} since 1970"
    return to_seconds(microseconds, _EPOCH_FORMS.get(size, "%Y-%m-%dT%H:%M:%S"), "", [note])


def _read_decimals(numbers: NDArray[np.float64], name: str) -> TimeColumn | None:
    """Return the times of numbers with decimals; None where they are not times."""
    least, most = float(numbers.min()), float(numbers.max())
    if min(_EPOCHS) <= least <= most <= _LAST_EPOCH:
        microseconds = np.rint(numbers * MICROSECONDS).astype(np.int64)
        return to_seconds(microseconds, "%s", "", ["times are seconds since 1970"])
    months = 12 * numbers + _MONTH_ROUNDING
    is_monthly = np.ptp(months % 1) < 3 * _MONTH_ROUNDING
    if _FIRST_YEAR <= least <= most <= _LAST_YEAR + 1 and is_monthly:
        datetimes = (np.floor(months).astype(np.int64) - 12 * 1970).astype("M8[M]")
        seconds = datetimes.astype("M8[s]").astype(np.int64)
        return TimeColumn(seconds, form="%Y-%m", notes=("decimals of years are months",))
    is_serial = has_word(name, _SERIAL_NAMES | {"time"})
    if _EXCEL_DAYS.start <= least <= most < _EXCEL_DAYS.stop and is_serial:
        return _read_serials(numbers)
    return _count_steps(numbers)


def _count_steps(numbers: NDArray[np.float64]) -> TimeColumn | None:
    """Return numbers that rise by a step as a count of steps; None where they do not."""
    rising = np.unique(numbers)
    step = float(np.median(np.diff(rising))) if len(rising) > 1 else 1.0
    counts = np.rint((numbers - rising[0]) / step)
    is_regular = np.abs(numbers - rising[0] - counts * step).max() <= _COUNT_ROUNDING * step
    if not is_regular or counts.max() > _MAX_COUNT:
        return None
    note = f"times rise by {step:g} and are counted from 0"
    return TimeColumn(counts.astype(np.int64), is_count=True, notes=(note,))


def _read_serials(days: NDArray[np.float64]) -> TimeColumn:
    """Return the times of days since 30 December 1899, with fractions, as spreadsheets count."""
    start = _EXCEL_EPOCH.toordinal() - UNIX_DAY
    seconds = np.rint((days + start) * _DAY).astype(np.int64)
    is_date = not np.any(days % 1)
    form = "" if is_date else "%Y-%m-%dT%H:%M:%S"
    return TimeColumn(seconds, form=form, notes=("dates are numbers of days, as in Excel",))
