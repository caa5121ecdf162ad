"""Scores of forecasts: values computed by hand, missing values, scales of 0, intervals, pairs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regard.errors import ConfigError, DataError, ShapeError
from regard.metrics.forecasts import (
    BAND_95,
    LEVELS,
    WindowErrors,
    compare_forecasts,
    coverage,
    mean_absolute_scaled_error,
    pinball_loss,
    score_forecasts,
    seasonal_scale,
    weighted_quantile_loss,
    window_errors,
)

NAN = float("nan")


def around(median: NDArray[np.float64], width: float = 10.0) -> NDArray[np.float64]:
    """Return quantiles that lie evenly around a median."""
    return np.asarray(median)[..., None] + width * (np.array(LEVELS) - 0.5)


def errors_of(*actuals: list[float], scales: list[float] | None = None) -> WindowErrors:
    """Return the errors of a forecast of 0 with a band of 8, for windows with a scale of 2."""
    windows = [np.array(actual) for actual in actuals]
    quantiles = [around(np.zeros(len(window))) for window in windows]
    return window_errors(windows, quantiles, scales or [2.0] * len(windows))


def test_mase_is_the_error_over_that_of_the_last_season() -> None:
    history = np.array([10.0, 20.0, 13.0, 22.0, 11.0, 26.0])
    # differences two steps apart: 3, 2, 2, 4 -> scale 2.75; errors 1 and 5 -> 3
    forecast = np.array([12.0, 20.0])
    error = mean_absolute_scaled_error(np.array([11.0, 25.0]), forecast, history, 2)
    assert error == pytest.approx(3 / 2.75)


def test_the_copy_of_the_last_value_of_a_straight_line_has_a_mase_of_the_steps_ahead() -> None:
    history = np.arange(20.0)
    copied = np.full(3, 19.0)
    assert mean_absolute_scaled_error(np.arange(20.0, 23.0), copied, history, 1) == 2.0


def test_differences_with_a_missing_value_are_not_in_the_scale() -> None:
    assert seasonal_scale(np.array([1.0, NAN, 4.0, 6.0]), 1) == 2.0
    assert np.isnan(seasonal_scale(np.array([1.0, NAN, 4.0, NAN]), 1))


@pytest.mark.parametrize("length", [0, 1, 5, 6])
def test_a_history_without_two_values_a_season_apart_has_no_scale(length: int) -> None:
    assert np.isnan(seasonal_scale(np.arange(float(length)), 6))


def test_a_history_that_repeats_itself_up_to_rounding_has_a_scale_of_zero() -> None:
    wave = 1e6 * np.sin(2 * np.pi * np.arange(480) / 48)
    assert 0 < np.abs(wave[48:] - wave[:-48]).mean() < 1e-6
    assert seasonal_scale(wave, 48) == 0
    assert seasonal_scale(np.full(9, 0.1), 1) == 0
    assert seasonal_scale(np.zeros(9), 1) == 0


def test_pinball_loss_weighs_the_two_sides_by_the_level() -> None:
    loss = pinball_loss(np.array([10.0]), np.array([[4.0, 14.0]]), (0.9, 0.9))
    np.testing.assert_allclose(loss, [[5.4, 0.4]])


def test_weighted_quantile_loss_is_that_of_gluonts() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=(3, 7))
    quantiles = np.sort(rng.normal(size=(3, 7, len(LEVELS))), axis=-1)
    by_level = []
    for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        forecast = quantiles[..., LEVELS.index(level)]
        # GluonTS: 2 |(forecast - label) ((label <= forecast) - q)|
        loss = 2 * np.abs((forecast - actual) * ((actual <= forecast) - level)).sum()
        by_level.append(loss / np.abs(actual).sum())
    assert weighted_quantile_loss(actual, quantiles) == pytest.approx(np.mean(by_level))


def test_the_loss_of_a_point_is_its_absolute_error_over_the_size_of_the_values() -> None:
    actual = np.array([-3.0, 5.0])
    point = np.repeat([[-4.0], [7.0]], len(LEVELS), axis=1)
    assert weighted_quantile_loss(actual, point) == pytest.approx(3 / 8)


def test_the_ends_of_a_band_are_inside_it() -> None:
    actual = np.array([-4.0, 4.0, 4.1, NAN])
    quantiles = around(np.zeros(4))  # 80 % band: -4 to 4, 95 % band: -4.75 to 4.75
    assert coverage(actual, quantiles) == pytest.approx(2 / 3)
    assert coverage(actual, quantiles, BAND_95) == 1.0


def test_missing_values_change_no_score() -> None:
    whole = score_forecasts(errors_of([3.0, -1.0], [6.0, 2.0]), 1)
    gaps = score_forecasts(errors_of([3.0, NAN, -1.0], [NAN, 6.0, 2.0], [NAN]), 1)
    assert gaps == whole
    assert (gaps.num_windows, gaps.num_values) == (2, 4)


def test_scores_of_windows_are_means_of_errors_and_ratios_of_sums() -> None:
    errors = errors_of([3.0, -1.0], [6.0], scales=[2.0, 4.0])
    scores = score_forecasts(errors, 7)
    assert scores.mase is not None and scores.wql is not None
    assert scores.coverage80 is not None and scores.coverage95 is not None
    assert scores.mase.value == pytest.approx((2 / 2 + 6 / 4) / 2)
    actual = np.array([3.0, -1.0, 6.0])
    assert scores.wql.value == pytest.approx(weighted_quantile_loss(actual, around(np.zeros(3))))
    assert scores.coverage80.value == pytest.approx(100 * 2 / 3)
    assert scores.coverage95.value == pytest.approx(100 * 2 / 3)
    assert "season:7" in scores.mase.signature


def test_windows_without_a_scale_are_counted_and_only_mase_leaves_them_out() -> None:
    scores = score_forecasts(errors_of([2.0], [9.0], [4.0], scales=[2.0, 0.0, NAN]), 1)
    assert scores.mase is not None and scores.wql is not None
    assert scores.mase.value == 1.0
    assert scores.num_unscaled == 2
    assert scores.num_windows == 3


def test_scores_that_do_not_exist_are_none() -> None:
    zeros = score_forecasts(errors_of([0.0], [0.0, 0.0], scales=[0.0, 0.0]), 1)
    assert zeros.mase is None and zeros.wql is None
    assert zeros.coverage80 is not None and zeros.coverage80.value == 100
    missing = score_forecasts(errors_of([NAN], [NAN, NAN]), 1)
    assert missing.mase is missing.wql is missing.coverage80 is missing.coverage95 is None
    assert missing.num_windows == 0


def test_the_interval_of_one_window_is_unknown() -> None:
    scores = score_forecasts(errors_of([3.0, 1.0], [NAN, NAN]), 1)
    assert scores.mase is not None and scores.wql is not None
    assert scores.mase.value == 1.0
    assert scores.mase.low is scores.mase.high is scores.wql.low is None


def test_an_interval_is_unknown_where_a_resample_has_no_score() -> None:
    scores = score_forecasts(errors_of([0.0], [0.0], [6.0]), 1)
    assert scores.wql is not None and scores.mase is not None
    assert scores.wql.low is None
    assert scores.mase.low == 0.0


def test_intervals_hold_the_score_and_narrow_with_more_windows() -> None:
    def width(number: int) -> float:
        score = score_forecasts(errors_of(*[[3.0], [1.0]] * number), 1).mase
        assert score is not None and score.low is not None and score.high is not None
        assert score.low <= score.value == 1.0 <= score.high
        return score.high - score.low

    assert width(100) < width(5) / 3


def test_an_equal_forecaster_differs_by_nothing() -> None:
    errors = errors_of([3.0], [1.0], [8.0])
    paired = compare_forecasts(errors, errors, 1)
    assert paired.mase is not None and paired.wql is not None
    assert (paired.mase.difference, paired.mase.low, paired.mase.high) == (0, 0, 0)
    assert paired.wql.p_value == 1.0


def test_a_better_forecaster_is_better_on_the_same_windows() -> None:
    actuals = [np.array([float(value)]) for value in range(20, 60)]
    near, far = (
        window_errors(actuals, [around(actual + shift) for actual in actuals], [1.0] * 40)
        for shift in (1, 4)
    )
    paired = compare_forecasts(near, far, 1)
    assert paired.mase is not None and paired.wql is not None
    assert paired.mase.difference == pytest.approx(-3)
    assert paired.wql.high < 0
    assert paired.wql.p_value < 0.01


def test_one_window_is_not_compared() -> None:
    errors = errors_of([3.0])
    paired = compare_forecasts(errors, errors, 1)
    assert paired.mase is paired.wql is None


@pytest.mark.parametrize("shape", [(2, 9), (3, len(LEVELS)), (2,)])
def test_a_forecast_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"window 1 .*\[2, 11\] was expected"):
        window_errors([np.zeros(2)], [np.zeros(shape)], [1.0])


def test_a_forecast_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ShapeError, match="the forecast of window 1 has values that are not finite"):
        window_errors([np.zeros(1)], [np.full((1, len(LEVELS)), NAN)], [1.0])


def test_no_windows_are_refused_and_different_ones_are_not_compared() -> None:
    with pytest.raises(DataError, match="nothing to score"):
        window_errors([], [], [])
    with pytest.raises(ShapeError, match="different windows"):
        compare_forecasts(errors_of([3.0]), errors_of([3.0, 1.0]), 1)


@pytest.mark.parametrize("season", [0, -1])
def test_a_season_shorter_than_a_step_is_refused(season: int) -> None:
    with pytest.raises(ConfigError) as caught:
        mean_absolute_scaled_error(np.ones(2), np.ones(2), np.arange(5.0), season)
    assert str(caught.value) == f"season is {season}; it must be 1 or more, 1 without a season."


def test_arrays_that_would_be_broadcast_are_refused() -> None:
    values, columns = np.ones(3), np.ones((3, 1))
    with pytest.raises(ShapeError, match=r"^forecast has shape \[3, 1\]; expected \[3\]\.$"):
        mean_absolute_scaled_error(values, columns, np.arange(5.0), 1)
    message = rf"^quantiles has shape \[3, 1\]; expected \[3, {len(LEVELS)}\]\.$"
    for score in (pinball_loss, weighted_quantile_loss, coverage):
        with pytest.raises(ShapeError, match=message):
            score(values, columns)


def test_a_level_without_a_quantile_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^unknown level 0\.95\.  One of: 0\.025, 0\.1, "):
        weighted_quantile_loss(np.ones(2), np.ones((2, len(LEVELS))), [0.5, 0.95])
