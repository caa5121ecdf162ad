"""Whether the first row of a table of series has names: both sides of what its cells say."""

from __future__ import annotations

from pathlib import Path

import pytest

from regard.data.readers.series_header import default_names, has_no_header
from regard.data.readers.series_tables import TimeSeriesFile, is_time_series, read_time_series
from regard.data.readers.source import open_source

DATED = [f"2024-01-{day:02d},{day}" for day in range(2, 12)]
COUNTED = [f"{step},{step % 3 + 0.5}" for step in range(1, 12)]


def read(rows: list[str], folder: Path) -> TimeSeriesFile:
    """Read rows as series."""
    path = folder / "f.csv"
    path.write_text("".join(f"{row}\n" for row in rows))
    return read_time_series(path)


@pytest.mark.parametrize(
    ("first", "below", "name"),
    [
        ("2024-01-01,7", DATED, None),
        ("2024-01-01,NA", DATED, None),
        ("2024-01-01,", DATED, None),
        ("2024-01-01,v", DATED, "v"),
        ("date,7", DATED, "7"),
        ("2023,2024", DATED, "2024"),
        (",2024", DATED, "2024"),
        ("0,7", COUNTED, None),
        ("0,-", COUNTED, None),
        ("step,7", COUNTED, "7"),
        ("step,v", COUNTED, "v"),
        ("1999,7", [f"{year},{year % 3}" for year in range(2000, 2012)], None),
        ("year,7", [f"{year},{year % 3}" for year in range(2000, 2012)], "7"),
        ("1704067200,7", [f"{1704067200 + 3600 * hour},{hour}" for hour in range(1, 12)], None),
        ("epoch,7", [f"{1704067200 + 3600 * hour},{hour}" for hour in range(1, 12)], "7"),
    ],
)
def test_a_first_row_of_values_is_the_first_row(
    first: str, below: list[str], name: str | None, tmp_path: Path
) -> None:
    file = read([first, *below], tmp_path)
    assert file.series.names == ["value" if name is None else name]
    assert ("no header" in file.read_as.text) == (name is None)
    is_missing = name is None and not first.endswith("7")
    assert len(file.series.values[0]) == len(below) + (name is None and not is_missing)


@pytest.mark.parametrize("header", [[], ["Datum;Wert"]])
def test_semicolons_separate_decimal_commas(header: list[str], tmp_path: Path) -> None:
    file = read([*header, "01.01.2024;0,5", "02.01.2024;1,5", "13.01.2024;2,5"], tmp_path)
    assert file.series.values[0][[0, 1, 12]].tolist() == [0.5, 1.5, 2.5]


def test_a_name_of_a_series_that_is_repeated_is_no_name_of_a_column(tmp_path: Path) -> None:
    rows = [f"{shop},2024-01-{day:02d},{day}" for day in range(1, 9) for shop in "AB"]
    file = read(rows, tmp_path)
    assert file.series.names == ["A", "B"]
    assert file.series.values[0].tolist() == list(range(1, 9))
    assert file.read_as.text == "time series every day, columns time, series, value (no header)"
    file = read(["shop,date,sales", *rows], tmp_path)
    assert file.series.names == ["A", "B"]
    assert file.read_as.text == "time series every day, columns date, shop, sales"


@pytest.mark.parametrize(
    ("rows", "is_headless"),
    [
        ([["", "0"], ["0", "5"], ["1", "6"]], False),
        ([["0", "1"], ["0", "5.5"], ["1", "6.5"]], False),
        ([["0", "1"], ["1", "5.5"], ["2", "6.5"]], True),
        ([["5", "7"], ["3", "8"], ["4", "1"]], False),
        ([["0.5", "7"], ["1", "8"], ["1.5", "1"]], True),
        ([["1"], ["2"], ["3"]], False),
        ([["0", "5"]], False),
        ([["2024-01-01", "5"]], True),
    ],
)
def test_numbers_are_no_names_where_a_column_of_them_rises(
    rows: list[list[str]], is_headless: bool
) -> None:
    assert has_no_header(rows) == is_headless


def test_columns_are_named_for_what_they_hold() -> None:
    assert default_names([["A", "2024-01-01", "1", "-"]]) == [
        "series",
        "time",
        "value 1",
        "value 2",
    ]
    assert default_names([["2024-01-01", "12:00", "1"]]) == ["time", "time 2", "value"]
    assert default_names([["1", "2024-01-01", "8"], ["2", "2024-01-02", "9"]])[0] == ""
    assert default_names([["3", "2024-01-01", "8"], ["4", "2024-01-02", "9"]])[0] == "value 1"
    assert default_names([["1", "2024-01-01"], ["2", "2024-01-02"]]) == ["value", "time"]
    assert default_names([["7", "0", "3"], ["1", "1", "2"]]) == ["value 1", "time", "value 2"]


@pytest.mark.parametrize(
    ("rows", "is_series"),
    [(["2000,1.5", "2001,2"], True), (["0,1.5", "1,2"], False), (["step,v", "0,1.5", "1,2"], True)],
)
def test_a_count_without_a_name_alone_makes_no_series(
    rows: list[str], is_series: bool, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("".join(f"{row}\n" for row in rows))
    assert is_time_series(open_source(path)) == is_series
