"""Dates and times as people write them, read by regular expressions that a whole column decides.

Cost: one match for each distinct text, and a few for the first ones, by which the form is found.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from regard.data.readers.number_columns import CellFault
from regard.data.readers.time_column import MICROSECONDS, TimeColumn, to_seconds
from regard.data.readers.time_grid import regular_grid
from regard.data.time_series import MONTH_NAMES, WEEKDAY_NAMES

_REMEDY_ORDER = "Write dates as year-month-day: 2024-01-31."
UNIX_DAY = datetime.date(1970, 1, 1).toordinal()
_DAY = 86_400
_MONTH_NUMBERS = {
    text: number
    for number, name in enumerate(MONTH_NAMES, start=1)
    for text in (name.casefold(), name[:3].casefold())
} | {"sept": 9}
_ZONES = {"Z": 0, "UTC": 0, "GMT": 0, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180} | {
    **{"WET": 0, "WEST": 60, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300},
    **{"MST": -420, "MDT": -360, "PST": -480, "PDT": -420},
}

_WEEKDAY = "|".join(f"{name[:3]}|{name}" for name in WEEKDAY_NAMES)
_NAME = r"(?P<b>[^\W\d_]{3,9})\.?"
_YEAR = r"(?P<Y>\d{4}|\d{2})"
_ZONE = (
    r"(?: ?(?P<z>(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|" + "|".join(_ZONES) + r")(?:\[[\w/+-]+\])?)"
)
_CLOCK = (
    r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"(?: ?(?P<p>[AaPp]\.?[Mm]\.?))?"
)
_COMPACT_CLOCK = r"(?P<H2>\d{2})(?:(?P<M2>\d{2})(?P<S2>\d{2})?)?"
_TIME = rf"(?:(?:[T_]|,? +)(?:{_CLOCK}|{_COMPACT_CLOCK}){_ZONE}?|Z)?"
_DATES = {
    "date": r"(?P<Y>\d{4})(?P<s>[-/.])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})",
    "compact": r"(?P<Y>(?:1[5-9]|2[01])\d{2})(?P<m>0[1-9]|1[0-2])(?P<d>[0-2]\d|3[01])",
    "numbers": rf"(?P<i>\d{{1,2}})(?P<s>[-/.])(?P<j>\d{{1,2}})(?P=s){_YEAR}",
    "day first": rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?[-/ ]?{_NAME},?[-/ ]?{_YEAR}",
    "month first": rf"{_NAME} ?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<Y>\d{{4}})",
    "japanese": r"(?P<Y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日",
}
"""Forms of a date, after which a time may follow."""
_PERIODS = {
    "year, month": r"(?P<Y>\d{4})(?:[-/]|-?M|年)(?P<m>\d{1,2})月?",
    "year.month": r"(?P<Y>(?:1[5-9]|2[01])\d{2})\.(?P<m>0[1-9]|1[0-2])",
    "month, year": r"(?P<m>\d{1,2})[-/.](?P<Y>\d{4})",
    "name, year": rf"{_NAME},?[-/ ']{{0,2}}{_YEAR}",
    "year, name": rf"(?P<Y>\d{{4}})[-/ ]?{_NAME}",
    "year, quarter": r"(?P<Y>\d{4})[-:/ ]{0,2}[Qq](?P<q>[1-4])",
    "quarter, year": rf"(?:[Qq](?P<q>[1-4])|(?P<q2>[1-4])[Qq])[-/' ]?{_YEAR}",
    "year, week": r"(?P<G>\d{4})[- ]?[Ww](?P<V>\d{1,2})(?:-?(?P<u>[1-7]))?",
}
"""Forms of months, quarters and weeks."""
_FORMS = {
    **{
        name: re.compile(rf"(?:(?P<a>{_WEEKDAY}),? )?{date}{_TIME}", re.IGNORECASE)
        for name, date in _DATES.items()
    },
    **{name: re.compile(period) for name, period in _PERIODS.items()},
}
CLOCK = re.compile(_CLOCK)
_ORDERS = ("dm", "md", "ymd")  # the last of 24-01-31
_ORDER_CODES = {  # what the groups i, j and Y hold
    "dm": {"i": "d", "j": "m"},
    "md": {"i": "m", "j": "d"},
    "ymd": {"i": "y", "j": "m", "Y": "d"},
}
_INTERVAL = re.compile(r"(.+?) +[-–] +(?=\d.*\d)(.+)|(\d{4}-\d\d-\d\d.*?)/(\d{4}-.+)")


def starts_of_intervals(texts: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the first of two times in each text, ``00:00 - 01:00``, where all have two."""
    matches = [_INTERVAL.fullmatch(text) for text in texts]
    if not all(matches):
        return list(texts), ()
    starts = [(match[1] or match[3]) for match in matches if match is not None]
    return starts, ("times are the beginnings of intervals",)


def find_form(texts: Sequence[str], *, at_least: float = 1.0) -> str | None:
    """Return the name of the form that most texts have, if that is enough of them."""
    matched = {name: len(match_form(texts, name, at_least=0)) for name in _FORMS}
    best = max(matched, key=lambda name: matched[name])
    return best if matched[best] >= max(1, at_least * len(texts)) else None


def match_form(
    texts: Sequence[str], name: str, *, at_least: float = 1.0
) -> dict[str, re.Match[str]]:
    """Return the match of each text that has a form; none where too few have it."""
    matches = {text: match for text in texts if (match := _FORMS[name].fullmatch(text))}
    matches = {text: match for text, match in matches.items() if _has_month(match)}
    return matches if len(matches) >= at_least * len(texts) else {}


def read_time_texts(
    starts: Sequence[str],
    texts: Sequence[str],
    start_of: Mapping[str, str],
    form: str,
    step: str = "",
) -> TimeColumn:
    """Return the times of texts in a form.

    Args:
        starts: Distinct texts.
        texts: Text of each cell.
        start_of: The text of `starts` of each distinct cell.
        form: Name of their form.
        step: The step, such as ``30 minutes``; empty if it is not known.
    """
    matches = match_form(starts, form, at_least=0)
    in_rows = [start_of.get(text, "") for text in texts]
    readings = _readings(matches, form, in_rows, step)
    reading = readings[0]
    faults = []
    for row, text in enumerate(in_rows):
        if text in reading.times:
            continue
        if text not in matches:
            is_name = _FORMS[form].fullmatch(text) is not None
            remedy = "Write English names of months, or 2024-01." if is_name else ""
            faults.append(CellFault(row, "holds no time" if text else "is empty", remedy))
        else:
            order = {"dm": " with the day first", "md": " with the month first"}.get(reading.order)
            faults.append(CellFault(row, f"has no such date{order or ''}", _REMEDY_ORDER))
    if len(readings) > 1:
        row = next(row for row, text in enumerate(in_rows) if len(_times_in(text, readings)) > 1)
        days = " or ".join(_times_in(in_rows[row], readings))
        faults = [CellFault(row, f"may be {days}, and no row decides it", _REMEDY_ORDER)]
    microseconds = [reading.times.get(text, 0) for text in in_rows]
    notes = _describe_reading(reading, matches)
    column = _with_zone(microseconds, in_rows, matches, reading)
    return column._replace(faults=(*faults, *column.faults), notes=(*notes, *column.notes))


def read_pattern(texts: Sequence[str], pattern: re.Pattern[str]) -> TimeColumn | None:
    """Return the times of texts that have one form, such as ``20240131``; None if one has not.

    Args:
        texts: Distinct texts.
        pattern: Has groups named as the codes of ``strftime``.
    """
    matches = {text: match for text in texts if (match := pattern.fullmatch(text))}
    reading = _reading(matches, "", {})
    if len(matches) < len(texts) or reading.invalid:
        return None
    return to_seconds(np.array(list(reading.times.values())), _strftime_of(matches, ""), "")


def _has_month(match: re.Match[str]) -> bool:
    """Return whether the name of a month in a text, if there is one, is known."""
    name = match.groupdict().get("b")
    return name is None or name.casefold() in _MONTH_NUMBERS


class _Reading(NamedTuple):
    """One way to read the texts of a column.

    Args:
        times: Microseconds since 1970 of each text in its own zone.
        invalid: Texts that are not dates.
        order: What the numbers of dates are; empty where that is clear.
    """

    times: dict[str, int]
    invalid: tuple[str, ...]
    order: str = ""


def _times_in(text: str, readings: Sequence[_Reading]) -> list[str]:
    """Return the different days of a text in some readings, in ISO form."""
    days = [reading.times[text] // (_DAY * MICROSECONDS) for reading in readings]
    return [str(np.datetime64(day, "D")) for day in dict.fromkeys(days)]


def _readings(
    matches: Mapping[str, re.Match[str]], form: str, in_rows: Sequence[str], step: str
) -> list[_Reading]:
    """Return the readings of a column that differ: one, unless nothing decides between them."""
    centuries = _centuries(matches, in_rows)
    if form != "numbers":
        return [_reading(matches, "", centuries)]
    sample = next(iter(matches.values()))
    orders = _ORDERS if len(sample["Y"]) == 2 else _ORDERS[:2]
    readings = [_reading(matches, order, centuries) for order in orders]
    fewest = min(len(reading.invalid) for reading in readings)
    readings = [reading for reading in readings if len(reading.invalid) == fewest]
    if fewest or sample["s"] == ".":  # the day comes first wherever dates have points
        return readings[:1]
    num_readings = len(readings)
    different = {tuple(reading.times.values()): reading for reading in reversed(readings)}
    readings = list(reversed(different.values()))
    if len(different) == 1:  # 5/5/2024 in all rows: only ISO form can continue
        return [readings[0]._replace(order="")] if num_readings > 1 else readings
    return _regular_readings(readings, step)


def _regular_readings(readings: Sequence[_Reading], step: str) -> list[_Reading]:
    """Return the one reading whose times have the step, or are on a grid without gaps; else all."""
    seconds = [
        np.array(list(reading.times.values()), np.int64) // MICROSECONDS for reading in readings
    ]
    grids = [regular_grid(times) for times in seconds]
    of_reading = [(reading, grid) for reading, grid in zip(readings, grids, strict=True) if grid]
    expected = [reading for reading, (grid_step, _) in of_reading if str(grid_step) == step]
    regular = [reading for reading, (_, num_empty) in of_reading if num_empty == 0]
    return next((sure for sure in (expected, regular) if len(sure) == 1), list(readings))


def _reading(
    matches: Mapping[str, re.Match[str]], order: str, centuries: Mapping[str, int]
) -> _Reading:
    """Return the texts read with some order of day and month."""
    times: dict[str, int] = {}
    invalid: list[str] = []
    for text, match in matches.items():
        try:
            times[text] = _microseconds(match.groupdict(), order, centuries)
        except ValueError:
            invalid.append(text)
    return _Reading(times, tuple(invalid), order)


def _microseconds(parts: Mapping[str, str | None], order: str, centuries: Mapping[str, int]) -> int:
    """Return the microseconds since 1970 of the parts of a text; raise ValueError if no date."""
    days = _date_of(parts, order, centuries).toordinal() - UNIX_DAY
    hour, minute, second = (
        int(parts.get(name) or parts.get(f"{name}2") or 0) for name in ("H", "M", "S")
    )
    if half := parts.get("p"):
        if not 1 <= hour <= 12:
            raise ValueError("no hour of a half day")
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    is_end = hour == 24 and minute == second == 0
    if not (is_end or hour < 24) or minute > 59 or second > 60:
        raise ValueError("no time of a day")
    fraction = int((parts.get("f") or "0")[:6].ljust(6, "0"))
    return (days * _DAY + hour * 3600 + minute * 60 + second) * MICROSECONDS + fraction


def _date_of(
    parts: Mapping[str, str | None], order: str, centuries: Mapping[str, int]
) -> datetime.date:
    """Return the date of the parts of a text; raise ValueError if there is none."""
    if week_year := parts.get("G"):
        week, weekday = int(parts["V"] or 1), int(parts.get("u") or 1)
        return datetime.date.fromisocalendar(int(week_year), week, weekday)
    year, first, second = parts["Y"] or "", parts.get("i") or "", parts.get("j") or ""
    if order == "ymd":
        year, month, day = first, int(second), int(year)
    elif order:
        day, month = (int(first), int(second)) if order == "dm" else (int(second), int(first))
    else:
        month, day = _month_of(parts), int(parts.get("d") or 1)
    return datetime.date(centuries.get(year, 0) + int(year), month, day)


def _month_of(parts: Mapping[str, str | None]) -> int:
    """Return the month of the parts of a text, the first of a quarter; 0 if there is none."""
    if name := parts.get("b"):
        return _MONTH_NUMBERS[name.casefold()]
    if quarter := parts.get("q") or parts.get("q2"):
        return 3 * int(quarter) - 2
    return int(parts.get("m") or 0)


def _centuries(matches: Mapping[str, re.Match[str]], in_rows: Sequence[str]) -> dict[str, int]:
    """Return the century of each year of two digits.

    They are 1950 to 2049, or all in one century where the years of the rows then vary less.
    """
    years = {match.groupdict().get("Y") or "" for match in matches.values()}
    if not any(len(year) == 2 for year in years):
        return {}
    years |= {match.groupdict().get("i") or "" for match in matches.values()}
    short = {year for year in years if len(year) == 2}
    candidates = [
        {year: 2000 if int(year) < 50 else 1900 for year in short},
        dict.fromkeys(short, 1900),
        dict.fromkeys(short, 2000),
    ]
    written = [matches[text].groupdict().get("Y") or "" for text in in_rows if text in matches]

    def variation(candidate: dict[str, int]) -> int:
        years = [candidate.get(year, 0) + int(year) for year in written]
        return int(np.abs(np.diff(years)).sum())

    return min(candidates, key=variation)


def _describe_reading(reading: _Reading, matches: Mapping[str, re.Match[str]]) -> list[str]:
    """Return notes on the order of day and month, and on the century."""
    notes = []
    words = {"dm": "the day", "md": "the month", "ymd": "the year"}
    if reading.order:
        notes.append(f"in dates {words[reading.order]} comes first")
    sample = next(iter(matches.values())).groupdict()
    if sample.get("i") and not reading.order:
        notes.append("times continue as year-month-day")
    if len(sample.get("Y") or "") == 2 and reading.times:
        first, last = (
            np.datetime64(time // (_DAY * MICROSECONDS), "D").astype("M8[Y]")
            for time in (min(reading.times.values()), max(reading.times.values()))
        )
        years = f"{first}" if first == last else f"{first} to {last}"
        notes.append(f"years of two digits are {years}")
    return notes


def _with_zone(
    microseconds: Sequence[int],
    in_rows: Sequence[str],
    matches: Mapping[str, re.Match[str]],
    reading: _Reading,
) -> TimeColumn:
    """Return times to the second, in their zone, or in UTC where UTC offsets change."""
    form = _strftime_of(matches, reading.order)
    texts = [matches[t].groupdict().get("z") if t in reading.times else None for t in in_rows]
    written = next((text for text in texts if text), "")
    offsets = [_offset_of(text) for text in texts]
    distinct = sorted({offset for offset in offsets if offset is not None})
    times = np.array(microseconds, np.int64)
    if len(distinct) < 2:
        zone = _offset_text(distinct[0]) if distinct else ""
        column = to_seconds(times, form.replace("%z", written), zone)
    else:
        change = f"UTC offsets change ({', '.join(map(_offset_text, distinct))})"
        in_day = times[[offset is not None for offset in offsets]] % (_DAY * MICROSECONDS)
        if len(np.unique(in_day)) == 1:
            note = f"{change}: days are those of the local time"
            column = to_seconds(times, form.replace("%z", "").rstrip(), "", [note])
        else:
            minutes = np.array([offset or 0 for offset in offsets], np.int64)
            times = times - minutes * 60 * MICROSECONDS
            form, note = form.replace("%z", "+00:00"), f"{change}: times are in UTC"
            column = to_seconds(times, form, "+00:00", [note])
    faults = tuple(
        CellFault(row, "has no UTC offset, others have one", "Write it for all, or for none.")
        for row, (text, offset) in enumerate(zip(in_rows, offsets, strict=True))
        if distinct and offset is None and text in reading.times
    )
    return column._replace(faults=faults)


def _offset_of(zone: str | None) -> int | None:
    """Return the UTC offset of a zone in minutes; None without one."""
    if not zone:
        return None
    if zone.upper() in _ZONES:
        return _ZONES[zone.upper()]
    digits = re.sub(r"[^\d]", "", zone)
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits), 0)
    return (-1 if "-" in zone else 1) * (60 * hours + minutes)


def _offset_text(minutes: int) -> str:
    """Return a UTC offset: ``+01:00``."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _strftime_of(matches: Mapping[str, re.Match[str]], order: str) -> str:
    """Return the form of the texts of a column, by the one with the most parts."""
    exemplar = max(
        matches.values(),
        key=lambda match: (sum(part is not None for part in match.groups()), len(match[0])),
    )
    if "i" in exemplar.groupdict() and not order:  # times continue in ISO form
        has_clock = (exemplar["H"] or exemplar["H2"]) is not None
        return f"%Y-%m-%d %H:%M:%S{'%z' if exemplar['z'] else ''}" if has_clock else ""
    unpadded = _unpadded_parts(matches.values())
    names = _ORDER_CODES.get(order, {})
    form, end = "", 0
    text = exemplar[0]
    parts = [(exemplar.span(name), name) for name, part in exemplar.groupdict().items() if part]
    for (first, last), name in sorted(parts):
        literal = text[end:first]
        end = last
        if name == "s":
            form += literal + text[first:last]
        elif name == "f":
            form += literal[:-1]
        else:
            part = text[first:last]
            code = names.get(name, name).removesuffix("2")
            is_half = exemplar.groupdict().get("p") is not None
            form += literal + _code_of(code, part, is_half=is_half, is_short=name in unpadded)
    form += text[end:]
    return "" if form == "%Y-%m-%d" else form


def _unpadded_parts(matches: Collection[re.Match[str]]) -> set[str]:
    """Return the names of the parts that are written without a leading zero.

    Those are the parts of which a text has a single digit; day and month are written alike.
    """
    names = {
        name
        for match in matches
        for name, part in match.groupdict().items()
        if part is not None and len(part) == 1
    }
    dates = {"d", "m", "i", "j"}
    return names | dates if dates & names else names


def _code_of(code: str, part: str, *, is_half: bool, is_short: bool) -> str:
    """Return the code of ``strftime`` for a part of a text.

    Args:
        code: Its letter.
        part: The part.
        is_half: Whether hours are those of half a day, before or after noon.
        is_short: Whether numbers have no leading zero.
    """
    if code in "Yy":
        return "%Y" if len(part) == 4 else "%y"
    if code in "ab":
        return f"%{code.upper()}" if len(part) > 3 else f"%{code}"
    if code == "H" and is_half:
        code = "I"
    return f"%-{code}" if is_short and code in "mdHIV" else f"%{code}"
