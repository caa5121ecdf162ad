"""A column of dates or times in one of the usual forms, which all of its cells decide.

Dates are ISO (``2024-01-31``, ``2024-01-31T12:30+01:00``, ``20240131``), with the day or the month
first (``31.12.2024``, ``12/31/2024``), with English names of months (``31 Jan 2024``), or months
(``2024-01``, ``Jan 2024``), quarters (``2024Q1``), weeks (``2024-W05``) and years. Numbers are
years, seconds or milliseconds since 1970, days since 1900 (Excel), or they count. Cost: one match
of a regular expression for each distinct text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from regard.data.readers.number_columns import CellFault
from regard.data.readers.time_column import TimeColumn, has_word
from regard.data.readers.time_numbers import NUMBER, read_time_numbers
from regard.data.readers.time_texts import (
    CLOCK,
    find_form,
    match_form,
    read_time_texts,
    starts_of_intervals,
)

_TIME_NAMES = (
    "time date datetime timestamp ds dt ts month year period day week quarter hour minute second t "
    "step epoch unix yearmonth yyyymm yyyymmdd yyyy yr "
    "datum zeit zeitpunkt zeitstempel monat jahr tag woche quartal stunde "
    "mois année annee jour semaine heure trimestre fecha mes año ano dia día semana hora "
    "mese anno giorno 日期 时间 時間 日付 日時 年 年月 月"
)
TIME_NAMES = frozenset(_TIME_NAMES.split())
"""Words in the names of columns of times, folded; a column of numbers with one may be times."""
_MIN_MATCHED = 0.6  # fraction of the cells of a column of times that have one form
_NUM_SAMPLED = 50  # distinct cells by which the form is found


def is_time_name(name: str) -> bool:
    """Return whether a column is named for times.

    >>> is_time_name("Order Date"), is_time_name("utc_timestamp"), is_time_name("price")
    (True, True, False)
    """
    return has_word(name, TIME_NAMES)


def are_times(cells: Sequence[str], name: str) -> bool:
    """Return whether most cells that are not empty are dates, or numbers in a column for times."""
    filled = _distinct(map(str.strip, cells))[:_NUM_SAMPLED]
    numbers = list(filter(NUMBER.fullmatch, filled))
    if len(numbers) > len(filled) / 2 and not match_form(filled, "year.month"):
        return is_time_name(name) and read_time_numbers(numbers, name) is not None
    starts, _ = starts_of_intervals(filled)
    return bool(filled) and find_form(starts, at_least=_MIN_MATCHED) is not None


def are_clocks(cells: Sequence[str]) -> bool:
    """Return whether all cells are times of a day: ``12:30``."""
    filled = _distinct(map(str.strip, cells))
    return bool(filled) and all(map(CLOCK.fullmatch, filled))


def read_time_column(cells: Sequence[str], name: str, step: str = "") -> TimeColumn | None:
    """Return the times of a column; None where it has none.

    Args:
        cells: Text of each cell.
        name: Name of the column, by which numbers are years, dates or a count.
        step: The step, such as ``30 minutes``; empty if it is not known.
    """
    texts = list(map(str.strip, cells))
    distinct = _distinct(texts)
    if not distinct:
        return None
    numbers = list(filter(NUMBER.fullmatch, distinct))
    if 2 * len(numbers) > len(distinct) and not match_form(distinct, "year.month"):
        column = read_time_numbers(numbers, name)
        return None if column is None else _spread(texts, numbers, column)
    starts, notes = starts_of_intervals(distinct)
    form = find_form(starts[:_NUM_SAMPLED], at_least=_MIN_MATCHED)
    if form is None:
        return None
    column = read_time_texts(starts, texts, dict(zip(distinct, starts, strict=True)), form, step)
    return column._replace(notes=(*notes, *column.notes))


def _distinct(texts: Iterable[str]) -> list[str]:
    """Return texts that are not empty, each once, in the order of the first."""
    return list(dict.fromkeys(filter(None, texts)))


def _spread(texts: Sequence[str], numbers: Sequence[str], column: TimeColumn) -> TimeColumn:
    """Return the times of all cells by those of the distinct ones."""
    time_of = dict(zip(numbers, column.times.tolist(), strict=True))
    faults = tuple(
        CellFault(row, "holds no time") for row, text in enumerate(texts) if text not in time_of
    )
    times = np.array([time_of.get(text, 0) for text in texts], np.int64)
    return column._replace(times=times, faults=faults)
