"""Data frames and records with times, as pandas and NumPy hold them."""

import datetime

import numpy as np
import pytest

from regard.data.readers.memory import source_of_rows
from regard.data.readers.series_tables import read_time_series
from regard.errors import DataError


class Timestamp(datetime.datetime):
    """A subclass of datetime, as that of pandas is."""


class Period:
    """A period of pandas: it has a text, and no form of ISO."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def to_timestamp(self):
        """Return nothing; only its name is looked at."""


class NAType:
    """A missing value of pandas."""


class Index(list):
    """Labels of rows, with the names of their levels."""

    def __init__(self, labels, names=(None,)):
        super().__init__(labels)
        self.names = names


class Frame:
    """A data frame as far as it is read."""

    def __init__(self, columns, index):
        self.columns, self.index, self._values = list(columns), index, columns

    def __getitem__(self, column):
        return self._values[column]

    def to_dict(self, *arguments):
        return self._values


class Column(list):
    """A series of pandas: values with an index and a name."""

    def __init__(self, values, index, name=None):
        super().__init__(values)
        self.index, self.name = index, name


HOURS = [Timestamp(2024, 1, 1, hour) for hour in range(3)]


def read(data):
    file = read_time_series(source_of_rows(data))
    values = [v.tolist() for v in file.series.values]
    return str(file.step), file.series.names, values, file.series.indices[0].times(0, 1)


@pytest.mark.parametrize(
    "times", [HOURS, np.array(["2024-01-01T00", "2024-01-01T01", "2024-01-01T02"], "M8[ns]")]
)
def test_a_column_of_times_is_read(times):
    frame = Frame({"ds": times, "y": np.array([1, 2, 3], np.float32)}, Index(range(3)))
    step, names, values, first = read(frame)
    assert (step, names, values) == ("hour", ["y"], [[1, 2, 3]])
    assert first[0].startswith("2024-01-01T00:00:00")


def test_an_index_of_times_is_a_column():
    frame = Frame({"y": [1.0, 2.0, 3.0]}, Index(HOURS))
    assert read(frame) == ("hour", ["y"], [[1, 2, 3]], ["2024-01-01T00:00:00"])


def test_an_index_of_periods_is_a_column():
    months = Index([Period("2024-01"), Period("2024-02")], ("month",))
    assert read(Frame({"y": [1, 2]}, months)) == ("month", ["y"], [[1, 2]], ["2024-01"])


def test_the_levels_of_an_index_are_names_of_series_and_times():
    labels = [(shop, hour) for shop in "AB" for hour in HOURS[:2]]
    frame = Frame({"y": [1, 2, 3, 4]}, Index(labels, ("shop", "time")))
    assert read(frame)[:3] == ("hour", ["A", "B"], [[1, 2], [3, 4]])


def test_one_column_with_an_index_of_times_is_a_series():
    assert read(Column([1.0, 2.0, 3.0], Index(HOURS)))[:3] == ("hour", ["value"], [[1, 2, 3]])
    assert read(Column([1.0, 2.0, 3.0], Index(HOURS), "load"))[1] == ["load"]


def test_missing_values_of_pandas_are_missing():
    values = read(Frame({"ds": HOURS, "y": [1, NAType(), 3]}, Index(range(3))))[2]
    np.testing.assert_array_equal(values, [[1, np.nan, 3]])


def test_an_index_of_numbers_is_no_column():
    source = source_of_rows(Frame({"text": ["a", "b"], "label": ["x", "y"]}, Index([5, 6])))
    assert source.content.splitlines()[0] == b'{"text":"a","label":"x"}'


def test_texts_with_an_index_are_texts():
    assert source_of_rows(Column(["a", "b"], Index([0, 1]))).content.startswith(b'{"text":"a"}')


def test_a_value_of_another_kind_is_refused():
    with pytest.raises(DataError, match=r"row 1 cannot be written as JSON .*type object"):
        source_of_rows([{"ds": object()}])


def test_half_a_character_is_named_with_its_row():
    with pytest.raises(DataError, match=r"data: row 2 cannot be written as JSON \('utf-8' codec"):
        source_of_rows([("a", "b"), ("c", "\ud800")])


@pytest.mark.parametrize("infinite", [float("inf"), np.float32("inf"), np.float64("inf")])
def test_infinite_numbers_are_refused_as_in_a_cell_of_csv(infinite):
    rows = [{"time": i, "value": float(i), "unused": infinite} for i in range(12)]
    assert len(read_time_series(source_of_rows(rows), columns=("time", "value")).series) == 1
    rows[3]["value"] = infinite
    with pytest.raises(DataError, match=r'data.jsonl:4: column value is too large.*"inf"'):
        read_time_series(source_of_rows(rows), columns=("time", "value"))
