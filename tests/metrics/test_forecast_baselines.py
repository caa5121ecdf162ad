"""Baselines of forecasting: values computed by hand and by other formulas, gaps, short series."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from regard.errors import ConfigError, DataError
from regard.metrics import forecast_baselines
from regard.metrics.forecast_baselines import (
    RidgeRegression,
    fill_gaps,
    has_mstl,
    mstl,
    num_ridge_lags,
    peer_quantiles,
    ridge,
    seasonal_naive,
)
from regard.metrics.forecasts import BAND_80, LEVELS, MEDIAN, coverage

NAN = float("nan")


def wave(length: int, season: int = 8, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return a season with drawn noise."""
    rng = np.random.default_rng(seed)
    return 10 * np.sin(2 * np.pi * np.arange(length) / season) + noise * rng.normal(size=length)


def test_the_last_season_is_copied_as_often_as_the_horizon_takes() -> None:
    quantiles = seasonal_naive(np.array([9.0, 9, 9, 1, 2, 3]), 7, 3)
    np.testing.assert_array_equal(quantiles[:, MEDIAN], [1, 2, 3, 1, 2, 3, 1])


def test_bands_of_the_copy_widen_with_the_root_of_the_seasons_ahead() -> None:
    # absolute differences two apart: 1, 1, 3, 3; their 80 % quantile is 3
    quantiles = seasonal_naive(np.array([0.0, 0, 1, -1, 4, 2]), 6, 2)
    low, high = BAND_80
    widths = quantiles[:, high] - quantiles[:, MEDIAN]
    np.testing.assert_allclose(widths, 3 * np.sqrt([1, 1, 2, 2, 3, 3]))
    np.testing.assert_allclose(quantiles[:, MEDIAN] - quantiles[:, low], widths)


def test_a_history_that_is_not_longer_than_the_season_gives_its_last_value() -> None:
    np.testing.assert_array_equal(seasonal_naive(np.array([1.0, 5.0]), 3, 2)[:, MEDIAN], 5)
    single = seasonal_naive(np.array([7.0]), 2, 1)
    np.testing.assert_array_equal(single, np.full((2, len(LEVELS)), 7))


def test_a_missing_value_of_the_last_season_is_interpolated_within_the_season() -> None:
    history = wave(32)
    history[-3] = NAN
    copied = seasonal_naive(history, 8, 8)[:, MEDIAN]
    np.testing.assert_allclose(copied, wave(8), atol=1e-12)


def test_gaps_are_filled_by_season_and_line_and_known_values_stay() -> None:
    trend = 0.5 * np.arange(40.0)
    history = trend.copy()
    history[[0, 10, 11, 39]] = NAN
    filled = fill_gaps(history)
    np.testing.assert_allclose(filled[1:39], trend[1:39])
    assert (filled[0], filled[39]) == (0.5, 19.0)
    whole = wave(64)
    gaps = np.where(np.random.default_rng(1).random(64) < 0.1, NAN, whole)
    np.testing.assert_allclose(fill_gaps(gaps, 8), whole, atol=1e-9)


def test_a_history_without_values_is_refused() -> None:
    for history in (np.array([]), np.full(9, NAN)):
        with pytest.raises(DataError, match="history of a forecast has no values"):
            seasonal_naive(history, 2, 1)
        with pytest.raises(DataError, match="history of a forecast has no values"):
            ridge(history, 2, 3)


def less_level(rows: NDArray[np.float64], num_lags: int) -> NDArray[np.float64]:
    """Return rows without the mean of their lags."""
    return rows - rows[:, :num_lags].mean(axis=1, keepdims=True)


def test_ridge_follows_a_level_that_moves() -> None:
    history = wave(200, noise=0.1)
    regression = RidgeRegression.fit(history, 16, 8)
    assert regression is not None
    moved = regression.quantiles(history + 1000) - 1000
    np.testing.assert_allclose(moved, regression.quantiles(history), atol=1e-9)


def test_ridge_has_the_weights_of_the_penalized_least_squares() -> None:
    history = np.cumsum(np.random.default_rng(3).normal(size=60))
    regression = RidgeRegression.fit(history, 4, 5)
    assert regression is not None
    rows = less_level(sliding_window_view(history, 9), 5)
    lags, steps = rows[:, :5] - rows[:, :5].mean(axis=0), rows[:, 5:]
    penalty = regression.penalty * lags.var(axis=0).mean() * len(lags)
    # rows of the penalty under those of the data: ordinary least squares of both
    augmented = np.concatenate([lags, np.sqrt(penalty) * np.eye(5)])
    targets = np.concatenate([steps - steps.mean(axis=0), np.zeros((5, 4))])
    weights = np.linalg.lstsq(augmented, targets, rcond=None)[0]
    # the lags of a row sum to 0, so that the sum of the weights is decided by rounding alone
    np.testing.assert_allclose(lags @ regression.weights, lags @ weights, rtol=1e-6, atol=1e-9)


def test_ridge_equals_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    history = wave(120, noise=2.0)
    regression = RidgeRegression.fit(history, 6, 10)
    assert regression is not None
    rows = less_level(sliding_window_view(history, 16), 10)
    penalty = regression.penalty * rows[:, :10].var(axis=0).mean() * len(rows)
    peer = linear_model.Ridge(alpha=penalty).fit(rows[:, :10], rows[:, 10:])
    level = history[-10:].mean()
    expected = level + peer.predict(history[None, -10:] - level)[0]
    np.testing.assert_allclose(regression.quantiles(history)[:, MEDIAN], expected, rtol=1e-8)


def test_ridge_learns_a_season_and_its_median_is_not_moved_by_noise() -> None:
    history = wave(400, noise=1.0)
    median = ridge(history, 16, num_ridge_lags((8,)))[:, MEDIAN]
    assert np.abs(median - wave(16)).max() < 0.8


def test_the_bands_of_ridge_cover_what_they_say() -> None:
    fractions = []
    for seed in range(40):
        series = wave(216, noise=3.0, seed=seed)
        quantiles = ridge(series[:200], 16, 8)
        fractions.append(coverage(series[200:], quantiles))
    assert 0.74 <= np.mean(fractions) <= 0.86


def test_ridge_sees_nothing_after_the_history() -> None:
    series = wave(120, noise=1.0)
    before = ridge(series[:100], 10, 16)
    series[100:] = 1e9
    np.testing.assert_array_equal(ridge(series[:100], 10, 16), before)


def test_held_out_rows_share_no_target_with_the_first_fit() -> None:
    history = np.random.default_rng(5).normal(size=100)
    regression = RidgeRegression.fit(history, 10, 4)
    changed = history.copy()
    # 87 rows, of which 17 are held out, with targets from value 74 on; 61 are fitted first
    changed[74:] *= 100
    other = RidgeRegression.fit(changed, 10, 4)
    assert regression is not None and other is not None
    fitted = less_level(sliding_window_view(history[:74], 14), 4)
    first = forecast_baselines._Decomposition(fitted[:, :4], fitted[:, 4:])
    rows = less_level(sliding_window_view(changed, 14)[-17:], 4)
    errors = rows[:, 4:] - first.step_means
    errors = errors - (rows[:, :4] - first.lag_means) @ first.weights(other.penalty)
    np.testing.assert_allclose(other.band, forecast_baselines._band_of(errors))


@pytest.mark.parametrize("length", [1, 2, 5, 9, 12, 20])
@pytest.mark.parametrize("horizon", [1, 8, 40])
def test_every_length_and_horizon_has_a_forecast_in_order(length: int, horizon: int) -> None:
    history = wave(length, noise=1.0) - 50
    for quantiles in (ridge(history, horizon, 24), seasonal_naive(history, horizon, 8)):
        assert quantiles.shape == (horizon, len(LEVELS))
        assert np.isfinite(quantiles).all()
        assert (np.diff(quantiles, axis=1) >= 0).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e12])
def test_a_constant_history_continues_without_a_band(value: float) -> None:
    history = np.full(60, value)
    for quantiles in (ridge(history, 5, 8), seasonal_naive(history, 5, 8)):
        np.testing.assert_allclose(quantiles, value)


def test_ridge_reads_histories_with_gaps_and_ignores_what_was_filled() -> None:
    series = wave(304, noise=1.0)
    gaps = np.where(np.random.default_rng(2).random(304) < 0.1, NAN, series)
    median = ridge(gaps, 8, 16, 8)[:, MEDIAN]
    assert np.abs(median - wave(8)).max() < 1.5
    gaps[-80:] = NAN  # nothing to choose the penalty by
    assert RidgeRegression.fit(gaps, 8, 16, 8) is None
    assert np.isfinite(ridge(gaps, 8, 16, 8)).all()


def test_a_long_season_gives_as_many_lags() -> None:
    assert (num_ridge_lags((48, 336)), num_ridge_lags((12,)), num_ridge_lags(())) == (336, 24, 24)


def test_mstl_names_its_package_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_baselines, "find_spec", lambda name: None)
    assert not has_mstl()
    with pytest.raises(ConfigError, match="pip install statsforecast"):
        mstl(np.arange(20.0), 2, (4,))


@pytest.mark.filterwarnings("default")  # the peer's own
def test_mstl_is_that_of_statsforecast() -> None:
    models = pytest.importorskip("statsforecast.models")
    history = wave(120, noise=1.0) + 0.1 * np.arange(120)
    quantiles = mstl(history, 8, (8, 61))  # the second season is not there twice
    peer = models.MSTL(season_length=[8], trend_forecaster=models.AutoETS(model="ZZN"))
    forecast = peer.forecast(y=history, h=8, level=[80])
    np.testing.assert_allclose(quantiles[:, MEDIAN], forecast["mean"])
    np.testing.assert_allclose(
        quantiles[:, BAND_80], np.stack([forecast["lo-80"], forecast["hi-80"]], 1)
    )
    assert (np.diff(quantiles, axis=1) >= 0).all()


@pytest.mark.filterwarnings("default")  # the peer's own
@pytest.mark.parametrize("length", [1, 4, 9, 10, 15])
def test_mstl_forecasts_short_and_constant_histories(length: int) -> None:
    pytest.importorskip("statsforecast")
    for history in (wave(length, noise=1.0), np.full(length, 3.0)):
        quantiles = mstl(history, 4, (4,))
        assert quantiles.shape == (4, len(LEVELS))
        assert np.isfinite(quantiles).all()


def test_quantiles_of_a_peer_are_its_mean_and_the_ends_of_its_bands() -> None:
    class Constant:
        def forecast(self, y: np.ndarray, h: int, *, level: list[int]) -> dict[str, np.ndarray]:
            bands = {f"lo-{percent}": np.full(h, -float(percent)) for percent in level}
            bands |= {f"hi-{percent}": np.full(h, float(percent)) for percent in level}
            return bands | {"mean": np.full(h, y[-1])}

    quantiles = peer_quantiles(Constant(), np.array([5.0]), 2)
    row = [-95, -80, -60, -40, -20, 5, 20, 40, 60, 80, 95]
    np.testing.assert_array_equal(quantiles, [row, row])
