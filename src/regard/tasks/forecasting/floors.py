"""Forecasts without a trained model, in the windows of an evaluation: the bar for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.time_series import TimeSeries
from regard.metrics.forecast_baselines import (
    RidgeRegression,
    has_mstl,
    mstl,
    num_ridge_lags,
    seasonal_naive,
)
from regard.metrics.forecasts import WindowErrors, window_errors
from regard.tasks.forecasting.rolling_origins import ForecastWindow

MOST_SECONDS = 300.0
"""Time that MSTL may take in an evaluation; it is left out where it would take more."""
_GROWTH = 1.5  # of the history, after which ridge is fitted to it again
_UNTIMED = 1  # windows whose time says little: MSTL is compiled in the first

_Forecast = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""Returns quantiles, ``[horizon, len(LEVELS)]``, from a history and the index of its series."""


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecaster that is not trained does in the windows.

    Args:
        title: What it is, in words.
        errors: Errors of each window.
        seconds: Wall time of its fits and forecasts.
    """

    title: str
    errors: WindowErrors
    seconds: float


def forecast_floors(
    series: TimeSeries,
    windows: Sequence[ForecastWindow],
    scales: Sequence[float],
    seasons: Sequence[int],
    horizon: int,
) -> tuple[dict[str, Floor], list[str]]:
    """Forecast every window by copies of the last value and seasons, by ridge regression, and MSTL.

    Ridge regression is fitted to the history of the first window of a series, and again where the
    history has become half as long again. MSTL is fitted to every history; it is left out
    where its package is not installed, or it would take more than `MOST_SECONDS`.

    Args:
        series: The series.
        windows: Their windows, by series and in the order of time.
        scales: Scale of each window, for MASE.
        seasons: Lengths of the seasons in steps, shortest first; empty for none.
        horizon: Steps ahead.

    Returns:
        The floors by name, and notes on what was left out.
    """
    longest = max(seasons, default=1)
    forecasters: dict[str, tuple[str, _Forecast]] = {}
    for season in (1, *seasons):
        name = f"seasonal_naive_{season}" if season > 1 else "naive"
        title = (
            f"the copy of {season:,} steps before" if season > 1 else "the copy of the last value"
        )

        def copy(history: NDArray, row: int, season: int = season) -> NDArray:  # noqa: ARG001
            return seasonal_naive(history, horizon, season)

        forecasters[name] = title, copy
    lags = num_ridge_lags(seasons)
    forecasters["ridge"] = f"ridge on {lags:,} lags", _GrowingRidge(horizon, lags, longest)
    if has_mstl():
        forecasters["mstl"] = "MSTL", lambda history, _: mstl(history, horizon, seasons)
    floors, notes = {}, []
    for name, (title, forecast) in forecasters.items():
        most = MOST_SECONDS if name == "mstl" else None
        start = time.monotonic()
        quantiles, needed = _forecast_all(series, windows, forecast, most)
        if quantiles is None:
            notes.append(f"{title} is left out: it would take about {needed / 60:,.0f} minutes.")
            continue
        errors = window_errors([window.actual for window in windows], quantiles, scales)
        floors[name] = Floor(title=title, errors=errors, seconds=time.monotonic() - start)
    return floors, notes


class _GrowingRidge:
    """Ridge regression that is fitted again as the history of a series grows.

    Args:
        horizon: Steps ahead.
        num_lags: Values that are read.
        season: Season for missing values and short histories.
    """

    def __init__(self, horizon: int, num_lags: int, season: int) -> None:
        self.horizon, self.num_lags, self.season = horizon, num_lags, season
        self._row, self._regression, self._next_fit = -1, None, 0

    def __call__(self, history: NDArray[np.float64], row: int) -> NDArray[np.float64]:
        if row != self._row or len(history) >= self._next_fit:
            self._regression = RidgeRegression.fit(
                history, self.horizon, self.num_lags, self.season
            )
            self._row, self._next_fit = row, _GROWTH * len(history)
            if self._regression is None:  # each value more may be enough
                self._next_fit = 0
        if self._regression is None:
            return seasonal_naive(history, self.horizon, self.season)
        return self._regression.quantiles(history)


def _forecast_all(
    series: TimeSeries,
    windows: Sequence[ForecastWindow],
    forecast: _Forecast,
    most_seconds: float | None,
) -> tuple[list[NDArray[np.float64]] | None, float]:
    """Return the forecasts of all windows, and the seconds that they take.

    They are None where they would take more than `most_seconds`.
    """
    quantiles: list[NDArray[np.float64]] = []
    start = time.monotonic()
    for number, window in enumerate(windows):
        if number == _UNTIMED:
            start = time.monotonic()
        quantiles.append(forecast(series.values[window.series][: window.origin], window.series))
        elapsed, num_timed = time.monotonic() - start, number + 1 - _UNTIMED
        if num_timed > 0 and most_seconds is not None:
            needed = elapsed / num_timed * len(windows)
            if needed > most_seconds and elapsed > 0.1 * most_seconds:
                return None, needed
    return quantiles, time.monotonic() - start
