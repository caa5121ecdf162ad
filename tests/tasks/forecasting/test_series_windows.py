"""Windows of series: guesses, the calendar, batches, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.models import PatchTstConfig
from regard.tasks.forecasting.series_windows import (
    Calendar,
    ForecastBatches,
    SeriesWindows,
    fill_missing,
    harmonics,
    repeated_cycles,
)

NAN = float("nan")
NO_COLUMNS = np.zeros((2, 0))
HOUR = TimeStep(unit="hour")
CONFIG = PatchTstConfig(window=4, horizon=2, patch=2, scaled_steps=4, dim=8, num_heads=2)


def series(*values: list[float], known: list[list[float]] | None = None) -> TimeSeries:
    arrays = [np.array(part) for part in values]
    columns = [np.array(part)[:, None] for part in known or []]
    return TimeSeries(
        path="x.csv",
        names=[f"s{row}" for row in range(len(arrays))],
        values=arrays,
        indices=[TimeIndex(start="2024-01-01T00:00:00", step=HOUR)] * len(arrays),
        known=columns or [np.zeros((len(part), 0)) for part in arrays],
        observed=[np.zeros((len(part), 0)) for part in arrays],
    )


def windows(
    data: TimeSeries, config: PatchTstConfig = CONFIG, scale: NDArray = NO_COLUMNS
) -> SeriesWindows:
    return SeriesWindows(data, config, Calendar(step=HOUR, cycles=(), seasons=()), (), scale)


def test_a_window_is_the_history_before_its_origin_and_the_steps_after_it():
    batch = windows(series([1, 2, 3, 4, 5, 6, 7])).batch(np.array([0]), np.array([4]))
    assert batch.values.tolist() == [[1, 2, 3, 4]]
    assert batch.targets.tolist() == [[5, 6]]
    assert not batch.is_missing.any()


def test_a_history_that_is_too_short_is_missing_before_its_first_value():
    batch = windows(series([1, 2, 3])).batch(np.array([0]), np.array([2]))
    assert batch.is_missing.tolist() == [[True, True, False, False]]
    assert batch.values.tolist() == [[1, 1, 1, 2]]


def test_steps_after_the_last_value_are_missing_targets():
    batch = windows(series([1, 2, 3])).batch(np.array([0]), np.array([3]))
    assert np.isnan(batch.targets.numpy()).all()


def test_a_guess_never_looks_ahead():
    values = np.array([5.0, 1, 2, NAN, 4, NAN])
    filled = fill_missing(values, [2])
    for end in range(1, 7):
        np.testing.assert_array_equal(fill_missing(values[:end], [2]), filled[:end])


@pytest.mark.parametrize(
    ("seasons", "expected"), [([2], 7.0), ([], 9.0), ([2, 3], 5.0), ([10], 9.0)]
)
def test_a_guess_is_the_value_of_the_longest_season_that_has_one(seasons, expected):
    assert fill_missing(np.array([5.0, 7, 9, NAN]), seasons)[3] == expected


def test_the_calendar_has_the_cycles_that_training_saw_three_times():
    assert repeated_cycles(HOUR, 24 * 21) == ("day", "week")
    assert repeated_cycles(HOUR, 24 * 20) == ("day",)
    assert repeated_cycles(TimeStep(count=30, unit="minute"), 48 * 21) == ("day", "week")
    assert repeated_cycles(TimeStep(unit="month"), 36) == ("year",)


def test_rows_that_are_counted_have_the_seasons_in_place_of_a_calendar():
    calendar = Calendar(step=TimeStep(), cycles=(), seasons=(7,))
    index = TimeIndex(start="3", step=TimeStep())
    phases = calendar.phases(index, 0, 9)[:, 0]
    assert calendar.num_features == 6
    np.testing.assert_allclose(phases[0], np.exp(2j * np.pi * 3 / 7), atol=1e-6)
    np.testing.assert_allclose(phases[7:], phases[:2], atol=1e-6)


def test_harmonics_are_cosines_and_sines_of_multiples():
    angle = np.array([[0.3, 1.1]])
    found = harmonics(np.exp(1j * angle), [2, 1])
    expected = [*np.cos([0.3, 0.6, 1.1]), *np.sin([0.3, 0.6, 1.1])]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_columns_known_ahead_are_scaled_and_reach_into_the_future():
    data = series([1, 2, 3, 4], known=[[10, 20, 30, 40, 50, 60]])
    config = PatchTstConfig(**{**CONFIG_FIELDS, "num_known": 1})
    batch = windows(data, config, np.array([[30.0], [10.0]])).batch(np.array([0]), np.array([4]))
    assert batch.known[0, :, 0].tolist() == [-2, -1, 0, 1, 2, 3]


def test_a_history_that_is_constant_or_has_no_target_is_not_trained_on():
    parts = windows(series([1, 1, 1, 1, 5, 6, 7, NAN, NAN, 9]))
    assert parts.varies(0, np.array([4, 5, 7, 8])).tolist() == [False, True, False, True]


def test_an_epoch_takes_every_window_once_in_an_order_of_its_own():
    data = series(list(range(40)))
    origins = np.arange(4, 39)
    batches = ForecastBatches(windows(data), np.zeros(35, int), origins, batch_tokens=16, seed=3)
    first, second = (np.concatenate(batches.order(epoch)) for epoch in (0, 1))
    assert sorted(first) == list(range(35)) == sorted(second)
    assert first.tolist() != second.tolist()
    assert np.concatenate(batches.in_sequence()).tolist() == list(range(35))


def test_of_many_windows_an_epoch_takes_some_from_everywhere():
    data = series(list(range(110)))
    batches = ForecastBatches(
        windows(data), np.zeros(100, int), np.arange(4, 104), batch_tokens=16, most=10
    )
    assert len(np.concatenate(batches.order(0))) == 10
    assert max(np.concatenate(batches.order(1))) > 10
    assert np.concatenate(batches.in_sequence()).tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert batches.num_tokens == 10 * 3
    drawn = {int(row) for epoch in range(100) for rows in batches.order(epoch) for row in rows}
    assert drawn == set(range(100))
    assert batches.size(batches.order(0)[0]) == 3 * len(batches.order(0)[0])


CONFIG_FIELDS = {
    "window": 4,
    "horizon": 2,
    "patch": 2,
    "scaled_steps": 4,
    "dim": 8,
    "num_heads": 2,
}


def test_the_calendar_is_that_of_the_first_step_of_each_patch():
    data = series(list(range(40)))
    calendar = Calendar(step=HOUR, cycles=("day",), seasons=())
    config = PatchTstConfig(**{**CONFIG_FIELDS, "num_calendar": 24, "horizon": 3})
    parts = SeriesWindows(data, config, calendar, (), NO_COLUMNS)
    found = parts.batch(np.array([0]), np.array([10])).calendar
    assert found.shape == (1, 4, 24)
    hours = np.array([6, 8, 10, 12])
    np.testing.assert_allclose(found[0, :, 0], np.cos(2 * np.pi * hours / 24), atol=1e-6)


def test_the_last_values_of_a_long_series_give_the_same_window():
    values = [1.0, 5, NAN, 2, 8, 3, 9, 4, 7, 6]
    data = series(values, known=[list(range(20, 32))])
    calendar = Calendar(step=HOUR, cycles=("day",), seasons=())
    config = PatchTstConfig(**{**CONFIG_FIELDS, "num_calendar": 24, "num_known": 1})
    scale = np.array([[0.0], [1.0]])
    whole = SeriesWindows(data, config, calendar, (2,), scale)
    part = SeriesWindows(data, config, calendar, (2,), scale, last=6)
    expected = whole.batch(np.array([0]), np.array([10]))
    found = part.batch(np.array([0]), np.array(part.lengths))
    for one, other in zip(expected.inputs, found.inputs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy())
