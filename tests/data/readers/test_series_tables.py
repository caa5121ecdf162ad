"""Series of numbers with times: what files may look like, and what is refused."""

import gzip
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from regard.data.readers.series_tables import read_time_series
from regard.data.readers.source import DataSource
from regard.errors import DataError

NAN = float("nan")


@pytest.fixture
def read(tmp_path):
    """Reads a text as a file; lists of lines are joined."""

    def read_text(text, name="f.csv", **options):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else "\n".join(text) + "\n")
        return read_time_series(path, **options)

    return read_text


def table(times, header="date,v"):
    """Return a table whose values are 0, 1, 2 ..."""
    return [header, *(f'"{time}",{number}' for number, time in enumerate(times))]


def first(file):
    """Return step, times of the first two values and of the one after the last, and the values."""
    values, index = file.series.values[0], file.series.indices[0]
    times = [*index.times(0, 2), *index.times(len(values), 1)]
    return str(file.step), times, values.tolist()


# Times


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


@pytest.mark.parametrize(("times", "step", "after"), FORMS.values(), ids=FORMS)
def test_times_have_any_usual_form_and_continue_in_it(read, times, step, after):
    file = read(table(times))
    index = file.series.indices[0]
    assert str(file.step) == step
    assert index.times(len(times), 1) == [after]
    assert file.series.values[0].tolist() == list(map(float, range(len(times))))


def test_a_row_at_midnight_may_have_no_time_as_r_writes_it(read):
    step, times, _ = first(
        read(table(["2024-01-01 23:30:00", "2024-01-02", "2024-01-02 00:30:00"]))
    )
    assert step == "30 minutes"
    assert times == ["2024-01-01 23:30:00", "2024-01-02 00:00:00", "2024-01-02 01:00:00"]


def test_whole_numbers_that_rise_by_a_constant_step_are_times_by_their_name(read):
    assert first(read(table([10, 20, 30], "step,v"))) == ("10 rows", ["10", "20", "40"], [0, 1, 2])


def test_years_with_decimals_are_months(read):
    file = read(table(["1949.0", "1949.08333333", "1949.16666667"], "time,v"))
    assert first(file) == ("month", ["1949-01", "1949-02", "1949-04"], [0, 1, 2])
    assert "decimals of years are months" in file.read_as.text


def test_the_middles_of_months_as_years_with_decimals_are_months(read):
    file = read(table(["1749.042", "1749.123", "1749.204", "1749.288"], "time,v"))
    assert first(file)[:2] == ("month", ["1749-01", "1749-02", "1749-05"])


def test_days_and_months_of_one_month_only_are_decided_by_regular_steps(read):
    months = [f"01/{month:02}/{year}" for year in (2023, 2024) for month in range(1, 13)]
    assert first(read(table(months)))[:2] == ("month", ["01/01/2023", "01/02/2023", "01/01/2025"])
    american = [f"{month:02}/01/{year}" for year in (2023, 2024) for month in range(1, 13)]
    assert first(read(table(american)))[:2] == ("month", ["01/01/2023", "02/01/2023", "01/01/2025"])


def test_dates_that_may_be_days_or_months_are_refused(read):
    with pytest.raises(
        DataError,
        match=r"f\.csv:3: column date may be 2024-02-01 or 2024-01-02, "
        r'and no row decides it\.  "01/02/2024"  Write dates as year-month-day',
    ):
        read(table(["01/01/2024", "01/02/2024", "01/03/2024"]))


def test_dates_that_are_equal_with_the_day_or_the_month_first_continue_in_iso_form(read):
    file = read(table(["5/5/2024 22:00", "5/5/2024 23:00"]))
    assert file.series.indices[0].times(2, 1) == ["2024-05-06 00:00:00"]
    assert "(times continue as year-month-day)" in file.read_as.text


def test_a_step_that_is_known_decides_what_the_times_leave_open(read):
    days = [f"{day:02}/03/2024" for day in (1, 2, 3, 4)]
    for step, after in (("day", "05/03/2024"), ("month", "01/04/2024")):
        times = days if step == "day" else ["01/01/2024", "01/02/2024", "01/03/2024"]
        file = read(table(times), step=step)
        assert (str(file.step), file.series.indices[0].times(len(times), 1)) == (step, [after])
    friday_and_monday = read(table(["2024-01-05", "2024-01-08"]), step="day")
    np.testing.assert_array_equal(friday_and_monday.series.values[0], [0, NAN, NAN, 1])
    quarters = read(table(["2024-01", "2024-04"]), step="month")
    assert (str(quarters.step), len(quarters.series.values[0])) == ("month", 4)
    assert str(read(table(["2024-01-05", "2024-01-06"]), step="week").step) == "day"


def test_a_date_that_contradicts_the_order_of_the_others_is_refused(read):
    with pytest.raises(
        DataError,
        match=r'f\.csv:4: column date has no such date with the day first\.  "01/13/2024"',
    ):
        read(table(["13/01/2024", "14/01/2024", "01/13/2024"]))


@pytest.mark.parametrize(
    "day", ["2023-02-29", "2024-13-01", "2024-0-10", "2024-01-00", "31.04.2024", "2024-W60"]
)
def test_a_day_that_does_not_exist_is_refused(read, day):
    with pytest.raises(
        DataError,
        match=rf'f\.csv:2: column date has no such date\.  "{day}"|with the day first\.  "{day}"',
    ):
        read(table([day]))


def test_years_of_two_digits_are_in_the_century_in_which_they_follow_each_other(read):
    file = read(table(["Nov-49", "Dec-49", "Jan-50"]))
    assert str(file.series.indices[0].datetimes(0, 1)[0]) == "1949-11-01T00:00:00"
    assert "years of two digits are 1949 to 1950" in file.read_as.text
    file = read(table(["Dec-99", "Jan-00"]))
    assert "years of two digits are 1999 to 2000" in file.read_as.text


def test_a_date_and_a_time_of_day_may_be_in_two_columns(read):
    file = read("Date;Time;kW\n31.12.2023;23:30;1,5\n01.01.2024;00:00;2,5\n")
    assert first(file) == (
        "30 minutes",
        ["31.12.2023 23:30", "01.01.2024 00:00", "01.01.2024 00:30"],
        [1.5, 2.5],
    )


def test_a_date_and_an_hour_may_be_in_two_columns(read):
    file = read(["date,hour,v", "2024-01-01,23,1", "2024-01-01,24,2", "2024-01-02,1,3"])
    assert first(file)[:2] == ("hour", ["2024-01-01 23:00", "2024-01-02 00:00", "2024-01-02 02:00"])


def test_year_month_day_and_hour_may_be_columns(read):
    file = read(["No,year,month,day,hour,pm", "1,2010,1,31,23,129", "2,2010,2,1,0,148"])
    assert first(file) == (
        "hour",
        ["2010-01-31 23:00", "2010-02-01 00:00", "2010-02-01 01:00"],
        [129, 148],
    )
    file = read(["Year,Month,v", "1949,12,112", "1950,1,118"])
    assert first(file)[:2] == ("month", ["1949-12", "1950-01", "1950-02"])


def test_numbers_whose_difference_has_more_than_64_bits_are_no_times(read):
    with pytest.raises(DataError, match=r"f.csv: no column of dates or times"):
        read(table(["-4999999999999999999", "4999999999999999999"], "time,v"))
    assert read(table(["-9", "4000000000000000001"], "t,v")).step.count == 4000000000000000010


def test_a_part_of_a_second_is_counted(read):
    file = read(table(["2024-01-01T00:00:00.000", "2024-01-01T00:00:00.010"]))
    assert first(file) == ("10 rows", ["0", "10", "20"], [0, 1])
    assert (
        "times are closer than a second: counted in milliseconds from the first"
        in file.read_as.text
    )


def test_utc_offsets_that_change_are_put_on_one_grid_in_utc(read):
    times = ["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00", "2024-03-31T04:00+02:00"]
    file = read(table(times))
    assert first(file) == (
        "hour",
        ["2024-03-31T00:00+00:00", "2024-03-31T01:00+00:00", "2024-03-31T03:00+00:00"],
        [0, 1, 2],
    )
    assert "UTC offsets change (+01:00, +02:00): times are in UTC" in file.read_as.text


def test_days_with_utc_offsets_that_change_are_those_of_the_local_time(read):
    file = read(
        table(
            ["2024-03-30 00:00:00+01:00", "2024-03-31 00:00:00+01:00", "2024-04-01 00:00:00+02:00"]
        )
    )
    assert first(file)[:2] == (
        "day",
        ["2024-03-30 00:00:00", "2024-03-31 00:00:00", "2024-04-02 00:00:00"],
    )


def test_a_time_without_the_utc_offset_that_others_have_is_refused(read):
    with pytest.raises(
        DataError, match=r"f\.csv:3: column date has no UTC offset, others have one"
    ):
        read(table(["2024-01-01T00:00Z", "2024-01-01T01:00", "2024-01-01T02:00Z"]))


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


def test_an_hour_that_does_not_exist_when_clocks_are_set_forward_is_missing(read):
    times = half_hours("2024-03-31 00:00", "2024-03-31 04:00", skip=["2024-03-31 02:00"])
    file = read(table(times))
    np.testing.assert_array_equal(file.series.values[0], [0, 1, 2, 3, NAN, NAN, 4, 5, 6])
    assert file.notes == [
        "clocks are set forward at 2024-03-31 02:00: the hour that does not exist is missing",
    ]


def test_an_hour_that_is_there_twice_when_clocks_are_set_back_is_averaged(read):
    times = half_hours("2024-10-27 01:00", "2024-10-27 03:30", repeat=["2024-10-27 02:00"])
    file = read(table(times))
    assert file.series.values[0].tolist() == [0, 1, 3, 4, 6, 7]
    assert file.notes == [
        "clocks are set back at 2024-10-27 02:00: the hour that is there twice is averaged"
    ]
    in_order = sorted(zip(times, range(8), strict=True))
    file = read(["date,v", *(f"{time},{value}" for time, value in in_order)])
    assert file.series.values[0].tolist() == [0, 1, 3, 4, 6, 7]


def test_a_repeated_hour_on_another_day_is_refused(read):
    times = half_hours("2024-06-16 01:00", "2024-06-16 03:30", repeat=["2024-06-16 02:00"])
    with pytest.raises(DataError, match=r"f\.csv:6: a second value for 2024-06-16 02:00"):
        read(table(times))


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


@pytest.mark.parametrize("times", MIDNIGHTS.values(), ids=MIDNIGHTS)
def test_days_at_midnight_of_local_time_are_days_in_utc(read, times):
    file = read(table(times))
    assert (str(file.step), file.series.values[0].tolist()) == ("day", [0, 1, 2, 3])
    assert file.notes == ["days begin at two times of day, as clocks are set: the later is taken"]


def test_months_at_midnight_of_local_time_are_months_in_utc(read):
    times = ["2024-01-31 23:00", "2024-02-29 23:00", "2024-03-31 22:00", "2024-04-30 22:00"]
    assert first(read(table(times)))[0] == "month"


# Rows and the grid


def test_missing_values_and_missing_rows_are_nan_and_counted(read):
    file = read(
        ["date,v", "2024-01-01,1", "2024-01-02,NA", "2024-01-04,4", "2024-01-05,", "2024-01-06,6"]
    )
    np.testing.assert_array_equal(file.series.values[0], [1, NAN, NAN, 4, NAN, 6])
    assert file.notes == [
        "1 time has no row: its value is missing (first: 2024-01-03)",
        "2 values are missing",
    ]


@pytest.mark.parametrize("cell", ["", "NaN", "n/a", "#N/A", "null", "-", ".", "..", ":", "?"])
def test_cells_that_mean_a_missing_value_are_missing(read, cell):
    file = read(["date,v", "2024-01-01,1", f"2024-01-02,{cell}", "2024-01-03,3"])
    np.testing.assert_array_equal(file.series.values[0], [1, NAN, 3])


def test_working_days_are_days_with_missing_week_ends(read):
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(12)]
    file = read(table([day for day in days if day.weekday() < 5]))
    np.testing.assert_array_equal(file.series.values[0], [0, 1, 2, 3, 4, NAN, NAN, 5, 6, 7, 8, 9])
    assert file.notes == ["no rows on Saturdays and Sundays: their values are missing"]


def test_irregular_steps_are_refused_with_the_two_times(read):
    with pytest.raises(DataError) as error:
        read(table(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03 05:17"]))
    assert str(error.value).endswith(
        "f.csv:5: from 2024-01-03 00:00 (line 4) to 2024-01-03 05:17 is not a multiple of the "
        "usual step (day).  Bring the times to a regular step: add up or average the values of an "
        "hour or a day."
    )


def test_steps_of_which_one_divides_the_others_are_one_grid_unless_it_is_mostly_empty(read):
    file = read(table(["2024-01-01", "2024-01-03", "2024-01-05", "2024-01-06", "2024-01-08"]))
    np.testing.assert_array_equal(file.series.values[0], [0, NAN, 1, NAN, 2, 3, NAN, 4])
    with pytest.raises(DataError, match=r"f\.csv:5: .* is not a multiple of the usual step \(week"):
        read(table(["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-16"]))


def test_times_that_are_mostly_empty_are_refused(read):
    times = [datetime(2024, 1, 1) + timedelta(seconds=s) for s in (0, 1, 2, 90_000, 90_001)]
    with pytest.raises(
        DataError,
        match=r"f\.csv:5: no row from 2024-01-01 00:00:02 \(line 4\) to 2024-01-02 01:00:00",
    ):
        read(table(times))


def test_last_working_days_of_months_are_months(read):
    file = read(table(["2024-01-31", "2024-02-29", "2024-03-29", "2024-04-30"]))
    assert first(file) == ("month", ["2024-01-31", "2024-02-29", "2024-05-31"], [0, 1, 2, 3])
    assert file.notes == ["days of the months differ: only the months count"]


def test_rows_in_another_order_are_sorted(read):
    file = read(["date,v", "2024-01-03,3", "2024-01-02,2", "2024-01-01,1"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert file.notes == ["rows are in the reverse order of their times: sorted"]
    file = read(["date,v", "2024-01-01,1", "2024-01-03,3", "2024-01-02,2"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert file.notes == ["rows are not in the order of their times (line 4): sorted"]


def test_identical_rows_are_dropped(read):
    file = read(["date,v", "2024-01-01,1", "2024-01-02,2", "2024-01-02,2", "2024-01-03,3"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert [(row.line, row.reason, row.text) for row in file.dropped] == [
        (4, "repeats the time of another row", "2024-01-02,2")
    ]


def test_a_row_that_fills_what_another_of_its_time_lacks_is_merged(read):
    file = read(["date,a,b", "2024-01-01,1,2", "2024-01-02,3,", "2024-01-02,,4"])
    assert [values.tolist() for values in file.series.values] == [[1, 3], [2, 4]]


def test_two_values_for_one_time_are_refused_with_the_usual_cause(read):
    with pytest.raises(DataError) as error:
        read(["date,v", "2024-01-01,1", "2024-01-02,2", "2024-01-02,3"])
    assert str(error.value).endswith(
        "f.csv:4: a second value for 2024-01-02 in column v, 3 after 2 in line 3.  "
        "Several series?  Name the columns: `data.columns=TIME,VALUE,SERIES`"
    )


def test_a_constant_series_is_noted(read):
    file = read(["date,v", "2024-01-01,-5", "2024-01-02,-5"])
    assert file.series.values[0].tolist() == [-5, -5]
    assert file.notes == ["v has one value only"]


@pytest.mark.parametrize("rows", [[], ["2024-01-01,1"]])
def test_fewer_than_two_rows_are_refused(read, rows):
    with pytest.raises(DataError, match=r"f\.csv: there (are no rows|is one row)\."):
        read(["date,v", *rows])


def test_a_series_without_a_value_is_refused(read):
    with pytest.raises(DataError, match=r"f\.csv: no value at all in v\."):
        read(["date,v", "2024-01-01,", "2024-01-02,NA"])
    with pytest.raises(DataError, match=r"f\.csv: no value at all in B\.  Leave it out\."):
        read(["date,shop,v", "2024-01-01,A,1", "2024-01-02,A,2", "2024-01-01,B,", "2024-01-02,B,"])


def test_rows_before_the_first_value_are_left_out(read):
    file = read(["date,a,b", "2024-01-01,,5", "2024-01-02,2,6", "2024-01-03,3,"])
    assert [index.start for index in file.series.indices] == [
        "2024-01-02T00:00:00",
        "2024-01-01T00:00:00",
    ]
    assert [values.tolist() for values in file.series.values] == [[2, 3], [5, 6]]
    assert file.notes == ["2 rows before the first or after the last value are left out"]


# Columns


def test_a_wide_table_has_a_series_for_each_column_of_numbers(read):
    file = read(["date,a,remark,b", "2024-01-01,1,x,10", "2024-01-02,2,,20"])
    assert file.series.names == ["a", "b"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [10, 20]]
    assert file.read_as.text == "time series every day, columns date, a, b (not used: remark)"


MIXED = ["date,shop,v", "2024-01-01,A,1", "2024-01-01,B,10", "2024-01-02,A,2", "2024-01-02,B,20"]
BLOCKS = ["shop,date,v", "A,2024-01-01,1", "A,2024-01-02,2", "B,2024-01-01,10", "B,2024-01-02,20"]


@pytest.mark.parametrize("rows", [MIXED, BLOCKS])
def test_a_long_table_has_a_series_for_each_name_mixed_or_in_blocks(read, rows):
    file = read(rows)
    assert file.series.names == ["A", "B"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [10, 20]]
    assert file.notes == []


def test_series_of_a_long_table_may_have_different_lengths(read):
    file = read(
        [
            "ds,unique_id,y",
            "2024-01-01,A,1",
            "2024-01-02,A,2",
            "2024-01-03,A,3",
            "2024-01-02,B,5",
            "2024-01-04,B,7",
        ]
    )
    assert file.series.values[0].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(file.series.values[1], [5, NAN, 7])
    assert file.series.indices[1].times(0, 1) == ["2024-01-02"]


def test_two_columns_of_numbers_may_name_the_series(read):
    rows = [
        f"2024-01-0{day},{store},{item},{100 * store + 10 * item + day}"
        for day in (1, 2)
        for store in (1, 2)
        for item in (1, 2)
    ]
    file = read(["date,store,item,sales", *rows])
    assert file.series.names == ["1 1", "1 2", "2 1", "2 2"]
    assert file.series.values[3].tolist() == [221, 222]


def test_a_long_table_with_two_columns_of_numbers_has_two_series_for_each_name(read):
    file = read([MIXED[0] + ",w", *(f"{row},{number}" for number, row in enumerate(MIXED[1:]))])
    assert file.series.names == ["A v", "A w", "B v", "B w"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [0, 2], [10, 20], [1, 3]]


def test_columns_can_be_named(read):
    rows = [
        "day,name,a,b",
        "2024-01-01,A,1,5",
        "2024-01-01,B,2,6",
        "2024-01-02,A,3,7",
        "2024-01-02,B,4,8",
    ]
    file = read(rows, columns=("day", "b", "name"))
    assert (file.series.names, [v.tolist() for v in file.series.values]) == (
        ["A", "B"],
        [[5, 7], [6, 8]],
    )
    assert file.read_as.unused == ("a",)
    file = read(
        ["t1,t2,v", "2024-01-01,2024-02-01,1", "2024-01-02,2024-02-02,2"], columns=("t2", "v")
    )
    assert file.series.indices[0].times(0, 1) == ["2024-02-01"]


def test_a_column_that_does_not_exist_is_refused_with_those_seen(read):
    with pytest.raises(
        DataError,
        match=r'f\.csv:1: no column "vlaue"\.  Columns seen: date, value\.  Did you mean value\?',
    ):
        read(["date,value", "2024-01-01,1"], columns=("date", "vlaue"))


def test_a_column_that_is_set_twice_is_refused(read):
    with pytest.raises(DataError, match=r'the column "w" is set for two things'):
        read(["date,v,w", "2024-01-01,1,2"], known=("w",), observed=("w",))


def test_columns_known_ahead_have_rows_of_the_future(read):
    rows = [
        "date,v,holiday,rain",
        "2024-01-01,1,true,5",
        "2024-01-02,2,false,6",
        "2024-01-03,,true,",
        "2024-01-04,,,",
    ]
    file = read(rows, known=("holiday",), observed=("rain",))
    series = file.series
    assert series.values[0].tolist() == [1, 2]
    assert series.known[0].tolist() == [[1], [0], [1]]
    assert series.observed[0].tolist() == [[5], [6]]
    assert (file.known_names, file.observed_names) == (("holiday",), ("rain",))
    assert "1 row has no value yet, but holiday: the future" in file.notes


def test_numbers_of_rows_and_parts_of_the_date_are_not_forecast(read):
    file = read(["id,date,weekday,v,label", "1,2024-01-01,1,5,0", "2,2024-01-02,2,6,1"])
    assert file.series.names == ["v"]
    assert file.read_as.unused == ("id", "weekday", "label")


def test_a_file_without_times_or_numbers_is_refused(read):
    with pytest.raises(
        DataError, match=r"f\.csv: no column of dates or times\.  Columns seen: a, b\."
    ):
        read(["a,b", "1,2", "2,3"])
    with pytest.raises(
        DataError, match=r"f\.csv: no column of numbers to be forecast\.  Columns seen: date, a\."
    ):
        read(["date,a", "2024-01-01,x", "2024-01-02,y"])
    with pytest.raises(DataError, match=r'f\.csv:2: column a holds no times\.  "x"'):
        read(["date,a,v", "2024-01-01,x,1", "2024-01-02,y,2"], columns=("a",))


def test_a_number_of_each_row_is_not_the_name_of_a_series(read):
    rows = [f"{n},2024-01-0{1 + n // 2},{'AB'[n % 2]},{n}" for n in range(6)]
    file = read(["id,date,family,sales", *rows])
    assert file.series.names == ["A", "B"]
    assert [values.tolist() for values in file.series.values] == [[0, 2, 4], [1, 3, 5]]


def test_a_row_without_the_name_of_its_series_is_refused(read):
    with pytest.raises(DataError, match=r"f\.csv:4: column shop, the name of the series, is empty"):
        read([*MIXED[:3], "2024-01-02,,2", MIXED[4]])


def test_series_with_different_steps_are_refused(read):
    hours = [f"2024-01-0{1 + n // 24} {n % 24:02}:00,A,{n}" for n in range(144)]
    days = [f"2024-01-0{n} 00:00,B,{n}" for n in range(1, 8)]
    with pytest.raises(DataError, match=r"series B has a step of one day, others of one hour"):
        read(["ds,id,y", *hours, *days])


def test_names_of_series_from_two_columns_are_distinct(read):
    rows = [f"2024-01-0{day},{name},{day}" for day in (1, 2) for name in ("a b,c", "a,b c", "a,c")]
    file = read(["date,name,item,v", *rows])
    assert file.series.names == ['"a b" "c"', '"a" "b c"', '"a" "c"']


def test_times_as_columns_and_lists_in_cells_are_refused_with_the_remedy(read):
    with pytest.raises(DataError, match=r"columns that are times: 1960, 1961, 1962\.  Write a row"):
        read(["country,1960,1961,1962", "A,1,2,3", "B,2,3,4"])
    with pytest.raises(DataError, match=r"column target holds lists\.  Write a row for each value"):
        read(['{"start": "2024-01-01", "target": [1, 2]}'] * 2, "f.jsonl")


# Cells


REFUSED = {
    "x": r'column v holds no number\.  "x"',
    "inf": r'column v is too large, or not finite\.  "inf"',
    "-Infinity": r"column v is too large, or not finite",
    "1e31": r"column v is too large, or not finite",
    "$5": r"column v holds no number",
    "1_000": r"column v holds no number",
}


@pytest.mark.parametrize(("cell", "message"), REFUSED.items())
def test_a_cell_without_a_number_is_refused_with_line_and_column(read, cell, message):
    with pytest.raises(DataError, match=rf"f\.csv:4: {message}"):
        read(["date,v", "2024-01-01,1", "2024-01-02,2", f"2024-01-03,{cell}"])


NUMBERS = {
    "decimal commas": (["1,5", "-0,25", "1.234,5"], [1.5, -0.25, 1234.5]),
    "thousands": (["1,234", "999", "1,234,567.5"], [1234, 999, 1234567.5]),
    "spaces": (["1 234", "999", "12\u00a0345,5"], [1234, 999, 12345.5]),
    "a minus sign": (["−5", "3", "1e3"], [-5, 3, 1000]),
}


def test_a_sign_of_a_currency_or_percent_is_left_out_where_all_numbers_have_it(read):
    file = read(["date,v", "2024-01-01,$5", "2024-01-02,", "2024-01-03,-$1.5"])
    np.testing.assert_array_equal(file.series.values[0], [5, NAN, -1.5])
    assert 'numbers of v are read without "$"' in file.read_as.text
    with pytest.raises(DataError, match=r'f\.csv:3: column v holds no number\.  "6%"'):
        read(["date,v", "2024-01-01,5", "2024-01-02,6%"])


@pytest.mark.parametrize(("cells", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_as_people_write_them(read, cells, numbers):
    rows = [f'2024-01-0{day};"{cell}"' for day, cell in enumerate(cells, start=1)]
    assert read(["date;v", *rows]).series.values[0].tolist() == numbers


def test_commas_that_may_be_decimal_or_between_thousands_are_refused(read):
    with pytest.raises(DataError, match=r'f\.csv:2: column v may be 1\.234 or 1234\.  "1,234"'):
        read("date;v\n2024-01-01;1,234\n2024-01-02;2,345\n")


def test_other_columns_decide_what_commas_mean(read):
    file = read("date;v;w\n2024-01-01;1,234;0,5\n2024-01-02;2,345;1,5\n")
    assert file.series.values[0].tolist() == [1.234, 2.345]


# Files


def test_remarks_above_and_below_the_table_are_dropped(read):
    rows = [
        "# made by hand",
        "Sales of the shop",
        "date,v",
        "2024-01-01,1",
        "2024-01-02,2",
        "Source: the shop",
    ]
    file = read(rows)
    assert file.series.values[0].tolist() == [1, 2]
    assert [(row.line, row.reason) for row in file.dropped] == [
        (1, "not a row of the table"),
        (2, "not a row of the table"),
        (6, "not a row of the table"),
    ]


def test_units_and_a_second_line_of_names_are_dropped(read):
    file = read(["date,v", ",kWh", "2024-01-01,1", "2024-01-02,2"])
    assert file.series.values[0].tolist() == [1, 2]
    rows = ["Price,Close", "Ticker,ABC", "Date,", "2024-01-01,1", "2024-01-02,2"]
    file = read(rows)
    assert (file.series.names, file.series.values[0].tolist()) == (["Close"], [1, 2])
    assert [row.line for row in file.dropped] == [2, 3]


def test_a_first_row_without_a_value_is_a_row(read):
    file = read(["date,v", "2024-01-01,NA", "2024-01-02,2", "2024-01-03,3"])
    assert (file.dropped, file.series.values[0].tolist()) == ([], [2, 3])


def test_a_sum_below_the_table_is_refused(read):
    with pytest.raises(DataError, match=r'f\.csv:4: column date holds no time\.  "Total"'):
        read(["date,v", "2024-01-01,1", "2024-01-02,2", "Total,3"])


def test_an_empty_time_is_refused(read):
    with pytest.raises(DataError, match=r'f\.csv:3: column date is empty\.  ",2"'):
        read(["date,v", "2024-01-01,1", ",2", "2024-01-02,2"])


def test_a_file_without_a_header_is_read(read):
    file = read(["2024-01-01,5", "2024-01-02,6"])
    assert (file.series.names, file.series.values[0].tolist()) == (["value"], [5, 6])


def test_names_of_rows_without_a_header_are_left_out(read):
    file = read(['"time","v"', '"1",2023,5', '"2",2024,6'])
    assert (file.series.names, file.series.values[0].tolist()) == (["v"], [5, 6])


def test_a_header_may_have_no_name_for_the_times(read):
    for header in ("v", ",v", '"","v"'):
        file = read([header, "2024-01-01,5", "2024-01-02,6"])
        assert (file.series.names, file.series.values[0].tolist()) == (["v"], [5, 6])


def test_a_separator_at_the_end_of_rows_is_no_column(read):
    for header in ("date,v", "date,v,"):
        file = read([header, "2024-01-01,5,", "2024-01-02,6,"])
        assert file.series.values[0].tolist() == [5, 6]


def test_decimal_commas_without_quotes_between_commas_are_refused(read):
    with pytest.raises(DataError, match=r"f\.csv:2: three columns, two expected\.  .* in quotes"):
        read(["date,v", "2024-01-01,1,5", "2024-01-02,2,5"])


def test_json_lines_are_read(read):
    file = read(
        ['{"ds": "2024-01-01", "y": 1.5}', '{"ds": "2024-01-02"}', '{"ds": "2024-01-03", "y": 3}'],
        "f.jsonl",
    )
    np.testing.assert_array_equal(file.series.values[0], [1.5, NAN, 3])


def test_encoding_mark_separator_line_and_packing_are_those_of_other_tables(tmp_path):
    text = "sep=;\nDatum;Höhe\n31.12.2023;1,5\n01.01.2024;2,5\n"
    for name, content, encoding in [
        ("a.csv", text.encode("utf-8-sig"), "utf-8"),
        ("b.csv", text.encode("latin1"), "latin1"),
        ("c.csv.gz", gzip.compress(text.encode()), "utf-8"),
        ("d.csv", text.encode("utf-16"), "utf-16"),
    ]:
        (tmp_path / name).write_bytes(content)
        series = read_time_series(tmp_path / name, encoding=encoding).series
        assert (series.names, series.values[0].tolist()) == (["Höhe"], [1.5, 2.5])


def test_a_stream_is_read():
    source = DataSource("-", b"date\tv\n2024-01-01\t1\n2024-01-02\t2\n", is_stream=True)
    assert read_time_series(source).series.values[0].tolist() == [1, 2]


def test_a_row_of_another_width_is_refused(read):
    with pytest.raises(DataError, match=r"f\.csv:3: three columns, two expected\."):
        read(["date,v", "2024-01-01,1", "2024-01-02,1,234", "2024-01-03,3"])


def test_two_columns_with_one_name_are_refused(read):
    with pytest.raises(DataError, match=r'f\.csv:1: two columns have the name "v"'):
        read(["date,v,v", "2024-01-01,1,2"])
