"""Dates and times as people write them, read by regular expressions that a whole column decides.

Cost: one match for each distinct text, and a few for the first ones, by which the form is found.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.number_columns import CellFault
from regard.data.readers.time_column import MICROSECONDS, TimeColumn, to_seconds
from regard.data.readers.time_grid import regular_grid
from regard.data.time_series import MONTH_NAMES, WEEKDAY_NAMES

_REMEDY_ORDER = "Write dates as year-month-day: 2024-01-31."
UNIX_DAY = datetime.date(1970, 1, 1).toordinal()
_DAY = 86_400
MONTH_NUMBERS = {
    text: number
    for number, name in enumerate(MONTH_NAMES, start=1)
    for text in (name.casefold(), name[:3].casefold())
} | {"sept": 9}
"""Months by their English names, in full or of three letters, case-folded."""
_ZONES = {"Z": 0, "UTC": 0, "GMT": 0, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180} | {
    **{"WET": 0, "WEST": 60, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300},
    **{"MST": -420, "MDT": -360, "PST": -480, "PDT": -420},
}

_WEEKDAY = "|".join(f"{name[:3]}|{name}" for name in WEEKDAY_NAMES)
_NAME = r"(?P<b>[^\W\d_]{3,9})\.?"
_YEAR = r"(?P<Y>\d{4}|\d{2})"
_REGION = r"(?:\[[\w/+-]+\])?"  # after a UTC offset, as Java writes it: [Europe/Berlin]
_ZONE = r"(?: ?(?P<z>(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|" + "|".join(_ZONES) + rf"){_REGION})"
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
    "": {"Y": "y", "d": "d"},
    "dm": {"Y": "y", "i": "d", "j": "m"},
    "md": {"Y": "y", "i": "m", "j": "d"},
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
    faults = _find_faults(in_rows, matches, form, reading)
    if len(readings) > 1:
        row = next(row for row, text in enumerate(in_rows) if len(_times_in(text, readings)) > 1)
        days = " or ".join(_times_in(in_rows[row], readings))
        faults = [CellFault(row, f"may be {days}, and no row decides it", _REMEDY_ORDER)]
    column = _with_zone(in_rows, matches, reading)
    notes = _describe_reading(reading, matches)
    return column._replace(faults=(*faults, *column.faults), notes=(*notes, *column.notes))


def _find_faults(
    in_rows: Sequence[str], matches: Mapping[str, re.Match[str]], form: str, reading: _Reading
) -> list[CellFault]:
    """Return the cells without a time, of which some do not have the form of the others."""
    faults = []
    order = {"dm": " with the day first", "md": " with the month first"}.get(reading.order, "")
    for row, text in enumerate(in_rows):
        if text in reading.times:
            continue
        if text in matches:
            faults.append(CellFault(row, f"has no such date{order}", _REMEDY_ORDER))
        else:
            is_name = _FORMS[form].fullmatch(text) is not None
            remedy = "Write English names of months, or 2024-01." if is_name else ""
            faults.append(CellFault(row, "holds no time" if text else "is empty", remedy))
    return faults


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
    return name is None or name.casefold() in MONTH_NUMBERS


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
    readings = _possible_readings(matches, form, _centuries(matches, in_rows))
    is_sure = len(readings) == 1 or bool(readings[0].invalid)
    if is_sure or next(iter(matches.values()))["s"] == ".":  # with points the day comes first
        return readings[:1]
    different = {tuple(reading.times.values()): reading for reading in reversed(readings)}
    if len(different) == 1:  # 5/5/2024 in all rows: only ISO form can continue
        return [readings[0]._replace(order="")]
    return _regular_readings(list(reversed(different.values())), step)


def _possible_readings(
    matches: Mapping[str, re.Match[str]], form: str, centuries: Mapping[str, int]
) -> list[_Reading]:
    """Return the readings in the orders of day and month that leave the fewest invalid dates."""
    orders: Sequence[str] = ("",)
    if form == "numbers":
        has_short_years = len(next(iter(matches.values()))["Y"]) == 2
        orders = _ORDERS if has_short_years else _ORDERS[:2]
    readings = [_reading(matches, order, centuries) for order in orders]
    fewest = min(len(reading.invalid) for reading in readings)
    return [reading for reading in readings if len(reading.invalid) == fewest]


def _regular_readings(readings: Sequence[_Reading], step: str) -> list[_Reading]:
    """Return the one reading whose times have the step, or are on a grid without gaps; else all."""
    grids = [
        regular_grid(np.array(list(reading.times.values()), np.int64) // MICROSECONDS)
        for reading in readings
    ]
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
    fraction = int((parts.get("f") or "0")[:6].ljust(6, "0"))
    return (days * _DAY + _seconds_of_day(parts)) * MICROSECONDS + fraction


def _seconds_of_day(parts: Mapping[str, str | None]) -> int:
    """Return the seconds since midnight, up to 24:00; raise ValueError for no time of a day."""
    hour, minute, second = _number_at(parts, "H"), _number_at(parts, "M"), _number_at(parts, "S")
    if half := parts.get("p"):
        if not 1 <= hour <= 12:
            raise ValueError("no hour of a half day")
        hour = hour % 12 + 12 * (half[0] in "pP")
    last_hour = 24 if minute == second == 0 else 23
    if hour > last_hour or max(minute, second - 1) > 59:
        raise ValueError("no time of a day")
    return hour * 3600 + minute * 60 + second


def _number_at(parts: Mapping[str, str | None], name: str, default: int = 0) -> int:
    """Return the number of a part of a text, of which some forms have the name with a 2."""
    return int(parts.get(name) or parts.get(f"{name}2") or default)


def _date_of(
    parts: Mapping[str, str | None], order: str, centuries: Mapping[str, int]
) -> datetime.date:
    """Return the date of the parts of a text; raise ValueError if there is none."""
    if week_year := parts.get("G"):
        week, weekday = _number_at(parts, "V"), _number_at(parts, "u", 1)
        return datetime.date.fromisocalendar(int(week_year), week, weekday)
    written = {code: parts.get(name) or "" for name, code in _ORDER_CODES[order].items()}
    month = int(written["m"]) if order else _month_of(parts)
    year = centuries.get(written["y"], 0) + int(written["y"])
    return datetime.date(year, month, int(written["d"] or 1))


def _month_of(parts: Mapping[str, str | None]) -> int:
    """Return the month of the parts of a text, the first of a quarter; 0 if there is none."""
    if name := parts.get("b"):
        return MONTH_NUMBERS[name.casefold()]
    if quarter := parts.get("q") or parts.get("q2"):
        return 3 * int(quarter) - 2
    return int(parts.get("m") or 0)


def _centuries(matches: Mapping[str, re.Match[str]], in_rows: Sequence[str]) -> dict[str, int]:
    """Return the century of each year of two digits.

    They are 1950 to 2049, or all in one century where the years of the rows then vary less.
    """
    short = _short_parts(matches, "Y")
    if not short:
        return {}
    short |= _short_parts(matches, "i")
    candidates = [
        {year: 2000 if int(year) < 50 else 1900 for year in short},
        dict.fromkeys(short, 1900),
        dict.fromkeys(short, 2000),
    ]
    written = [matches[text]["Y"] for text in in_rows if text in matches]

    def variation(candidate: dict[str, int]) -> int:
        years = [candidate.get(year, 0) + int(year) for year in written]
        return int(np.abs(np.diff(years)).sum())

    return min(candidates, key=variation)


def _short_parts(matches: Mapping[str, re.Match[str]], name: str) -> set[str]:
    """Return the parts with a name that have two digits."""
    parts = (match.groupdict().get(name) for match in matches.values())
    return {part for part in parts if part is not None and len(part) == 2}


def _describe_reading(reading: _Reading, matches: Mapping[str, re.Match[str]]) -> list[str]:
    """Return notes on the order of day and month, and on the century."""
    notes = []
    sample = next(iter(matches.values())).groupdict()
    if reading.order:
        words = {"dm": "the day", "md": "the month", "ymd": "the year"}
        notes.append(f"in dates {words[reading.order]} comes first")
    elif sample.get("i"):
        notes.append("times continue as year-month-day")
    if len(sample.get("Y") or "") == 2 and reading.times:
        first, last = min(reading.times.values()), max(reading.times.values())
        years = np.array([first, last], "M8[us]").astype("M8[Y]")
        notes.append(f"years of two digits are {' to '.join(dict.fromkeys(map(str, years)))}")
    return notes


def _with_zone(
    in_rows: Sequence[str], matches: Mapping[str, re.Match[str]], reading: _Reading
) -> TimeColumn:
    """Return times to the second, in their zone, or in UTC where UTC offsets change."""
    form = _strftime_of(matches, reading.order)
    zone_of = {text: matches[text].groupdict().get("z") for text in reading.times}
    zones = list(map(zone_of.get, in_rows))
    offsets = list(map(_offset_of, zones))
    distinct = sorted({offset for offset in offsets if offset is not None})
    times = np.array([reading.times.get(text, 0) for text in in_rows], np.int64)
    if len(distinct) > 1:
        column = _with_changes(times, offsets, distinct, form)
    else:
        form = form.replace("%z", next(filter(None, zones), ""))
        column = to_seconds(times, form, "".join(map(_offset_text, distinct)))
    faults = _find_lacking_offsets(in_rows, zone_of) if distinct else ()
    return column._replace(faults=faults)


def _find_lacking_offsets(
    in_rows: Sequence[str], zone_of: Mapping[str, str | None]
) -> tuple[CellFault, ...]:
    """Return the cells without a UTC offset, by the zone of each text that is a time."""
    without = {text for text, zone in zone_of.items() if not zone}
    reason, remedy = "has no UTC offset, others have one", "Write it for all, or for none."
    return tuple(
        CellFault(row, reason, remedy) for row, text in enumerate(in_rows) if text in without
    )


def _with_changes(
    times: NDArray[np.int64], offsets: Sequence[int | None], distinct: Sequence[int], form: str
) -> TimeColumn:
    """Return times with UTC offsets that change: in UTC, but days at one time are local ones.

    Args:
        times: Microseconds since 1970 in the zone of each, ``[rows]``.
        offsets: UTC offset of each in minutes; None without one.
        distinct: The offsets, sorted.
        form: How times are written.
    """
    change = f"UTC offsets change ({', '.join(map(_offset_text, distinct))})"
    in_day = times[[offset is not None for offset in offsets]] % (_DAY * MICROSECONDS)
    if len(np.unique(in_day)) == 1:
        note = f"{change}: days are those of the local time"
        return to_seconds(times, re.sub(f" ?%z{_REGION}", "", form), "", [note])
    minutes = np.array([offset or 0 for offset in offsets], np.int64)
    note = f"{change}: times are in UTC"
    utc = times - minutes * 60 * MICROSECONDS
    form = re.sub(f"%z{_REGION}", "+00:00", form)
    return to_seconds(utc, form, "+00:00", [note])


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
    exemplar = max(matches.values(), key=lambda match: (-match.groups().count(None), len(match[0])))
    if "i" in exemplar.groupdict() and not order:  # times continue in ISO form
        has_clock = exemplar["H"] or exemplar["H2"]
        return "%Y-%m-%d %H:%M:%S" + "%z" * bool(exemplar["z"]) if has_clock else ""
    form = _form_of(exemplar, _ORDER_CODES[order], _unpadded_parts(matches.values()))
    return "" if form == "%Y-%m-%d" else form


def _form_of(match: re.Match[str], codes: Mapping[str, str], unpadded: Collection[str]) -> str:
    """Return a text with the codes of ``strftime`` for its parts.

    Args:
        match: The text and its parts.
        codes: Letter of the code of parts whose name is another.
        unpadded: Names of the parts that have no leading zero.
    """
    form, end = "", 0
    parts = match.groupdict()
    hour = "I" if parts.get("p") else "H"  # of half a day, before or after noon
    for (first, last), name in sorted(
        (match.span(name), name) for name in filter(parts.get, parts)
    ):
        literal, part = match[0][end:first], match[0][first:last]
        end = last
        code = codes.get(name, name).removesuffix("2").replace("H", hour)
        if name == "f":
            form += literal[:-1]
        else:
            form += literal + (
                part if name == "s" else _code_of(code, part, is_short=name in unpadded)
            )
    return form + match[0][end:]


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


def _code_of(code: str, part: str, *, is_short: bool) -> str:
    """Return the code of ``strftime`` for a part of a text.

    Args:
        code: Its letter.
        part: The part.
        is_short: Whether numbers have no leading zero.
    """
    if code in "Yyab":
        return f"%{code.upper()}" if len(part) > 3 else f"%{code.lower()}"
    return f"%-{code}" if is_short and code in "mdHIV" else f"%{code}"
