"""Windows of rolling origins: their distance, their ends, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.tasks.forecasting.rolling_origins import histories, rolling_origins

NAN = float("nan")


def series_of(*values: NDArray[np.float64] | list[float]) -> TimeSeries:
    """Return monthly series, with the index of each value as what is known ahead."""
    arrays = [np.asarray(array, dtype=np.float64) for array in values]
    index = TimeIndex(start="2000-01-01T00:00:00", step=TimeStep(unit="month"))
    return TimeSeries(
        path="drawn.csv",
        names=[f"series {number}" for number in range(len(arrays))],
        values=arrays,
        indices=[index] * len(arrays),
        known=[np.arange(len(array) + 5.0)[:, None] for array in arrays],
        observed=[np.zeros((len(array), 0)) for array in arrays],
    )


@pytest.mark.parametrize(
    ("length", "first", "origins"),
    [(20, 8, [8, 12, 16]), (19, 8, [8, 12]), (12, 8, [8]), (11, 8, []), (8, 8, []), (3, 8, [])],
)
def test_origins_are_a_horizon_apart_and_the_last_part_is_left_out(
    length: int, first: int, origins: list[int]
) -> None:
    windows = rolling_origins(series_of(np.arange(float(length))), [first], 4)
    assert [window.origin for window in windows] == origins
    for window in windows:
        np.testing.assert_array_equal(window.actual, np.arange(4.0) + window.origin)


def test_every_series_has_origins_of_its_own() -> None:
    windows = rolling_origins(series_of(np.ones(6), np.ones(1), np.ones(4)), [2, 1, 0], 2)
    assert [(window.series, window.origin) for window in windows] == [(0, 2), (0, 4), (2, 2)]


def test_windows_without_a_value_on_either_side_are_left_out() -> None:
    values = [NAN, NAN, NAN, 1.0, NAN, NAN, NAN, 2.0]
    windows = rolling_origins(series_of(values), [2], 2)
    assert [window.origin for window in windows] == [6]
    np.testing.assert_array_equal(windows[0].actual, [NAN, 2.0])


def test_a_history_ends_before_its_origin_and_what_is_known_ahead_stays() -> None:
    series = series_of(np.arange(9.0), 10 + np.arange(6.0))
    cut = histories(series, rolling_origins(series, [3, 3], 3))
    assert [list(values) for values in cut.values] == [
        [0, 1, 2],
        [0, 1, 2, 3, 4, 5],
        [10, 11, 12],
    ]
    assert [len(known) for known in cut.known] == [14, 14, 11]
    assert cut.names == ["series 0", "series 0", "series 1"]


def test_of_a_long_history_its_end_is_kept_with_its_times() -> None:
    series = series_of(np.arange(30.0), np.arange(4.0))
    windows = rolling_origins(series, [20, 2], 2)
    cut = histories(series, windows, 6)
    assert list(cut.values[0]) == [14, 15, 16, 17, 18, 19]
    assert cut.indices[0].times(0, 1) == series.indices[0].times(14, 1)
    assert cut.known[0][0, 0] == 14
    assert len(cut.observed[0]) == 6
    assert list(cut.values[-1]) == [0, 1]
    assert cut.indices[-1].times(0, 1) == series.indices[1].times(0, 1)
