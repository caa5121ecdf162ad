"""Dates and times as people write them: read in any usual form, and what is refused."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from tests.data.readers.series_files import first, table

from regard.data.time_series import MONTH_NAMES
from regard.errors import DataError

NAN = float("nan")
FORMS = {
    "iso dates": (["2024-02-28", "2024-02-29"], "day", "2024-03-01"),
    "iso times": (
        ["2024-01-31T23:00:00", "2024-01-31T23:30:00"],
        "30 minutes",
        "2024-02-01T00:00:00",
    ),
    "utc": (["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"], "hour", "2024-01-01T02:00:00Z"),
    "an offset": (
        ["2024-01-01 00:00+01:00", "2024-01-01 01:00+01:00"],
        "hour",
        "2024-01-01 02:00+01:00",
    ),
    "points": (["30.12.2024", "31.12.2024"], "day", "01.01.2025"),
    "points, short": (["8.1.2024", "9.1.2024"], "day", "10.1.2024"),
    "month first": (["12/30/2024", "12/31/2024"], "day", "01/01/2025"),
    "day first": (["30/12/2024", "31/12/2024"], "day", "01/01/2025"),
    "half days": (["1/31/2024 11:00 PM", "1/31/2024 11:30 PM"], "30 minutes", "2/1/2024 12:00 AM"),
    "months": (["2024-11", "2024-12"], "month", "2025-01"),
    "names of months": (["Nov 2024", "Dec 2024"], "month", "Jan 2025"),
    "full names": (["30 December 2024", "31 December 2024"], "day", "01 January 2025"),
    "american": (["Dec 30, 2024", "Dec 31, 2024"], "day", "Jan 01, 2025"),
    "quarters": (["2024Q3", "2024Q4"], "quarter", "2025Q1"),
    "quarters, year last": (["Q3 2024", "Q4 2024"], "quarter", "Q1 2025"),
    "weeks": (["2024-W51", "2024-W52"], "week", "2025-W01"),
    "weeks by their first days": (["2020-W53-1", "2021-W01-1"], "week", "2021-W02-1"),
    "days of weeks": (["2020-W53-6", "2020-W53-7"], "day", "2021-W01-1"),
    "month numbers": (["2024M11", "2024M12"], "month", "2025M01"),
    "years": (["2023", "2024"], "year", "2025"),
    "compact": (["20241230", "20241231"], "day", "20250101"),
    "compact hours": (["2024123122", "2024123123"], "hour", "2025010100"),
    "seconds since 1970": (["1700000000", "1700003600"], "hour", "1700007200"),
    "milliseconds": (["1700000000000", "1700000060000"], "minute", "1700000120000"),
    "days of Excel": (["45290", "45291"], "day", "2024-01-01"),
    "two digits": (["30.12.99", "31.12.99"], "day", "01.01.00"),
    "intervals": (
        ["2024-01-01 00:00 - 2024-01-01 01:00", "2024-01-01 01:00 - 2024-01-01 02:00"],
        "hour",
        "2024-01-01 02:00",
    ),
    "the end of the day": (["2024-01-01 23:00", "2024-01-01 24:00"], "hour", "2024-01-02 01:00"),
    "ends of months": (["2023-01-31", "2023-02-28", "2023-03-31"], "month", "2023-04-30"),
    "ends of months from February": (["2023-02-28", "2023-03-31"], "month", "2023-04-30"),
    "leap days": (["2020-02-29", "2021-02-28", "2022-02-28", "2023-02-28"], "year", "2024-02-29"),
    "ends of quarters": (["2023-12-31", "2024-03-31"], "quarter", "2024-06-30"),
    "half years": (["2024-01-01", "2024-07-01"], "6 months", "2025-01-01"),
    "four weeks": (["2023-02-01", "2023-03-01", "2023-03-29"], "4 weeks", "2023-04-26"),
}
MIDNIGHTS = {
    "new york in utc": (
        "2021-11-05 04:00",
        "2021-11-06 04:00",
        "2021-11-07 04:00",
        "2021-11-08 05:00",
    ),
    "berlin in utc": (
        "2024-03-29 23:00",
        "2024-03-30 23:00",
        "2024-03-31 22:00",
        "2024-04-01 22:00",
    ),
    "london in utc": (
        "2024-03-30 00:00",
        "2024-03-31 00:00",
        "2024-03-31 23:00",
        "2024-04-01 23:00",
    ),
}


@pytest.mark.parametrize(("times", "step", "after"), FORMS.values(), ids=FORMS)
def test_times_have_any_usual_form_and_continue_in_it(read_series, times, step, after):
    file = read_series(table(times))
    index = file.series.indices[0]
    assert str(file.step) == step
    assert index.times(len(times), 1) == [after]
    assert file.series.values[0].tolist() == list(map(float, range(len(times))))


def test_a_row_at_midnight_may_have_no_time_as_r_writes_it(read_series):
    step, times, _ = first(
        read_series(table(["2024-01-01 23:30:00", "2024-01-02", "2024-01-02 00:30:00"]))
    )
    assert step == "30 minutes"
    assert times == ["2024-01-01 23:30:00", "2024-01-02 00:00:00", "2024-01-02 01:00:00"]


def test_whole_numbers_that_rise_by_a_constant_step_are_times_by_their_name(read_series):
    assert first(read_series(table([10, 20, 30], "step,v"))) == (
        "10 rows",
        ["10", "20", "40"],
        [0, 1, 2],
    )


def test_years_with_decimals_are_months(read_series):
    file = read_series(table(["1949.0", "1949.08333333", "1949.16666667"], "time,v"))
    assert first(file) == ("month", ["1949-01", "1949-02", "1949-04"], [0, 1, 2])
    assert "decimals of years are months" in file.read_as.text


def test_the_middles_of_months_as_years_with_decimals_are_months(read_series):
    file = read_series(table(["1749.042", "1749.123", "1749.204", "1749.288"], "time,v"))
    assert first(file)[:2] == ("month", ["1749-01", "1749-02", "1749-05"])


def test_days_and_months_of_one_month_only_are_decided_by_regular_steps(read_series):
    months = [f"01/{month:02}/{year}" for year in (2023, 2024) for month in range(1, 13)]
    assert first(read_series(table(months)))[:2] == (
        "month",
        ["01/01/2023", "01/02/2023", "01/01/2025"],
    )
    american = [f"{month:02}/01/{year}" for year in (2023, 2024) for month in range(1, 13)]
    assert first(read_series(table(american)))[:2] == (
        "month",
        ["01/01/2023", "02/01/2023", "01/01/2025"],
    )


def test_dates_that_may_be_days_or_months_are_refused(read_series):
    with pytest.raises(
        DataError,
        match=r"f\.csv:3: column date may be 2024-02-01 or 2024-01-02, "
        r'and no row decides it\.  "01/02/2024"  Write dates as year-month-day',
    ):
        read_series(table(["01/01/2024", "01/02/2024", "01/03/2024"]))


def test_dates_that_are_equal_with_the_day_or_the_month_first_continue_in_iso_form(read_series):
    file = read_series(table(["5/5/2024 22:00", "5/5/2024 23:00"]))
    assert file.series.indices[0].times(2, 1) == ["2024-05-06 00:00:00"]
    assert "(times continue as year-month-day)" in file.read_as.text


def test_a_step_that_is_known_decides_what_the_times_leave_open(read_series):
    days = [f"{day:02}/03/2024" for day in (1, 2, 3, 4)]
    for step, after in (("day", "05/03/2024"), ("month", "01/04/2024")):
        times = days if step == "day" else ["01/01/2024", "01/02/2024", "01/03/2024"]
        file = read_series(table(times), step=step)
        assert (str(file.step), file.series.indices[0].times(len(times), 1)) == (step, [after])
    friday_and_monday = read_series(table(["2024-01-05", "2024-01-08"]), step="day")
    np.testing.assert_array_equal(friday_and_monday.series.values[0], [0, NAN, NAN, 1])
    quarters = read_series(table(["2024-01", "2024-04"]), step="month")
    assert (str(quarters.step), len(quarters.series.values[0])) == ("month", 4)
    assert str(read_series(table(["2024-01-05", "2024-01-06"]), step="week").step) == "day"


def test_a_date_that_contradicts_the_order_of_the_others_is_refused(read_series):
    with pytest.raises(
        DataError,
        match=r'f\.csv:4: column date has no such date with the day first\.  "01/13/2024"',
    ):
        read_series(table(["13/01/2024", "14/01/2024", "01/13/2024"]))


@pytest.mark.parametrize(
    "day", ["2023-02-29", "2024-13-01", "2024-0-10", "2024-01-00", "31.04.2024", "2024-W60"]
)
def test_a_day_that_does_not_exist_is_refused(read_series, day):
    with pytest.raises(
        DataError,
        match=rf'f\.csv:2: column date has no such date\.  "{day}"|with the day first\.  "{day}"',
    ):
        read_series(table([day]))


def test_years_of_two_digits_are_in_the_century_in_which_they_follow_each_other(read_series):
    file = read_series(table(["Nov-49", "Dec-49", "Jan-50"]))
    assert str(file.series.indices[0].datetimes(0, 1)[0]) == "1949-11-01T00:00:00"
    assert "years of two digits are 1949 to 1950" in file.read_as.text
    file = read_series(table(["Dec-99", "Jan-00"]))
    assert "years of two digits are 1999 to 2000" in file.read_as.text


def test_a_date_and_a_time_of_day_may_be_in_two_columns(read_series):
    file = read_series("Date;Time;kW\n31.12.2023;23:30;1,5\n01.01.2024;00:00;2,5\n")
    assert first(file) == (
        "30 minutes",
        ["31.12.2023 23:30", "01.01.2024 00:00", "01.01.2024 00:30"],
        [1.5, 2.5],
    )


def test_a_date_and_an_hour_may_be_in_two_columns(read_series):
    file = read_series(["date,hour,v", "2024-01-01,23,1", "2024-01-01,24,2", "2024-01-02,1,3"])
    assert first(file)[:2] == ("hour", ["2024-01-01 23:00", "2024-01-02 00:00", "2024-01-02 02:00"])


def test_year_month_day_and_hour_may_be_columns(read_series):
    file = read_series(["No,year,month,day,hour,pm", "1,2010,1,31,23,129", "2,2010,2,1,0,148"])
    assert first(file) == (
        "hour",
        ["2010-01-31 23:00", "2010-02-01 00:00", "2010-02-01 01:00"],
        [129, 148],
    )
    file = read_series(["Year,Month,v", "1949,12,112", "1950,1,118"])
    assert first(file)[:2] == ("month", ["1949-12", "1950-01", "1950-02"])


@pytest.mark.parametrize(
    ("lines", "step", "times"),
    [
        (["year,month,v", "2023,Dec,1", "2024,Jan,2"], "month", ["2023-12", "2024-01", "2024-02"]),
        (
            ["month,year,v", "june,2024,1", "JUL,2024,2"],
            "month",
            ["2024-06", "2024-07", "2024-08"],
        ),
        (["year,quarter,v", "2023,Q4,1", "2024,Q1,2"], "quarter", ["2023Q4", "2024Q1", "2024Q2"]),
        (["year,week,v", "2020,W53,1", "2021,W01,2"], "week", ["2020-W53", "2021-W01", "2021-W02"]),
        (
            ["year,month,day,v", "2024,Feb,28,1", "2024,Feb,29,2"],
            "day",
            ["2024-02-28", "2024-02-29", "2024-03-01"],
        ),
    ],
)
def test_columns_of_months_quarters_and_weeks_may_have_names(read_series, lines, step, times):
    file = read_series(lines)
    assert first(file) == (step, times, [1, 2])
    assert len(file.series.names) == 1


def test_months_of_another_language_in_a_column_of_their_own_are_refused(read_series):
    lines = ["Jahr,Monat,Wert", "2024,Januar,1", "2024,Februar,2", "2025,Januar,3"]
    with pytest.raises(DataError, match=r'column Jahr holds no times\.  "2024 Januar"'):
        read_series(lines)


@pytest.mark.parametrize(("num_months", "is_noted"), [(12, True), (3, False)])
def test_a_table_of_years_by_months_is_noted(read_series, num_months, is_noted):
    months = [name[:3] for name in MONTH_NAMES[:num_months]]
    rows = ([year, *range(num_months)] for year in (2022, 2023, 2024))
    file = read_series([",".join(map(str, row)) for row in (["Year", *months], *rows)])
    assert len(file.series.names) == num_months
    assert any("each month is a series of its own" in note for note in file.notes) == is_noted


def test_numbers_whose_difference_has_more_than_64_bits_are_no_times(read_series):
    with pytest.raises(DataError, match=r"f.csv: no column of dates or times"):
        read_series(table(["-4999999999999999999", "4999999999999999999"], "time,v"))
    assert (
        read_series(table(["-9", "4000000000000000001"], "t,v")).step.count == 4000000000000000010
    )


def test_a_part_of_a_second_is_counted(read_series):
    file = read_series(table(["2024-01-01T00:00:00.000", "2024-01-01T00:00:00.010"]))
    assert first(file) == ("10 rows", ["0", "10", "20"], [0, 1])
    assert (
        "times are closer than a second: counted in milliseconds from the first"
        in file.read_as.text
    )


def test_utc_offsets_that_change_are_put_on_one_grid_in_utc(read_series):
    times = ["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00", "2024-03-31T04:00+02:00"]
    file = read_series(table(times))
    assert first(file) == (
        "hour",
        ["2024-03-31T00:00+00:00", "2024-03-31T01:00+00:00", "2024-03-31T03:00+00:00"],
        [0, 1, 2],
    )
    assert "UTC offsets change (+01:00, +02:00): times are in UTC" in file.read_as.text


@pytest.mark.parametrize(
    ("hours", "after"),
    [
        (("00:00:00", "01:00:00", "03:00:00"), "2024-03-31T02:00:00+00:00"),
        (("01:00:00", "03:00:00", "04:00:00"), "2024-03-31T03:00:00+00:00"),
    ],
)
def test_the_name_of_a_zone_is_left_out_of_times_in_utc(read_series, hours, after):
    times = [
        f"2024-03-31T{hour}{'+01:00' if hour < '02' else '+02:00'}[Europe/Berlin]" for hour in hours
    ]
    assert first(read_series(table(times)))[1][-1] == after


def test_the_name_of_a_zone_is_left_out_of_days_of_the_local_time(read_series):
    times = ["2024-03-31T00:00+01:00[Europe/Berlin]", "2024-04-01T00:00+02:00[Europe/Berlin]"]
    assert first(read_series(table(times)))[1][-1] == "2024-04-02T00:00"


def test_days_with_utc_offsets_that_change_are_those_of_the_local_time(read_series):
    file = read_series(
        table(
            ["2024-03-30 00:00:00+01:00", "2024-03-31 00:00:00+01:00", "2024-04-01 00:00:00+02:00"]
        )
    )
    assert first(file)[:2] == (
        "day",
        ["2024-03-30 00:00:00", "2024-03-31 00:00:00", "2024-04-02 00:00:00"],
    )


def test_a_time_without_the_utc_offset_that_others_have_is_refused(read_series):
    with pytest.raises(
        DataError, match=r"f\.csv:3: column date has no UTC offset, others have one"
    ):
        read_series(table(["2024-01-01T00:00Z", "2024-01-01T01:00", "2024-01-01T02:00Z"]))


def half_hours(start, end, *, skip=(), repeat=()):
    """Return half hours as texts; those of an hour in `skip` are left out, in `repeat` twice."""
    time, texts = datetime.fromisoformat(start), []
    while time <= datetime.fromisoformat(end):
        hour = time.replace(minute=0).isoformat(" ", "minutes")
        texts += [] if hour in skip else [time.isoformat(" ", "minutes")]
        if hour in repeat and time.minute == 30:
            texts += texts[-2:]
        time += timedelta(minutes=30)
    return texts


def test_an_hour_that_does_not_exist_when_clocks_are_set_forward_is_missing(read_series):
    times = half_hours("2024-03-31 00:00", "2024-03-31 04:00", skip=["2024-03-31 02:00"])
    file = read_series(table(times))
    np.testing.assert_array_equal(file.series.values[0], [0, 1, 2, 3, NAN, NAN, 4, 5, 6])
    assert file.notes == [
        "clocks are set forward at 2024-03-31 02:00: the hour that does not exist is missing",
    ]


def test_an_hour_that_is_there_twice_when_clocks_are_set_back_is_averaged(read_series):
    times = half_hours("2024-10-27 01:00", "2024-10-27 03:30", repeat=["2024-10-27 02:00"])
    file = read_series(table(times))
    assert file.series.values[0].tolist() == [0, 1, 3, 4, 6, 7]
    assert file.notes == [
        "clocks are set back at 2024-10-27 02:00: the hour that is there twice is averaged"
    ]
    in_order = sorted(zip(times, range(8), strict=True))
    file = read_series(["date,v", *(f"{time},{value}" for time, value in in_order)])
    assert file.series.values[0].tolist() == [0, 1, 3, 4, 6, 7]


def local_times(zone, start, minutes, num_times):
    """Return lines of times without UTC offsets of a zone, from a time of UTC."""
    first, zone = datetime.fromisoformat(f"{start}+00:00"), ZoneInfo(zone)
    times = (first + timedelta(minutes=minutes * i) for i in range(num_times))
    return [time.astimezone(zone).strftime("%Y-%m-%d %H:%M") for time in times]


CHANGES = {  # zone, first time in UTC, minutes, and what is said
    "Thursday at midnight": (
        *("Africa/Cairo", "2024-10-31 16:00", 60),
        "clocks are set back at 2024-10-31 23:00: the hour that is there twice is averaged",
    ),
    "Friday at midnight": (
        *("Africa/Cairo", "2024-04-25 18:00", 20),
        "clocks are set forward at 2024-04-26 00:00: the hour that does not exist is missing",
    ),
    "half an hour back": (
        *("Australia/Lord_Howe", "2024-04-06 13:00", 10),
        "clocks are set back at 2024-04-07 01:30: the half hour that is there twice is averaged",
    ),
    "half an hour forward": (
        *("Australia/Lord_Howe", "2024-10-05 14:00", 30),
        "clocks are set forward at 2024-10-06 02:00: the half hour that does not exist is missing",
    ),
    "any weekday": (
        *("Asia/Tehran", "2021-09-21 15:30", 60),
        "clocks are set back at 2021-09-21 23:00: the hour that is there twice is averaged",
    ),
    "two hours": (
        *("Antarctica/Troll", "2024-10-26 20:00", 60),
        "clocks are set back at 2024-10-27 01:00: the span of two hours that is there twice is "
        "averaged",
    ),
    "at half past": (
        *("Europe/Berlin", "2024-10-26 20:30", 60),
        "clocks are set back at 2024-10-27 02:00: the hour that is there twice is averaged",
    ),
}


@pytest.mark.skipif(not available_timezones(), reason="no database of time zones")
@pytest.mark.parametrize(("zone", "start", "minutes", "note"), CHANGES.values(), ids=CHANGES)
def test_clocks_are_set_where_some_zone_sets_them(read_series, zone, start, minutes, note):
    times = local_times(zone, start, minutes, 60 * 14 // minutes)
    file = read_series(table(times))
    assert file.notes == [note]
    assert int(np.isnan(file.series.values[0]).sum()) == ("forward" in note) * (
        (30 if "half hour" in note else 60) // minutes
    )


def test_many_repeated_times_are_no_changes_of_the_clock(read_series):
    times = [f"2024-06-{day:02} {hour:02}:00" for day in range(1, 31) for hour in range(24)]
    times += times[1::2]
    with pytest.raises(DataError, match="a second value for 2024-06-01 01:00"):
        read_series(table(times))


def test_a_repeated_hour_on_another_day_is_refused(read_series):
    times = half_hours("2024-06-16 01:00", "2024-06-16 03:30", repeat=["2024-06-16 02:00"])
    with pytest.raises(DataError, match=r"f\.csv:6: a second value for 2024-06-16 02:00"):
        read_series(table(times))


@pytest.mark.parametrize("times", MIDNIGHTS.values(), ids=MIDNIGHTS)
def test_days_at_midnight_of_local_time_are_days_in_utc(read_series, times):
    file = read_series(table(times))
    assert (str(file.step), file.series.values[0].tolist()) == ("day", [0, 1, 2, 3])
    assert file.notes == ["days begin at two times of day, as clocks are set: the later is taken"]


def test_months_at_midnight_of_local_time_are_months_in_utc(read_series):
    times = ["2024-01-31 23:00", "2024-02-29 23:00", "2024-03-31 22:00", "2024-04-30 22:00"]
    assert first(read_series(table(times)))[0] == "month"
