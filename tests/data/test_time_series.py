"""Series on a regular grid of times, and its calendar."""

import numpy as np
import pytest

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.errors import DataError


def index(start, unit="day", count=1, **rest):
    return TimeIndex(start=start, step=TimeStep(count=count, unit=unit), **rest)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (TimeStep(), "row"),
        (TimeStep(count=30, unit="minute"), "30 minutes"),
        (TimeStep(unit="month"), "month"),
    ],
)
def test_a_step_is_written_in_words_and_read_from_them(step, text):
    assert str(step) == text
    assert TimeStep.parse(text) == step


def test_a_step_of_no_units_is_refused():
    with pytest.raises(ValueError, match="count=0: 1 or more units were expected"):
        TimeStep(count=0)


TIMES = [
    (index("5", "row", 2), ["7", "9", "11"]),
    (index("2024-02-28T12:00", "day"), ["2024-02-29T12:00:00", "2024-03-01T12:00:00"]),
    (index("2024-02-28"), ["2024-02-29", "2024-03-01"]),
    (index("2024-12-31T23:30", "minute", 30), ["2025-01-01T00:00:00", "2025-01-01T00:30:00"]),
    (index("2024-01-31", "month"), ["2024-02-29", "2024-03-31", "2024-04-30"]),
    (index("2023-02-28", "month", day=31), ["2023-03-31", "2023-04-30"]),
    (index("2023-02-28", "month"), ["2023-03-28", "2023-04-28"]),
    (index("2023-02-28", "month", day=30), ["2023-03-30", "2023-04-30"]),
    (index("2023-11", "quarter", form="%YQ%q"), ["2024Q1", "2024Q2"]),
    (index("2020-02-29", "year"), ["2021-02-28", "2022-02-28", "2023-02-28", "2024-02-29"]),
    (index("2024-12-23", "week", form="%G-W%V"), ["2025-W01", "2025-W02"]),
    (index("2024-01-01", form="%-d.%-m.%y"), ["2.1.24", "3.1.24"]),
    (index("2024-01-01", "month", form="%b %Y"), ["Feb 2024", "Mar 2024"]),
    (index("1970-01-01", "hour", form="%s"), ["3600", "7200"]),
    (index("2024-01-01", "hour", zone="+01:00"), ["2024-01-01T01:00:00+01:00"]),
    (index("1899-12-31", form="%d/%m/%Y"), ["01/01/1900"]),
]


@pytest.mark.parametrize(("times", "expected"), TIMES)
def test_times_follow_the_calendar_in_the_form_of_the_file(times, expected):
    assert times.times(1, len(expected)) == expected


UNITS = {
    "row": 0,
    "second": 12,
    "minute": 10,
    "hour": 8,
    "day": 6,
    "week": 4,
    "month": 2,
    "quarter": 2,
    "year": 0,
}


@pytest.mark.parametrize(("unit", "num_features"), UNITS.items())
def test_the_calendar_has_the_cycles_that_are_longer_than_the_unit(unit, num_features):
    times = index("7" if unit == "row" else "2024-01-01", unit)
    calendar = times.calendar(0, 5)
    assert (calendar.shape, calendar.dtype) == ((5, num_features), np.float32)


def test_the_calendar_of_hours_repeats_by_day_week_and_year():
    hours = index("2024-01-01", "hour")  # a Monday
    calendar = hours.calendar(0, 24 * 367)
    day, week, year = calendar[:, :2], calendar[:, 2:4], calendar[:, 6:]
    np.testing.assert_allclose(day[6], [1, 0], atol=1e-6)  # six in the morning
    np.testing.assert_allclose(week[84], [0, -1], atol=1e-6)  # noon of Thursday
    np.testing.assert_allclose(day[24:], day[:-24], atol=1e-6)
    np.testing.assert_allclose(week[168:], week[:-168], atol=1e-6)
    np.testing.assert_allclose(year[24 * 366], year[0], atol=1e-6)  # a leap year


def test_the_calendar_of_months_is_the_same_every_year_whatever_day_they_are_written_with():
    ends, starts = index("2023-01-31", "month"), index("2023-01-01", "month")
    calendar = ends.calendar(0, 24)
    np.testing.assert_array_equal(calendar[:12], calendar[12:])
    np.testing.assert_array_equal(calendar, starts.calendar(0, 24))
    np.testing.assert_allclose(calendar[3], [1, 0], atol=1e-6)


def test_times_after_the_year_9999_are_refused():
    index = TimeIndex(start="9999-12-30T00:00:00", step=TimeStep(unit="day"))
    assert index.times(0, 2) == ["9999-12-30", "9999-12-31"]
    with pytest.raises(DataError, match="times from 9999-12-30T00:00:00 on go beyond the year"):
        index.times(0, 3)


def test_the_calendar_continues_after_the_last_value():
    days = index("2024-01-01")
    np.testing.assert_array_equal(days.calendar(0, 20)[15:], days.calendar(15, 5))


def test_series_end_earlier_and_keep_what_is_known_ahead():
    days = index("2024-01-01")
    series = TimeSeries(
        path="a.csv",
        names=["a", "b"],
        values=[np.arange(4.0), np.arange(3.0)],
        indices=[days, days],
        known=[np.zeros((6, 1)), np.zeros((3, 1))],
        observed=[np.ones((4, 2)), np.ones((3, 2))],
    )
    cut = series.until([2, 3])
    assert [len(values) for values in cut.values] == [2, 3]
    assert [rows.shape for rows in cut.observed] == [(2, 2), (3, 2)]
    assert [rows.shape for rows in cut.known] == [(6, 1), (3, 1)]
    assert len(series.select([1, 0, 1])) == 3
    assert series.select([1]).names == ["b"]
    with pytest.raises(ValueError, match="series b has 3 values, not 4"):
        series.until([4, 4])
