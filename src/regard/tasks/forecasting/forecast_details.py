"""Figures of a page about forecasts: errors by steps ahead, and whether quantiles are true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.metrics.classification import Reliability
from regard.metrics.forecasts import LEVELS, MEDIAN
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.evaluation_details import CalibrationChart, ScoreChart
from regard.tasks.forecasting.rolling_origins import ForecastWindow


def chart_quantiles(
    windows: Sequence[ForecastWindow], quantiles: Sequence[NDArray[np.float64]]
) -> CalibrationChart:
    """Return how many values are below each quantile (Gneiting, Balabdaoui & Raftery 2007).

    Args:
        windows: What came.
        quantiles: Quantiles of each window, ``[horizon, levels]``.
    """
    actual = np.concatenate([window.actual for window in windows])  # [values]
    stacked = np.concatenate(list(quantiles))  # [values, levels]
    is_known = ~np.isnan(actual)
    below = actual[is_known, None] <= stacked[is_known]
    num_values = int(is_known.sum())
    bins = Reliability(
        counts=[num_values] * len(LEVELS),
        confidence=list(LEVELS),
        accuracy=(below.mean(0) if num_values else np.zeros(len(LEVELS))).tolist(),
    )
    note = (
        "How many of the values are below each quantile (Gneiting, Balabdaoui & Raftery 2007).  On "
        "the diagonal a quantile means what it says."
    )
    title = "Calibration of quantiles"
    return CalibrationChart(title=title, note=note, unit="value", bins=bins, has_levels=True)


def chart_by_step(
    windows: Sequence[ForecastWindow],
    quantiles: Sequence[NDArray[np.float64]],
    scales: Sequence[float],
) -> ScoreChart | None:
    """Return the scaled error of the median by the steps ahead; None without a scale.

    Args:
        windows: What came.
        quantiles: Quantiles of each window, ``[horizon, levels]``.
        scales: Scale of each window; 0 or NaN where there is none.
    """
    steps: list[int] = []
    errors: list[float] = []
    for window, forecast, scale in zip(windows, quantiles, scales, strict=True):
        if not scale > 0:
            continue
        scaled = np.abs(window.actual - forecast[:, MEDIAN]) / scale
        for step, error in enumerate(scaled.tolist(), start=1):
            if np.isfinite(error):
                steps.append(step)
                errors.append(error)
    if not steps:
        return None
    picture = ScoreByLengthPicture.from_rows(
        steps, [errors], unit="steps ahead", row="value", names=["MASE"]
    )
    note = "The error of the median in units of the scale of MASE; lower is better."
    return ScoreChart(title="By steps ahead", note=note, picture=picture)
