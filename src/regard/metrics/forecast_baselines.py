"""Baselines of forecasting: the copy of the last season, ridge regression on the lags, and MSTL.

Each gives the quantiles of what follows a history, ``[horizon, len(LEVELS)]``, and sees nothing
else. Missing values of a history are filled by `fill_gaps` first; a value that was filled is no
target and no residual. Ridge regression is Hoerl & Kennard 1970, direct: a regression for each step
ahead. MSTL is Bandara, Hyndman & Bergmeir 2021, with exponential smoothing of the trend, by the
optional package statsforecast.

Cost: the copy is linear in the history; ridge takes a product of ``[rows, lags]`` and an eigenvalue
decomposition of ``[lags, lags]``, 0.1 s for 4,000 values and 336 lags; MSTL takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from regard.errors import ConfigError, DataError
from regard.metrics.forecasts import LEVELS, MEDIAN

_PENALTIES = 10.0 ** np.arange(-8, 2.5, 0.5)
"""Penalties that ridge chooses from, in units of the mean variance of the lags."""
_HELD_OUT = 0.2  # of the rows of ridge, the last ones: they choose the penalty and give the bands
_MOST_ROWS = 20_000  # the last rows of a long history, for ridge
_FEWEST_LAGS = 24
_FEWEST_FOR_SMOOTHING = 10  # values that the largest of its models can be fitted to
_PEER = "statsforecast"


def fill_gaps(history: NDArray[np.float64], season: int = 1) -> NDArray[np.float64]:
    """Return a history without missing values.

    What is missing is interpolated in a straight line after the mean of each phase of the season is
    taken out; before the first value and after the last, that value continues.

    Args:
        history: Values, ``[length]``; NaN where missing.
        season: Length of the season in steps; 1 where there is none.

    Returns:
        All values, ``[length]``; those that were known are unchanged.

    Raises:
        DataError: Every value is missing.

    >>> fill_gaps(np.array([np.nan, 1.0, np.nan, 3.0]))
    array([1., 1., 2., 3.])
    """
    is_known = ~np.isnan(history)
    if is_known.all() and len(history):
        return np.asarray(history, dtype=np.float64)
    if not is_known.any():
        raise DataError("the history of a forecast has no values.  Give one or more.")
    phase = np.arange(len(history)) % season
    counts = np.bincount(phase[is_known], minlength=season)
    sums = np.bincount(phase[is_known], history[is_known], minlength=season)
    overall = history[is_known].mean()
    profile = np.where(counts > 0, sums / np.maximum(counts, 1), overall)[phase]  # [length]
    rest = history - profile
    steps = np.arange(len(history))
    filled = np.interp(steps, steps[is_known], rest[is_known]) + profile
    return np.where(is_known, history, filled)


def seasonal_naive(history: NDArray[np.float64], horizon: int, season: int) -> NDArray[np.float64]:
    """Return the copy of the last season, with bands from the errors of such copies.

    The band at a level has the quantile of the absolute differences a season apart in the history
    on both sides of the copy; ``k`` seasons ahead it is ``sqrt(k)`` times as wide (Hyndman &
    Athanasopoulos 2021, section 5.5).

    Args:
        history: Values, ``[length]``; NaN where missing.
        horizon: Steps ahead, 1 or more.
        season: Length of the season in steps, 1 where there is none. Where the history is not
            longer, the last value is copied.

    Returns:
        Quantiles, ``[horizon, len(LEVELS)]``; the median is the copy.

    Raises:
        DataError: Every value is missing.
    """
    season = season if len(history) > season else 1
    filled = fill_gaps(history, season)
    steps = np.arange(horizon)
    copied = filled[len(filled) - season + steps % season]
    errors = np.abs(history[season:] - history[:-season])
    errors = errors[~np.isnan(errors)]
    if not len(errors):
        return np.repeat(copied[:, None], len(LEVELS), axis=1)
    levels = np.array(LEVELS)
    widths = np.sign(levels - 0.5) * np.quantile(errors, np.abs(2 * levels - 1))  # [levels]
    widths[MEDIAN] = 0.0
    num_seasons = steps // season + 1
    return copied[:, None] + np.sqrt(num_seasons)[:, None] * widths  # [horizon, levels]


class RidgeRegression(msgspec.Struct, frozen=True, kw_only=True):
    """A ridge regression on the last values of a history, less their mean, for each step ahead.

    Args:
        num_values: Values of the history that it was fitted to.
        season: Length of the season in steps, for missing values.
        penalty: The penalty, in units of the mean variance of the lags.
        lag_means: Mean of each lag in the rows, ``[lags]``.
        step_means: Mean of each step ahead, ``[horizon]``.
        weights: ``[lags, horizon]``.
        band: Distance of each quantile from the median, ``[horizon, len(LEVELS)]``.
    """

    num_values: int
    season: int
    penalty: float
    lag_means: NDArray[np.float64]
    step_means: NDArray[np.float64]
    weights: NDArray[np.float64]
    band: NDArray[np.float64]

    @classmethod
    def fit(
        cls, history: NDArray[np.float64], horizon: int, num_lags: int, season: int = 1
    ) -> RidgeRegression | None:
        """Fit the regression to a history.

        Rows are all windows of `num_lags` values with the `horizon` values that follow, from which
        the mean of the lags is subtracted: a level that moves is followed. A first fit leaves out
        the last fifth of the rows, and every row that shares a target with them. These choose the
        penalty, by the squared error, and their residuals give the bands. The second fit is to all
        rows.

        Args:
            history: Values, ``[length]``; NaN where missing.
            horizon: Steps ahead, 1 or more.
            num_lags: Values that are read; fewer where the history is short.
            season: Length of the season in steps, for missing values.

        Returns:
            The regression; None where the history is too short for one.

        Raises:
            DataError: Every value is missing.
        """
        filled = fill_gaps(history, season)
        num_lags = min(num_lags, (len(history) - horizon) // 3)
        num_rows = min(_MOST_ROWS, len(history) - num_lags - horizon + 1)
        num_held_out = max(2, round(_HELD_OUT * num_rows))
        num_first = num_rows - num_held_out - horizon + 1
        if num_lags < 1 or num_first < 2:
            return None
        rows = sliding_window_view(filled, num_lags + horizon)[-num_rows:]
        levels = rows[:, :num_lags].mean(axis=1, keepdims=True)
        rows = rows - levels
        lags, steps = rows[:, :num_lags], rows[:, num_lags:]  # [rows, lags], [rows, horizon]
        is_known = ~np.isnan(sliding_window_view(history, num_lags + horizon)[-num_rows:])

        first = _Decomposition(lags[:num_first], steps[:num_first])
        held_out = lags[-num_held_out:] - first.lag_means
        targets = np.where(is_known, rows, np.nan)[-num_held_out:, num_lags:] - first.step_means
        if np.isnan(targets).all():
            return None
        residuals = [targets - held_out @ first.weights(penalty) for penalty in _PENALTIES]
        best = int(np.argmin([np.nanmean(errors**2) for errors in residuals]))
        second = _Decomposition(lags, steps)
        return cls(
            num_values=len(history),
            season=season,
            penalty=float(_PENALTIES[best]),
            lag_means=second.lag_means,
            step_means=second.step_means,
            weights=second.weights(_PENALTIES[best]),
            band=_band_of(residuals[best]),
        )

    def quantiles(self, history: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quantiles, ``[horizon, len(LEVELS)]``, of what follows a history.

        Args:
            history: Values, ``[lags or more]``; NaN where missing.

        Raises:
            DataError: Every value is missing.
        """
        last = fill_gaps(history, self.season)[-len(self.lag_means) :]
        level = last.mean()
        median = level + self.step_means + (last - level - self.lag_means) @ self.weights
        return median[:, None] + self.band  # [horizon, levels]


def num_ridge_lags(seasons: Sequence[int]) -> int:
    """Return how many lags ridge regression should read: the longest season, at least 24."""
    return max(*seasons, _FEWEST_LAGS, 1)


def ridge(
    history: NDArray[np.float64], horizon: int, num_lags: int, season: int = 1
) -> NDArray[np.float64]:
    """Return the forecast of a `RidgeRegression` that is fitted to the history.

    Args:
        history: Values, ``[length]``; NaN where missing.
        horizon: Steps ahead, 1 or more.
        num_lags: Values that are read; fewer where the history is short.
        season: Length of the season in steps, for missing values and short histories.

    Returns:
        Quantiles, ``[horizon, len(LEVELS)]``. They are those of `seasonal_naive` where the history
        is too short for a regression.

    Raises:
        DataError: Every value is missing.
    """
    regression = RidgeRegression.fit(history, horizon, num_lags, season)
    if regression is None:
        return seasonal_naive(history, horizon, season)
    return regression.quantiles(history)  # [horizon, levels]


def has_mstl() -> bool:
    """Return whether the package for `mstl` is installed."""
    return find_spec(_PEER) is not None


def mstl(history: NDArray[np.float64], horizon: int, seasons: Sequence[int]) -> NDArray[np.float64]:
    """Return the forecast of MSTL by statsforecast, fitted to the history.

    The trend is forecast by exponential smoothing that is chosen by AICc, without a season (its
    models ``ZZN``). Bands are normal, as that package gives them.

    Args:
        history: Values, ``[length]``; NaN where missing.
        horizon: Steps ahead, 1 or more.
        seasons: Lengths of the seasons in steps. A season that the history does not have twice is
            left out.

    Returns:
        Quantiles, ``[horizon, len(LEVELS)]``. They are those of `seasonal_naive` where the history
        is constant or has fewer than 10 values.

    Raises:
        ConfigError: statsforecast is not installed.
        DataError: Every value is missing.
    """
    if not has_mstl():
        raise ConfigError(
            f"MSTL is computed by {_PEER}, which is not installed.  Install it: pip install {_PEER}"
        )
    seasons = sorted(season for season in seasons if 1 < season <= len(history) // 2)
    filled = fill_gaps(history, max(seasons, default=1))
    if len(filled) < _FEWEST_FOR_SMOOTHING or np.ptp(filled) == 0:
        return seasonal_naive(history, horizon, max(seasons, default=1))
    models = import_module(f"{_PEER}.models")
    trend = models.AutoETS(model="ZZN")
    model = models.MSTL(season_length=seasons, trend_forecaster=trend) if seasons else trend
    return peer_quantiles(model, filled, horizon)


class StatsforecastModel(Protocol):
    """A model of statsforecast."""

    def forecast(
        self, y: NDArray[np.float64], h: int, *, level: list[int]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return ``mean``, and both ends of the band of each percentage, ``lo-80`` and ``hi-80``.

        Args:
            y: The history.
            h: Steps ahead.
            level: Percentages.
        """
        ...


def peer_quantiles(
    model: StatsforecastModel, history: NDArray[np.float64], horizon: int
) -> NDArray[np.float64]:
    """Return what a model of statsforecast forecasts, as quantiles.

    Args:
        model: The model; it is fitted to the history.
        history: Values without gaps, ``[length]``.
        horizon: Steps ahead.

    Returns:
        Quantiles, ``[horizon, len(LEVELS)]``; the median is its mean.
    """
    percents = sorted({round(100 * abs(2 * level - 1)) for level in LEVELS if level != 0.5})
    forecast = model.forecast(y=history, h=horizon, level=percents)
    columns = [forecast["mean" if level == 0.5 else _column(level)] for level in LEVELS]
    return np.sort(np.stack(columns, axis=1).astype(np.float64), axis=1)  # [horizon, levels]


def _column(level: float) -> str:
    """Return the name that statsforecast has for a quantile.

    >>> _column(0.1), _column(0.975)
    ('lo-80', 'hi-95')
    """
    return f"{'lo' if level < 0.5 else 'hi'}-{round(100 * abs(2 * level - 1))}"


def _band_of(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each quantile from the median, ``[horizon, len(LEVELS)]``.

    Residuals over the root mean square of their step have one distribution for all steps, so that a
    few rows are enough for its ends.

    Args:
        residuals: Residuals of held-out rows, ``[rows, horizon]``; NaN where the value is missing.
    """
    is_known = ~np.isnan(residuals)
    squares = np.where(is_known, residuals, 0.0) ** 2
    overall = np.sqrt(squares.sum() / is_known.sum())
    counts = is_known.sum(axis=0)
    scale = np.where(counts > 0, np.sqrt(squares.sum(axis=0) / np.maximum(counts, 1)), overall)
    if overall == 0:
        return np.zeros((len(scale), len(LEVELS)))
    scaled = residuals / np.where(scale > 0, scale, 1.0)  # [rows, horizon]
    quantiles = np.quantile(scaled[is_known], LEVELS)
    return scale[:, None] * (quantiles - quantiles[MEDIAN])


class _Decomposition:
    """Lags and steps of some rows, decomposed so that every penalty costs one product.

    Args:
        lags: ``[rows, lags]``.
        steps: ``[rows, horizon]``.
    """

    def __init__(self, lags: NDArray[np.float64], steps: NDArray[np.float64]) -> None:
        self.lag_means, self.step_means = lags.mean(axis=0), steps.mean(axis=0)
        centered = lags - self.lag_means  # [rows, lags]
        self._variances, self._axes = np.linalg.eigh(centered.T @ centered / len(lags))
        self._products = self._axes.T @ (centered.T @ (steps - self.step_means)) / len(lags)

    def weights(self, penalty: float) -> NDArray[np.float64]:
        """Return the weights, ``[lags, horizon]``, for a penalty relative to the mean variance."""
        denominators = self._variances.clip(0) + penalty * self._variances.mean()
        if denominators[-1] <= 0:  # constant lags
            return np.zeros_like(self._products)
        return self._axes @ (self._products / denominators[:, None])
