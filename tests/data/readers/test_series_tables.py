"""Series of numbers with times: what files may look like, and what is refused."""

import gzip
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from tests.data.readers.series_files import first, table

from regard.data.readers.series_tables import is_time_series, read_time_series
from regard.data.readers.source import DataSource, open_source
from regard.errors import DataError

NAN = float("nan")


# Rows and the grid


def test_missing_values_and_missing_rows_are_nan_and_counted(read_series):
    file = read_series(
        ["date,v", "2024-01-01,1", "2024-01-02,NA", "2024-01-04,4", "2024-01-05,", "2024-01-06,6"]
    )
    np.testing.assert_array_equal(file.series.values[0], [1, NAN, NAN, 4, NAN, 6])
    assert file.notes == [
        "1 time has no row: its value is missing (first: 2024-01-03)",
        "2 values are missing",
    ]


@pytest.mark.parametrize("cell", ["", "NaN", "n/a", "#N/A", "null", "-", ".", "..", ":", "?"])
def test_cells_that_mean_a_missing_value_are_missing(read_series, cell):
    file = read_series(["date,v", "2024-01-01,1", f"2024-01-02,{cell}", "2024-01-03,3"])
    np.testing.assert_array_equal(file.series.values[0], [1, NAN, 3])


def test_working_days_are_days_with_missing_week_ends(read_series):
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(12)]
    file = read_series(table([day for day in days if day.weekday() < 5]))
    np.testing.assert_array_equal(file.series.values[0], [0, 1, 2, 3, 4, NAN, NAN, 5, 6, 7, 8, 9])
    assert file.notes == ["no rows on Saturdays and Sundays: their values are missing"]


def test_irregular_steps_are_refused_with_the_two_times(read_series):
    with pytest.raises(DataError) as error:
        read_series(table(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03 05:17"]))
    assert str(error.value).endswith(
        "f.csv:5: from 2024-01-03 00:00 (line 4) to 2024-01-03 05:17 is not a multiple of the "
        "usual step (day).  Bring the times to a regular step: add up or average the values of an "
        "hour or a day."
    )


def test_steps_of_which_one_divides_the_others_are_one_grid_unless_it_is_mostly_empty(read_series):
    file = read_series(
        table(["2024-01-01", "2024-01-03", "2024-01-05", "2024-01-06", "2024-01-08"])
    )
    np.testing.assert_array_equal(file.series.values[0], [0, NAN, 1, NAN, 2, 3, NAN, 4])
    with pytest.raises(DataError, match=r"f\.csv:5: .* is not a multiple of the usual step \(week"):
        read_series(table(["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-16"]))


def test_times_that_are_mostly_empty_are_refused(read_series):
    times = [datetime(2024, 1, 1) + timedelta(seconds=s) for s in (0, 1, 2, 90_000, 90_001)]
    with pytest.raises(
        DataError,
        match=r"f\.csv:5: no row from 2024-01-01 00:00:02 \(line 4\) to 2024-01-02 01:00:00",
    ):
        read_series(table(times))


def test_last_working_days_of_months_are_months(read_series):
    file = read_series(table(["2024-01-31", "2024-02-29", "2024-03-29", "2024-04-30"]))
    assert first(file) == ("month", ["2024-01-31", "2024-02-29", "2024-05-31"], [0, 1, 2, 3])
    assert file.notes == ["days of the months differ: only the months count"]


def test_rows_in_another_order_are_sorted(read_series):
    file = read_series(["date,v", "2024-01-03,3", "2024-01-02,2", "2024-01-01,1"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert file.notes == ["rows are in the reverse order of their times: sorted"]
    file = read_series(["date,v", "2024-01-01,1", "2024-01-03,3", "2024-01-02,2"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert file.notes == ["rows are not in the order of their times (line 4): sorted"]


def test_identical_rows_are_dropped(read_series):
    file = read_series(["date,v", "2024-01-01,1", "2024-01-02,2", "2024-01-02,2", "2024-01-03,3"])
    assert file.series.values[0].tolist() == [1, 2, 3]
    assert [(row.line, row.reason, row.text) for row in file.dropped] == [
        (4, "repeats the time of another row", "2024-01-02,2")
    ]


def test_a_row_that_fills_what_another_of_its_time_lacks_is_merged(read_series):
    file = read_series(["date,a,b", "2024-01-01,1,2", "2024-01-02,3,", "2024-01-02,,4"])
    assert [values.tolist() for values in file.series.values] == [[1, 3], [2, 4]]


def test_two_values_for_one_time_are_refused_with_the_usual_cause(read_series):
    with pytest.raises(DataError) as error:
        read_series(["date,v", "2024-01-01,1", "2024-01-02,2", "2024-01-02,3"])
    assert str(error.value).endswith(
        "f.csv:4: a second value for 2024-01-02 in column v, 3 after 2 in line 3.  "
        "Several series?  Name the columns: `data.columns=TIME,VALUE,SERIES`"
    )


def test_a_constant_series_is_noted(read_series):
    file = read_series(["date,v", "2024-01-01,-5", "2024-01-02,-5"])
    assert file.series.values[0].tolist() == [-5, -5]
    assert file.notes == ["v has one value only"]


@pytest.mark.parametrize("rows", [[], ["2024-01-01,1"]])
def test_fewer_than_two_rows_are_refused(read_series, rows):
    with pytest.raises(DataError, match=r"f\.csv: there (are no rows|is one row)\."):
        read_series(["date,v", *rows])


def test_a_series_without_a_value_is_refused(read_series):
    with pytest.raises(DataError, match=r"f\.csv: no value at all in v\."):
        read_series(["date,v", "2024-01-01,", "2024-01-02,NA"])
    with pytest.raises(DataError, match=r"f\.csv: no value at all in B\.  Leave it out\."):
        read_series(
            ["date,shop,v", "2024-01-01,A,1", "2024-01-02,A,2", "2024-01-01,B,", "2024-01-02,B,"]
        )


@pytest.mark.parametrize(
    "text",
    ["time,value\n2024-01-01,\n2024-01-02,NA\n", "day\tprice\n2024-01-01\t\n2024-01-02\t\n"],
)
def test_times_next_to_a_column_without_a_value_are_a_series(text, tmp_path):
    path = tmp_path / "f.tsv"
    path.write_text(text)
    assert is_time_series(open_source(path))
    with pytest.raises(DataError, match=r"f\.tsv: no value at all in (value|price)\."):
        read_time_series(path)


def test_rows_before_the_first_value_are_left_out(read_series):
    file = read_series(["date,a,b", "2024-01-01,,5", "2024-01-02,2,6", "2024-01-03,3,"])
    assert [index.start for index in file.series.indices] == [
        "2024-01-02T00:00:00",
        "2024-01-01T00:00:00",
    ]
    assert [values.tolist() for values in file.series.values] == [[2, 3], [5, 6]]
    assert file.notes == ["2 rows before the first or after the last value are left out"]


# Columns


def test_a_wide_table_has_a_series_for_each_column_of_numbers(read_series):
    file = read_series(["date,a,remark,b", "2024-01-01,1,x,10", "2024-01-02,2,,20"])
    assert file.series.names == ["a", "b"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [10, 20]]
    assert file.read_as.text == "time series every day, columns date, a, b (not used: remark)"


MIXED = ["date,shop,v", "2024-01-01,A,1", "2024-01-01,B,10", "2024-01-02,A,2", "2024-01-02,B,20"]
BLOCKS = ["shop,date,v", "A,2024-01-01,1", "A,2024-01-02,2", "B,2024-01-01,10", "B,2024-01-02,20"]


@pytest.mark.parametrize("rows", [MIXED, BLOCKS])
def test_a_long_table_has_a_series_for_each_name_mixed_or_in_blocks(read_series, rows):
    file = read_series(rows)
    assert file.series.names == ["A", "B"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [10, 20]]
    assert file.notes == []


def test_series_of_a_long_table_may_have_different_lengths(read_series):
    file = read_series(
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


def test_two_columns_of_numbers_may_name_the_series(read_series):
    rows = [
        f"2024-01-0{day},{store},{item},{100 * store + 10 * item + day}"
        for day in (1, 2)
        for store in (1, 2)
        for item in (1, 2)
    ]
    file = read_series(["date,store,item,sales", *rows])
    assert file.series.names == ["1 1", "1 2", "2 1", "2 2"]
    assert file.series.values[3].tolist() == [221, 222]


def test_a_long_table_with_two_columns_of_numbers_has_two_series_for_each_name(read_series):
    file = read_series(
        [MIXED[0] + ",w", *(f"{row},{number}" for number, row in enumerate(MIXED[1:]))]
    )
    assert file.series.names == ["A v", "A w", "B v", "B w"]
    assert [values.tolist() for values in file.series.values] == [[1, 2], [0, 2], [10, 20], [1, 3]]


def test_columns_can_be_named(read_series):
    rows = [
        "day,name,a,b",
        "2024-01-01,A,1,5",
        "2024-01-01,B,2,6",
        "2024-01-02,A,3,7",
        "2024-01-02,B,4,8",
    ]
    file = read_series(rows, columns=("day", "b", "name"))
    assert (file.series.names, [v.tolist() for v in file.series.values]) == (
        ["A", "B"],
        [[5, 7], [6, 8]],
    )
    assert file.read_as.unused == ("a",)
    file = read_series(
        ["t1,t2,v", "2024-01-01,2024-02-01,1", "2024-01-02,2024-02-02,2"], columns=("t2", "v")
    )
    assert file.series.indices[0].times(0, 1) == ["2024-02-01"]


def test_a_column_that_does_not_exist_is_refused_with_those_seen(read_series):
    with pytest.raises(
        DataError,
        match=r'f\.csv:1: no column "vlaue"\.  Columns seen: date, value\.  Did you mean value\?',
    ):
        read_series(["date,value", "2024-01-01,1"], columns=("date", "vlaue"))


def test_a_column_that_is_set_twice_is_refused(read_series):
    with pytest.raises(DataError, match=r'the column "w" is set for two things'):
        read_series(["date,v,w", "2024-01-01,1,2"], known=("w",), observed=("w",))


def test_columns_known_ahead_have_rows_of_the_future(read_series):
    rows = [
        "date,v,holiday,rain",
        "2024-01-01,1,true,5",
        "2024-01-02,2,false,6",
        "2024-01-03,,true,",
        "2024-01-04,,,",
    ]
    file = read_series(rows, known=("holiday",), observed=("rain",))
    series = file.series
    assert series.values[0].tolist() == [1, 2]
    assert series.known[0].tolist() == [[1], [0], [1]]
    assert series.observed[0].tolist() == [[5], [6]]
    assert (file.known_names, file.observed_names) == (("holiday",), ("rain",))
    assert "1 row has no value yet, but holiday: the future" in file.notes


def test_numbers_of_rows_and_parts_of_the_date_are_not_forecast(read_series):
    file = read_series(["id,date,weekday,v,label", "1,2024-01-01,1,5,0", "2,2024-01-02,2,6,1"])
    assert file.series.names == ["v"]
    assert file.read_as.unused == ("id", "weekday", "label")


def test_a_file_without_times_or_numbers_is_refused(read_series):
    with pytest.raises(
        DataError, match=r"f\.csv: no column of dates or times\.  Columns seen: a, b\."
    ):
        read_series(["a,b", "1,2", "2,3"])
    with pytest.raises(
        DataError, match=r"f\.csv: no column of numbers to be forecast\.  Columns seen: date, a\."
    ):
        read_series(["date,a", "2024-01-01,x", "2024-01-02,y"])
    with pytest.raises(DataError, match=r'f\.csv:2: column a holds no times\.  "x"'):
        read_series(["date,a,v", "2024-01-01,x,1", "2024-01-02,y,2"], columns=("a",))


def test_a_number_of_each_row_is_not_the_name_of_a_series(read_series):
    rows = [f"{n},2024-01-0{1 + n // 2},{'AB'[n % 2]},{n}" for n in range(6)]
    file = read_series(["id,date,family,sales", *rows])
    assert file.series.names == ["A", "B"]
    assert [values.tolist() for values in file.series.values] == [[0, 2, 4], [1, 3, 5]]


def test_a_row_without_the_name_of_its_series_is_refused(read_series):
    with pytest.raises(DataError, match=r"f\.csv:4: column shop, the name of the series, is empty"):
        read_series([*MIXED[:3], "2024-01-02,,2", MIXED[4]])


def test_series_with_different_steps_are_refused(read_series):
    hours = [f"2024-01-0{1 + n // 24} {n % 24:02}:00,A,{n}" for n in range(144)]
    days = [f"2024-01-0{n} 00:00,B,{n}" for n in range(1, 8)]
    with pytest.raises(DataError, match=r"series B has a step of one day, others of one hour"):
        read_series(["ds,id,y", *hours, *days])


def test_names_of_series_from_two_columns_are_distinct(read_series):
    rows = [f"2024-01-0{day},{name},{day}" for day in (1, 2) for name in ("a b,c", "a,b c", "a,c")]
    file = read_series(["date,name,item,v", *rows])
    assert file.series.names == ['"a b" "c"', '"a" "b c"', '"a" "c"']


def test_times_as_columns_and_lists_in_cells_are_refused_with_the_remedy(read_series):
    with pytest.raises(DataError, match=r"columns that are times: 1960, 1961, 1962\.  Write a row"):
        read_series(["country,1960,1961,1962", "A,1,2,3", "B,2,3,4"])
    with pytest.raises(DataError, match=r"column target holds lists\.  Write a row for each value"):
        read_series(['{"start": "2024-01-01", "target": [1, 2]}'] * 2, "f.jsonl")


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
def test_a_cell_without_a_number_is_refused_with_line_and_column(read_series, cell, message):
    with pytest.raises(DataError, match=rf"f\.csv:4: {message}"):
        read_series(["date,v", "2024-01-01,1", "2024-01-02,2", f"2024-01-03,{cell}"])


@pytest.mark.parametrize("name", ["Infinity", "-Infinity"])
def test_an_infinite_number_of_json_is_refused_as_one(read_series, name):
    rows = [f'{{"date": "2024-01-0{day}", "v": {day}}}' for day in (1, 2)]
    rows.append(f'{{"date": "2024-01-03", "v": {name}}}')
    with pytest.raises(DataError, match=rf'f\.jsonl:3: column v is too large.*"{name}"'):
        read_series(rows, "f.jsonl")


NUMBERS = {
    "decimal commas": (["1,5", "-0,25", "1.234,5"], [1.5, -0.25, 1234.5]),
    "thousands": (["1,234", "999", "1,234,567.5"], [1234, 999, 1234567.5]),
    "spaces": (["1 234", "999", "12\u00a0345,5"], [1234, 999, 12345.5]),
    "a minus sign": (["−5", "3", "1e3"], [-5, 3, 1000]),
}


def test_a_sign_of_a_currency_or_percent_is_left_out_where_all_numbers_have_it(read_series):
    file = read_series(["date,v", "2024-01-01,$5", "2024-01-02,", "2024-01-03,-$1.5"])
    np.testing.assert_array_equal(file.series.values[0], [5, NAN, -1.5])
    assert 'numbers of v are read without "$"' in file.read_as.text
    with pytest.raises(DataError, match=r'f\.csv:3: column v holds no number\.  "6%"'):
        read_series(["date,v", "2024-01-01,5", "2024-01-02,6%"])


@pytest.mark.parametrize(("cells", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_as_people_write_them(read_series, cells, numbers):
    rows = [f'2024-01-0{day};"{cell}"' for day, cell in enumerate(cells, start=1)]
    assert read_series(["date;v", *rows]).series.values[0].tolist() == numbers


def test_commas_that_may_be_decimal_or_between_thousands_are_refused(read_series):
    with pytest.raises(DataError, match=r'f\.csv:2: column v may be 1\.234 or 1234\.  "1,234"'):
        read_series("date;v\n2024-01-01;1,234\n2024-01-02;2,345\n")


def test_other_columns_decide_what_commas_mean(read_series):
    file = read_series("date;v;w\n2024-01-01;1,234;0,5\n2024-01-02;2,345;1,5\n")
    assert file.series.values[0].tolist() == [1.234, 2.345]


# Files


def test_remarks_above_and_below_the_table_are_dropped(read_series):
    rows = [
        "# made by hand",
        "Sales of the shop",
        "date,v",
        "2024-01-01,1",
        "2024-01-02,2",
        "Source: the shop",
    ]
    file = read_series(rows)
    assert file.series.values[0].tolist() == [1, 2]
    assert [(row.line, row.reason) for row in file.dropped] == [
        (1, "not a row of the table"),
        (2, "not a row of the table"),
        (6, "not a row of the table"),
    ]


def test_units_and_a_second_line_of_names_are_dropped(read_series):
    file = read_series(["date,v", ",kWh", "2024-01-01,1", "2024-01-02,2"])
    assert file.series.values[0].tolist() == [1, 2]
    rows = ["Price,Close", "Ticker,ABC", "Date,", "2024-01-01,1", "2024-01-02,2"]
    file = read_series(rows)
    assert (file.series.names, file.series.values[0].tolist()) == (["Close"], [1, 2])
    assert [row.line for row in file.dropped] == [2, 3]


def test_a_first_row_without_a_value_is_a_row(read_series):
    file = read_series(["date,v", "2024-01-01,NA", "2024-01-02,2", "2024-01-03,3"])
    assert (file.dropped, file.series.values[0].tolist()) == ([], [2, 3])


def test_a_sum_below_the_table_is_refused(read_series):
    with pytest.raises(DataError, match=r'f\.csv:4: column date holds no time\.  "Total"'):
        read_series(["date,v", "2024-01-01,1", "2024-01-02,2", "Total,3"])


def test_an_empty_time_is_refused(read_series):
    with pytest.raises(DataError, match=r'f\.csv:3: column date is empty\.  ",2"'):
        read_series(["date,v", "2024-01-01,1", ",2", "2024-01-02,2"])


def test_a_file_without_a_header_is_read(read_series):
    file = read_series(["2024-01-01,5", "2024-01-02,6"])
    assert (file.series.names, file.series.values[0].tolist()) == (["value"], [5, 6])


def test_names_of_rows_without_a_header_are_left_out(read_series):
    file = read_series(['"time","v"', '"1",2023,5', '"2",2024,6'])
    assert (file.series.names, file.series.values[0].tolist()) == (["v"], [5, 6])


def test_a_header_may_have_no_name_for_the_times(read_series):
    for header in ("v", ",v", '"","v"'):
        file = read_series([header, "2024-01-01,5", "2024-01-02,6"])
        assert (file.series.names, file.series.values[0].tolist()) == (["v"], [5, 6])


def test_a_separator_at_the_end_of_rows_is_no_column(read_series):
    for header in ("date,v", "date,v,"):
        file = read_series([header, "2024-01-01,5,", "2024-01-02,6,"])
        assert file.series.values[0].tolist() == [5, 6]


def test_decimal_commas_without_quotes_between_commas_are_refused(read_series):
    with pytest.raises(DataError, match=r"f\.csv:2: three columns, two expected\.  .* in quotes"):
        read_series(["date,v", "2024-01-01,1,5", "2024-01-02,2,5"])


def test_json_lines_are_read(read_series):
    file = read_series(
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


def test_a_row_of_another_width_is_refused(read_series):
    with pytest.raises(DataError, match=r"f\.csv:3: three columns, two expected\."):
        read_series(["date,v", "2024-01-01,1", "2024-01-02,1,234", "2024-01-03,3"])


def test_two_columns_with_one_name_are_refused(read_series):
    with pytest.raises(DataError, match=r'f\.csv:1: two columns have the name "v"'):
        read_series(["date,v,v", "2024-01-01,1,2"])


DAYS = [f"{day:02}.01.2024" for day in range(1, 11)]


def test_points_next_to_decimal_commas_may_be_between_thousands(read_series):
    rows = "".join(f"{day};{i},5;{i}.250\n" for i, day in enumerate(DAYS, start=1))
    with pytest.raises(DataError, match=r"f\.csv:2: column Umsatz may be 1\.250 or 1250\."):
        read_series("Datum;Preis;Umsatz\n" + rows)
    file = read_series("Datum;Preis;Umsatz\n" + rows.replace("1.250", "0.250"))
    assert file.series.values[1][:2].tolist() == [0.25, 2.25]


def test_points_in_numbers_are_said_to_be_decimal_where_dates_have_points(read_series):
    rows = "".join(f"{day};{i}.250\n" for i, day in enumerate(DAYS, start=1))
    note = "points in numbers are decimal, not between thousands (Umsatz)"
    assert note in read_series("Datum;Umsatz\n" + rows).read_as.notes
    file = read_series("Datum;Umsatz\n" + rows.replace(".250", ".25"))
    assert note not in file.read_as.notes


def test_times_without_a_value_above_the_first_one_are_rows(read_series):
    rows = "".join(f"{day},{i if i > 2 else ''}\n" for i, day in enumerate(DAYS))
    file = read_series(rows)
    assert (file.dropped, len(file.series.values[0])) == ([], 7)
    assert file.notes == ["3 rows before the first or after the last value are left out"]


def test_a_title_that_is_a_time_is_not_a_row(read_series):
    file = read_series("January 2024,\n2024-01-01,5\n2024-01-02,6\n2024-01-03,7\n")
    assert [row.text for row in file.dropped] == ["January 2024"]
    assert file.series.values[0].tolist() == [5, 6, 7]


def test_one_row_below_names_of_a_series_is_one_row_of_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,value\n2024-01-01,3\n")
    assert is_time_series(open_source(path))
    with pytest.raises(DataError, match="there is one row"):
        read_time_series(path)
