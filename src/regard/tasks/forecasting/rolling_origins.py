"""Rolling origins: the windows of a series on which forecasts are scored.

Each origin is a horizon after the one before, so that no value is scored twice (Tashman 2000,
"Out-of-sample tests of forecasting accuracy"). The history of an origin is every value before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.time_series import TimeSeries
from regard.metrics.forecasts import seasonal_scale


class ForecastWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What follows an origin of a series.

    Args:
        series: Index of the series in its `TimeSeries`.
        origin: Index of the first value that is forecast; the history is the values before it.
        actual: The values to be forecast, ``[horizon]``; NaN where missing.
    """

    series: int
    origin: int
    actual: NDArray[np.float64]


def rolling_origins(series: TimeSeries, first: Sequence[int], horizon: int) -> list[ForecastWindow]:
    """Return the windows of some series, a horizon apart, series by series.

    The end of a series that is shorter than the horizon is left out, and so is a window without a
    value before or after its origin.

    Args:
        series: The series.
        first: First origin of each.
        horizon: Steps ahead, 1 or more.
    """
    return [
        ForecastWindow(series=row, origin=origin, actual=values[origin : origin + horizon])
        for row, (values, begin) in enumerate(zip(series.values, first, strict=True))
        for origin in range(begin, len(values) - horizon + 1, horizon)
        if not np.isnan(values[:origin]).all()
        and not np.isnan(values[origin : origin + horizon]).all()
    ]


def window_scales(
    series: TimeSeries, windows: Sequence[ForecastWindow], season: int
) -> list[float]:
    """Return the scale of MASE of each window: that of the history before its series' first origin.

    Args:
        series: The series.
        windows: Their windows, in the order of time.
        season: Length of the season in steps; 1 without one.
    """
    scales: dict[int, float] = {}
    for window in windows:
        if window.series not in scales:
            history = series.values[window.series][: window.origin]
            scales[window.series] = seasonal_scale(history, season)
    return [scales[window.series] for window in windows]


def histories(
    series: TimeSeries, windows: Sequence[ForecastWindow], most: int | None = None
) -> TimeSeries:
    """Return the history of each window, with what is known ahead, as a series of its own.

    Args:
        series: The series.
        windows: Windows of these series.
        most: Last values of each history that are kept; None keeps all.
    """
    rows = series.select(window.series for window in windows)
    rows = rows.until([window.origin for window in windows])
    if most is None:
        return rows
    first = [max(0, window.origin - most) for window in windows]
    return msgspec.structs.replace(
        rows,
        values=[values[begin:] for values, begin in zip(rows.values, first, strict=True)],
        indices=[
            index.starting_at(begin) for index, begin in zip(rows.indices, first, strict=True)
        ],
        known=[ahead[begin:] for ahead, begin in zip(rows.known, first, strict=True)],
        observed=[observed[begin:] for observed, begin in zip(rows.observed, first, strict=True)],
    )
