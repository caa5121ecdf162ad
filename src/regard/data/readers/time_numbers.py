"""Numbers as times: years, seconds since 1970, days of a spreadsheet, or a count, by their size."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.time_column import MICROSECONDS, TimeColumn, has_word, to_seconds
from regard.data.readers.time_texts import UNIX_DAY, read_pattern

NUMBER = re.compile(r"-?(?:\d{1,18}|[1-4]\d{18})(?:\.\d*)?|-?\d+(?:\.\d+)?[eE]\+?\d{1,2}")
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
        return _read_whole_numbers(np.array([int(text) for text in texts], np.int64), name)
    return _read_decimals(np.array([float(text) for text in texts]), name)


def _read_whole_numbers(numbers: NDArray[np.int64], name: str) -> TimeColumn:
    """Return the times of whole numbers: years, a time since 1970, days, or a count."""
    least, most = int(numbers.min()), int(numbers.max())
    is_count = has_word(name, _COUNT_NAMES)
    if least >= _FIRST_YEAR and most <= _LAST_YEAR and not is_count:
        years = (numbers - 1970).astype("M8[Y]").astype("M8[s]").astype(np.int64)
        return TimeColumn(years, form="%Y")
    for smallest, size in reversed(_EPOCHS.items()):
        if least >= smallest:
            if most > _LAST_EPOCH / 1e8 * smallest:
                break
            microseconds = numbers * size if size else numbers // 1000
            note = f"times are {_EPOCH_UNITS[size]} since 1970"
            form = _EPOCH_FORMS.get(size, "%Y-%m-%dT%H:%M:%S")
            return to_seconds(microseconds, form, "", [note])
    if least in _EXCEL_DAYS and most in _EXCEL_DAYS and has_word(name, _SERIAL_NAMES):
        return _read_serials(numbers.astype(np.float64))
    return TimeColumn(numbers, is_count=True)


def _read_decimals(numbers: NDArray[np.float64], name: str) -> TimeColumn | None:
    """Return the times of numbers with decimals; None where they are not times."""
    least, most = float(numbers.min()), float(numbers.max())
    if least >= min(_EPOCHS) and most <= _LAST_EPOCH:
        microseconds = np.rint(numbers * MICROSECONDS).astype(np.int64)
        return to_seconds(microseconds, "%s", "", ["times are seconds since 1970"])
    if least >= _FIRST_YEAR and most <= _LAST_YEAR + 1:
        months = 12 * numbers + _MONTH_ROUNDING
        fractions = months % 1
        if fractions.max() - fractions.min() < 3 * _MONTH_ROUNDING:
            datetimes = (np.floor(months).astype(np.int64) - 12 * 1970).astype("M8[M]")
            seconds = datetimes.astype("M8[s]").astype(np.int64)
            return TimeColumn(seconds, form="%Y-%m", notes=("decimals of years are months",))
    if (
        least >= _EXCEL_DAYS.start
        and most < _EXCEL_DAYS.stop
        and has_word(name, _SERIAL_NAMES | {"time"})
    ):
        return _read_serials(numbers)
    rising = np.unique(numbers)
    step = float(np.median(np.diff(rising))) if len(rising) > 1 else 1.0
    counts = np.rint((numbers - least) / step)
    is_regular = np.abs(numbers - least - counts * step).max() <= _COUNT_ROUNDING * step
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
