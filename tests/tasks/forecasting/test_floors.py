"""Forecasts without a trained model in the windows of an evaluation."""

from __future__ import annotations

import time

import numpy as np
import pytest

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.metrics import forecast_baselines
from regard.metrics.forecast_baselines import RidgeRegression, ridge, seasonal_naive
from regard.metrics.forecasts import window_errors
from regard.tasks.forecasting import floors
from regard.tasks.forecasting.floors import forecast_floors
from regard.tasks.forecasting.rolling_origins import rolling_origins, window_scales

SEASON, HORIZON = 6, 6


def series_of(*lengths: int) -> TimeSeries:
    """Return series with a season and drawn noise."""
    rng = np.random.default_rng(1)
    waves = [10 * np.sin(2 * np.pi * np.arange(length) / SEASON) for length in lengths]
    index = TimeIndex(start="2000-01-01T00:00:00", step=TimeStep(unit="month"))
    return TimeSeries(
        path="drawn.csv",
        names=[str(number) for number in range(len(lengths))],
        values=[wave + rng.normal(size=len(wave)) for wave in waves],
        indices=[index] * len(lengths),
        known=[np.zeros((length, 0)) for length in lengths],
        observed=[np.zeros((length, 0)) for length in lengths],
    )


@pytest.fixture(autouse=True)
def without_mstl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_baselines, "find_spec", lambda name: None)


def test_a_copy_of_each_season_and_ridge_forecast_every_window() -> None:
    series = series_of(120, 90)
    windows = rolling_origins(series, [100, 70], HORIZON)
    scales = window_scales(series, windows, 12)
    found, notes = forecast_floors(series, windows, scales, (SEASON, 12), HORIZON)
    assert list(found) == ["naive", "seasonal_naive_6", "seasonal_naive_12", "ridge"]
    assert notes == []
    copies = [
        seasonal_naive(series.values[window.series][: window.origin], HORIZON, 12)
        for window in windows
    ]
    expected = window_errors([window.actual for window in windows], copies, scales)
    errors = found["seasonal_naive_12"].errors
    np.testing.assert_array_equal(errors.scaled_error, expected.scaled_error)
    assert found["ridge"].errors.quantile_loss.sum() < expected.quantile_loss.sum()


def test_without_a_season_the_last_value_is_copied() -> None:
    series = series_of(60)
    windows = rolling_origins(series, [40], HORIZON)
    found, _ = forecast_floors(series, windows, window_scales(series, windows, 1), (), HORIZON)
    assert list(found) == ["naive", "ridge"]
    assert found["naive"].title == "the copy of the last value"


def test_ridge_is_fitted_again_only_where_the_history_has_grown_by_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths: list[int] = []
    fit = RidgeRegression.fit

    def count(history: np.ndarray, *arguments: int) -> RidgeRegression | None:
        lengths.append(len(history))
        return fit(history, *arguments)

    monkeypatch.setattr(RidgeRegression, "fit", count)
    series = series_of(200, 100)
    windows = rolling_origins(series, [80, 76], HORIZON)
    forecast_floors(series, windows, [1.0] * len(windows), (SEASON,), HORIZON)
    assert lengths == [80, 122, 188, 76]


def test_ridge_does_not_see_what_it_forecasts() -> None:
    series = series_of(100)
    windows = rolling_origins(series, [94], HORIZON)
    expected = ridge(series.values[0][:94], HORIZON, 24, SEASON)
    errors = window_errors([windows[0].actual], [expected], [1.0])
    found, _ = forecast_floors(series, windows, [1.0], (SEASON,), HORIZON)
    assert found["ridge"].errors.quantile_loss[0] == errors.quantile_loss[0]


def test_mstl_takes_part_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "has_mstl", lambda: True)
    monkeypatch.setattr(
        floors,
        "mstl",
        lambda history, horizon, seasons: seasonal_naive(history, horizon, seasons[0]),
    )
    series = series_of(60)
    windows = rolling_origins(series, [40], HORIZON)
    found, _ = forecast_floors(series, windows, [1.0] * len(windows), (SEASON,), HORIZON)
    copies = found["seasonal_naive_6"].errors.quantile_loss
    np.testing.assert_array_equal(found["mstl"].errors.quantile_loss, copies)


def test_mstl_is_left_out_where_it_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    clock = iter(range(0, 100_000, 20))  # seconds

    def slow(history: np.ndarray, horizon: int, seasons: tuple[int, ...]) -> np.ndarray:
        calls.append(len(history))
        return seasonal_naive(history, horizon, 1)

    monkeypatch.setattr(floors, "has_mstl", lambda: True)
    monkeypatch.setattr(floors, "mstl", slow)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    series = series_of(400)
    windows = rolling_origins(series, [40], HORIZON)  # 60
    found, notes = forecast_floors(series, windows, [1.0] * 60, (SEASON,), HORIZON)
    assert list(found) == ["naive", "seasonal_naive_6", "ridge"]
    assert len(calls) == 3
    assert notes == ["MSTL is left out: it would take about 20 minutes."]
