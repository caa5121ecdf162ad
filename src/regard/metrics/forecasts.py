"""Scores of forecasts: MASE, weighted quantile loss, and coverage of the bands.

A forecast is ``[horizon, len(LEVELS)]``: the quantiles of each future value at `LEVELS`. MASE is
the error of the median in units of the error that copying the last season makes in the history
(Hyndman & Koehler 2006, "Another look at measures of forecast accuracy"). The weighted quantile
loss is that of GluonTS (Alexandrov et al. 2020): twice the pinball loss over all values, divided by
the sum of their absolute values, averaged over the levels 0.1 to 0.9. Coverage is the fraction of
the values inside a band. Values that are missing (NaN) are not scored. Intervals and tests resample
windows; a window is what follows an origin of a series. Cost: linear in the values.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.errors import ConfigError, ShapeError
from regard.metrics.bootstrap import (
    RESAMPLING,
    PairedScore,
    Statistics,
    compare_scores,
    require_aligned,
    score_with_interval,
)

LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)
"""Levels of the quantiles of every forecast: deciles, and the ends of the 95 % band."""
MEDIAN = LEVELS.index(0.5)
"""Index of the median in `LEVELS`."""
DECILES = slice(LEVELS.index(0.1), LEVELS.index(0.9) + 1)
"""Indices of the levels 0.1 to 0.9, those of the weighted quantile loss."""
BAND_80 = (LEVELS.index(0.1), LEVELS.index(0.9))
"""Indices of the ends of the 80 % band."""
BAND_95 = (LEVELS.index(0.025), LEVELS.index(0.975))
"""Indices of the ends of the 95 % band."""

_SIGNATURES = {
    "mase": "mase|mean over windows|season:{season}",
    "wql": "wql|levels:0.1-0.9",
    "coverage80": "coverage|band:0.1-0.9",
    "coverage95": "coverage|band:0.025-0.975",
}
_ROUNDING = 1e-10  # differences as small, relative to the largest value, are of float64 arithmetic


class ForecastScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score of forecasts with its 95 % bootstrap interval.

    Args:
        value: The score; coverage is in percent.
        low: Lower end of the interval; None where it is unknown, as it is for one window.
        high: Upper end of the interval; None where it is unknown.
        signature: How the score is computed, in the form of sacrebleu.
    """

    value: float
    low: float | None
    high: float | None
    signature: str


class ForecastScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores of forecasts of the same windows.

    Args:
        mase: Mean absolute scaled error of the median; lower is better, below 1 the median is
            better than copying the last season was in the history. None where no window has a
            scale.
        wql: Weighted quantile loss; lower is better. None where every value is 0 or missing.
        coverage80: Values inside the 80 % band, in percent. None where every value is missing.
        coverage95: Values inside the 95 % band, in percent. None where every value is missing.
        num_windows: Windows with a value to score.
        num_values: Values scored.
        num_unscaled: Windows with a value but without a scale: their history is constant, repeats
            itself exactly, or has no two values a season apart. MASE leaves them out.
    """

    mase: ForecastScore | None
    wql: ForecastScore | None
    coverage80: ForecastScore | None
    coverage95: ForecastScore | None
    num_windows: int
    num_values: int
    num_unscaled: int


class ForecastMeasures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores of forecasts without intervals; see `ForecastScores`.

    Args:
        mase: Mean absolute scaled error; None where no window has a scale.
        wql: Weighted quantile loss; None where every value is 0 or missing.
        coverage80: Values inside the 80 % band, in percent; None where every value is missing.
    """

    mase: float | None
    wql: float | None
    coverage80: float | None


class PairedForecastScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The difference of two forecasters on the same windows; negative where the first is better.

    Args:
        mase: Difference in MASE; None where it is unknown, as it is for one window.
        wql: Difference in weighted quantile loss; None where it is unknown.
        num_windows: Windows scored.
    """

    mase: PairedScore | None
    wql: PairedScore | None
    num_windows: int


class WindowErrors(msgspec.Struct, frozen=True, kw_only=True):
    """What the scores need of each window; every array is ``[windows]``.

    Args:
        num_values: Values that are not missing.
        scaled_error: Mean absolute error of the median in units of the scale; NaN without a
            scale or a value.
        quantile_loss: Twice the pinball loss, summed over values, averaged over levels 0.1 to 0.9.
        size: Sum of the absolute values.
        num_in_80: Values inside the 80 % band.
        num_in_95: Values inside the 95 % band.
    """

    num_values: NDArray[np.int64]
    scaled_error: NDArray[np.float64]
    quantile_loss: NDArray[np.float64]
    size: NDArray[np.float64]
    num_in_80: NDArray[np.int64]
    num_in_95: NDArray[np.int64]


def seasonal_scale(history: NDArray[np.float64], season: int) -> float:
    """Return the mean absolute difference of values a season apart, the scale of MASE.

    Args:
        history: Values up to the origin, ``[length]``; NaN where missing.
        season: Length of the season in steps, 1 or more; 1 without a season.

    Returns:
        The scale; 0 where every such difference is 0 up to rounding, NaN without a difference.

    Raises:
        ConfigError: The season is shorter than a step.

    >>> seasonal_scale(np.array([1.0, 2.0, 4.0, 3.0]), 2)
    2.0
    """
    if season < 1:
        raise ConfigError(f"season is {season}; it must be 1 or more, 1 without a season.")
    history = np.asarray(history, dtype=np.float64)
    differences = np.abs(history[season:] - history[:-season])
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return float("nan")
    scale = float(differences.mean())
    return scale if scale > _ROUNDING * float(np.nanmax(np.abs(history))) else 0.0


def mean_absolute_scaled_error(
    actual: NDArray[np.float64],
    forecast: NDArray[np.float64],
    history: NDArray[np.float64],
    season: int,
) -> float:
    """Return the mean absolute error of a forecast in units of the history's seasonal differences.

    Args:
        actual: Values after the origin, ``[horizon]``; NaN where missing.
        forecast: Forecast values, ``[horizon]``.
        history: Values up to the origin, ``[length]``; NaN where missing.
        season: Length of the season in steps; 1 without a season.

    Returns:
        The error; NaN where every actual value is missing or the scale is 0 or NaN.

    Raises:
        ConfigError: The season is shorter than a step.
        ShapeError: The forecast has other values.

    >>> mean_absolute_scaled_error(np.array([5.0]), np.array([4.0]), np.array([1.0, 3.0]), 1)
    0.5
    """
    actual, forecast = np.asarray(actual), np.asarray(forecast)
    _require_shape("forecast", forecast, actual.shape)
    errors = np.abs(actual - forecast)
    errors = errors[~np.isnan(actual)]
    scale = seasonal_scale(history, season)
    return float(errors.mean() / scale) if len(errors) and scale > 0 else float("nan")


def pinball_loss(
    actual: NDArray[np.float64], quantiles: NDArray[np.float64], levels: Sequence[float] = LEVELS
) -> NDArray[np.float64]:
    """Return the loss ``max(q (y - f), (1 - q) (f - y))`` of each quantile, in the values' unit.

    Args:
        actual: Values, ``[...]``; NaN where missing.
        quantiles: Forecast quantiles, ``[..., levels]``.
        levels: Level of each quantile, between 0 and 1.

    Returns:
        The loss, ``[..., levels]``; NaN where a value is missing.

    Raises:
        ShapeError: There is not one quantile of every level for every value.
    """
    actual, quantiles, q = np.asarray(actual), np.asarray(quantiles), np.asarray(levels)
    _require_shape("quantiles", quantiles, (*actual.shape, len(q)))
    difference = actual[..., None] - quantiles
    return np.maximum(q * difference, (q - 1) * difference)


def weighted_quantile_loss(
    actual: NDArray[np.float64],
    quantiles: NDArray[np.float64],
    levels: Sequence[float] = LEVELS[DECILES],
) -> float:
    """Return twice the pinball loss divided by the sum of the absolute values, mean over levels.

    Args:
        actual: Values, ``[...]``; NaN where missing.
        quantiles: Forecast quantiles, ``[..., len(LEVELS)]``, of which those at `levels` are used.
        levels: Levels to average over, of `LEVELS`.

    Returns:
        The loss; NaN where every value is 0 or missing.

    Raises:
        ConfigError: A level is not one of `LEVELS`.
        ShapeError: There is not one quantile of every level for every value.
    """
    unknown = [level for level in levels if level not in LEVELS]
    if unknown:
        raise ConfigError(f"unknown level {unknown[0]}.  One of: {', '.join(map(str, LEVELS))}")
    quantiles = _all_quantiles(actual, quantiles)
    columns = [LEVELS.index(level) for level in levels]
    loss = 2 * np.nansum(pinball_loss(actual, quantiles[..., columns], levels))
    size = np.nansum(np.abs(actual))
    return float(loss / len(columns) / size) if size > 0 else float("nan")


def coverage(
    actual: NDArray[np.float64], quantiles: NDArray[np.float64], band: tuple[int, int] = BAND_80
) -> float:
    """Return the fraction of values inside a band, 0 to 1; its ends are inside.

    Args:
        actual: Values, ``[...]``; NaN where missing.
        quantiles: Forecast quantiles, ``[..., len(LEVELS)]``.
        band: Indices of the band's ends in `LEVELS`.

    Returns:
        The fraction; NaN where every value is missing.

    Raises:
        ShapeError: There is not one quantile of every level for every value.
    """
    quantiles = _all_quantiles(actual, quantiles)
    is_known = ~np.isnan(actual)
    is_inside = _is_inside(actual, quantiles, band)
    return float(is_inside.sum() / is_known.sum()) if is_known.any() else float("nan")


def window_errors(
    actuals: Sequence[NDArray[np.float64]],
    quantiles: Sequence[NDArray[np.float64]],
    scales: Sequence[float],
) -> WindowErrors:
    """Compute what the scores need of each window.

    Args:
        actuals: Values of each window, ``[horizon]``; NaN where missing.
        quantiles: Their forecasts, ``[horizon, len(LEVELS)]`` each.
        scales: Scale of each window by `seasonal_scale`; 0 or NaN for none.

    Returns:
        The errors, in the order of the windows.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The numbers of windows differ, or a forecast has another shape or a quantile
            that is not finite.
    """
    require_aligned(quantiles, actuals, "forecasts")
    require_aligned(scales, actuals, "scales")
    rows = np.zeros((6, len(actuals)))  # [figures, windows]
    for row, (actual, forecast, scale) in enumerate(zip(actuals, quantiles, scales, strict=True)):
        _require_quantiles(row, actual, forecast)
        is_known = ~np.isnan(actual)
        values, predicted = actual[is_known], forecast[is_known]
        error = np.abs(values - predicted[:, MEDIAN])
        loss = pinball_loss(values, predicted[:, DECILES], LEVELS[DECILES])
        rows[:, row] = (
            len(values),
            error.mean() / scale if len(error) and scale > 0 else float("nan"),
            2 * loss.mean(axis=1).sum(),
            np.abs(values).sum(),
            _is_inside(values, predicted, BAND_80).sum(),
            _is_inside(values, predicted, BAND_95).sum(),
        )
    num_values, scaled_error, quantile_loss, size, num_in_80, num_in_95 = rows
    return WindowErrors(
        num_values=num_values.astype(np.int64),
        scaled_error=scaled_error,
        quantile_loss=quantile_loss,
        size=size,
        num_in_80=num_in_80.astype(np.int64),
        num_in_95=num_in_95.astype(np.int64),
    )


def measure_forecasts(errors: WindowErrors) -> ForecastMeasures:
    """Return the scores of all windows without intervals."""
    scaled = errors.scaled_error[~np.isnan(errors.scaled_error)]
    size, num_values = errors.size.sum(), errors.num_values.sum()
    return ForecastMeasures(
        mase=float(scaled.mean()) if len(scaled) else None,
        wql=float(errors.quantile_loss.sum() / size) if size > 0 else None,
        coverage80=float(100 * errors.num_in_80.sum() / num_values) if num_values else None,
    )


def score_forecasts(errors: WindowErrors, season: int) -> ForecastScores:
    """Return the scores of all windows, with 95 % bootstrap intervals over windows.

    Args:
        errors: Errors of each window, by `window_errors`.
        season: The season of the scales, for the signature.
    """

    def ratio(name: str, sums: NDArray[np.float64], totals: NDArray[np.float64]) -> ForecastScore:
        statistics = np.stack([sums, totals], axis=1)  # [windows, 2]
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample of zeros has no score
            score = score_with_interval(statistics, _ratio_of_sums, _signature(name, season))
        is_known = len(statistics) > 1 and np.isfinite([score.low, score.high]).all()
        low, high = (score.low, score.high) if is_known else (None, None)
        return ForecastScore(value=score.value, low=low, high=high, signature=score.signature)

    has_values, has_scale = errors.num_values > 0, ~np.isnan(errors.scaled_error)
    scaled, loss = errors.scaled_error[has_scale], errors.quantile_loss[has_values]
    size, num_values = errors.size[has_values], errors.num_values[has_values].astype(np.float64)
    inside = (errors.num_in_80, errors.num_in_95)
    bands = [100 * counts[has_values].astype(np.float64) for counts in inside]
    return ForecastScores(
        mase=ratio("mase", scaled, np.ones(len(scaled))) if len(scaled) else None,
        wql=ratio("wql", loss, size) if size.sum() > 0 else None,
        coverage80=ratio("coverage80", bands[0], num_values) if len(num_values) else None,
        coverage95=ratio("coverage95", bands[1], num_values) if len(num_values) else None,
        num_windows=int(has_values.sum()),
        num_values=int(errors.num_values.sum()),
        num_unscaled=int((has_values & ~has_scale).sum()),
    )


def compare_forecasts(
    first: WindowErrors, second: WindowErrors, season: int
) -> PairedForecastScores:
    """Return the difference of two forecasters by paired bootstrap over the same windows.

    Args:
        first: Errors of the first, by `window_errors`.
        second: Errors of the second in the same windows.
        season: The season of the scales, for the signature.

    Raises:
        ShapeError: The windows differ.
    """
    if not np.array_equal(first.num_values, second.num_values):
        raise ShapeError("the two forecasters were scored on different windows.  Use the same.")

    def pair(
        name: str, sums: Sequence[NDArray[np.float64]], totals: Sequence[NDArray[np.float64]]
    ) -> PairedScore | None:
        ours, theirs = (np.stack(columns, axis=1) for columns in zip(sums, totals, strict=True))
        if len(ours) < 2:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            score = compare_scores(ours, theirs, _ratio_of_sums, _signature(name, season))
        return score if np.isfinite([score.difference, score.low, score.high]).all() else None

    systems = (first, second)
    has_values = first.num_values > 0
    has_scale = ~np.isnan(first.scaled_error) & ~np.isnan(second.scaled_error)
    scaled = [errors.scaled_error[has_scale] for errors in systems]
    losses = [errors.quantile_loss[has_values] for errors in systems]
    sizes = [errors.size[has_values] for errors in systems]
    return PairedForecastScores(
        mase=pair("mase", scaled, [np.ones(len(errors)) for errors in scaled]),
        wql=pair("wql", losses, sizes),
        num_windows=int(has_values.sum()),
    )


def _signature(name: str, season: int) -> str:
    """Return how a score and its interval are computed."""
    return f"{_SIGNATURES[name].format(season=season)}|{RESAMPLING}"


def _ratio_of_sums(sums: Statistics) -> NDArray[np.float64]:
    """Return the first sum over the second, ``[samples]``, from ``[samples, 2]``."""
    return sums[:, 0] / sums[:, 1]


def _is_inside(
    actual: NDArray[np.float64], quantiles: NDArray[np.float64], band: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return whether values, ``[...]``, are inside a band; False where one is missing."""
    low, high = (quantiles[..., end] for end in band)
    return (actual >= low) & (actual <= high)


def _all_quantiles(
    actual: NDArray[np.float64], quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the quantiles at `LEVELS` of values, ``[...]``, as an array of ``[..., levels]``."""
    quantiles = np.asarray(quantiles)
    _require_shape("quantiles", quantiles, (*np.shape(actual), len(LEVELS)))
    return quantiles


def _require_shape(name: str, values: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Raise ShapeError where values, which would be broadcast, have another shape."""
    if values.shape != shape:
        raise ShapeError(f"{name} has shape {list(values.shape)}; expected {list(shape)}.")


def _require_quantiles(
    row: int, actual: NDArray[np.float64], forecast: NDArray[np.float64]
) -> None:
    """Check that a forecast has a finite quantile at every level for every value."""
    expected = (len(actual), len(LEVELS))
    if forecast.shape != expected:
        raise ShapeError(
            f"the forecast of window {row + 1} has shape {list(forecast.shape)}; "
            f"{list(expected)} was expected: a row a value, a column a level."
        )
    if not np.isfinite(forecast).all():
        raise ShapeError(f"the forecast of window {row + 1} has values that are not finite.")
