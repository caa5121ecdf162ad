"""Forecasts next to what came: history, median, and bands of 80 and 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regard.errors import ShapeError
from regard.plots.style import (
    ACCENT,
    BAND,
    MUTED,
    SECOND,
    WIDE_BAND,
    Page,
    label_values,
    marked_values,
    page,
    spread,
    style_axes,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HISTORY = 2.5  # horizons of the history that are shown, at most
_FEWEST_STEPS = 24  # of the history, where it has them
_MOST_PANELS = 24
_MOST_POINTS = 1500  # of a line
_MARKED_POINTS = 40  # at most, for a dot on each
_PANEL, _ALONE = (330.0, 130.0), (620.0, 260.0)  # points, of one of several and of a single one
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 22.0, 52.0, 30.0
_GAP_X, _GAP_Y = 56.0, 46.0


@dataclass(frozen=True)
class ForecastPanel:
    """One forecast.

    Args:
        title: Title of the panel, such as the series and the time of the origin.
        times: Texts of the times of history and forecast, ``[history + horizon]``; others are
            numbered, where they are none.
        history: Values before the forecast, ``[history]``; NaN where one is missing.
        actual: Values that came, ``[horizon]``; None where they are not known.
        quantiles: Quantiles of the forecast, ``[horizon, levels]``.
        levels: Levels of the quantiles, from low to high, with 0.5.
    """

    title: str
    times: Sequence[str]
    history: NDArray[np.float64]
    actual: NDArray[np.float64] | None
    quantiles: NDArray[np.float64]
    levels: Sequence[float]

    def __post_init__(self) -> None:
        horizon, num_levels = np.shape(self.quantiles)
        if num_levels != len(self.levels):
            raise ShapeError(f"quantiles: {num_levels} levels, {len(self.levels)} expected.")
        if self.actual is not None and len(self.actual) != horizon:
            raise ShapeError(f"actual: {len(self.actual)} values, {horizon} expected.")
        if len(self.times) not in (0, len(self.history) + horizon):
            expected = len(self.history) + horizon
            raise ShapeError(f"times: {len(self.times)}, {expected} expected.")

    def quantile(self, level: float) -> NDArray[np.float64] | None:
        """Return the values of a level, ``[horizon]``; None where it is not one of the levels."""
        near = [index for index, own in enumerate(self.levels) if abs(own - level) < 1e-9]
        return self.quantiles[:, near[0]] if near else None

    def last_times(self, count: int) -> list[str]:
        """Return the last times; without any, the steps from the last value of the history on."""
        first = 1 + len(self.quantiles) - count
        numbers = [f"{first + index:+d}".replace("+0", "0") for index in range(count)]
        return list(self.times)[-count:] or numbers


def draw_forecasts(panels: Sequence[ForecastPanel], path: str | Path) -> None:
    """Draw forecasts, each in a panel of its own.

    A long history is cut to its last horizons, and only some of many panels are drawn.

    Args:
        panels: One or more.
        path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        ConfigError: The file cannot be written, or matplotlib is missing.
        ResourceError: The disk is full, or fails.
        ShapeError: `panels` is empty.
    """
    if not panels:
        raise ShapeError("panels: none.  Give one or more.")
    drawn = [panels[index] for index in spread(len(panels), _MOST_PANELS)]
    num_columns = 1 if len(drawn) == 1 else 2
    num_rows = math.ceil(len(drawn) / num_columns)
    width, height = _ALONE if num_columns == 1 else _PANEL
    with page(path) as sheet:
        sheet.resize(
            _LEFT + num_columns * width + (num_columns - 1) * _GAP_X + _RIGHT,
            _TOP + num_rows * height + (num_rows - 1) * _GAP_Y + _BOTTOM,
        )
        _draw_legend(sheet, drawn, len(panels))
        for number, panel in enumerate(drawn):
            row, column = divmod(number, num_columns)
            left = _LEFT + column * (width + _GAP_X)
            axes = sheet.axes(left, _TOP + row * (height + _GAP_Y), width, height)
            _draw_panel(sheet, axes, panel, width)


def _draw_panel(sheet: Page, axes: Axes, panel: ForecastPanel, width: float) -> None:
    style_axes(axes)
    horizon = len(panel.quantiles)
    num_shown = min(len(panel.history), max(_FEWEST_STEPS, math.ceil(_HISTORY * horizon)))
    history = np.asarray(panel.history, dtype=float)[len(panel.history) - num_shown :]
    # Bands and median begin at the last value, where that is known.
    last = history[-1:][np.isfinite(history[-1:])]  # one value, or none
    x = np.arange(num_shown - len(last), num_shown + horizon)

    def extend(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([last, values])

    for low, high, color in ((0.025, 0.975, WIDE_BAND), (0.1, 0.9, BAND)):
        lower, upper = panel.quantile(low), panel.quantile(high)
        if lower is not None and upper is not None:
            axes.fill_between(x, extend(lower), extend(upper), color=color.light, linewidth=0)
    _draw_line(axes, np.arange(num_shown), history, MUTED.light, 1.2)
    median = panel.quantile(0.5)
    if median is not None:
        _draw_line(axes, x, extend(median), ACCENT.light, 1.6)
    if panel.actual is not None:
        _draw_line(axes, x, extend(np.asarray(panel.actual, dtype=float)), SECOND.light, 1.3)
    axes.axvline(num_shown - 0.5, color=MUTED.light, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_xlim(-0.5, num_shown + horizon - 0.5)
    axes.set_title(sheet.fit(panel.title, width, 9.5, weight="bold"))
    _label_times(sheet, axes, panel, num_shown, horizon, width)
    label_values(axes, 4)


def _draw_line(
    axes: Axes, x: NDArray[np.int64], y: NDArray[np.float64], color: str, width: float
) -> None:
    """Draw a line; few values, and one between two that are missing, have a dot each."""
    indices = thin(y.tolist(), _MOST_POINTS)
    x, y = x[indices], y[indices]
    dots = marked_values(y.tolist(), _MARKED_POINTS)
    axes.plot(x, y, color=color, linewidth=width, marker="o", markersize=2.6, markevery=dots)


def _label_times(
    sheet: Page, axes: Axes, panel: ForecastPanel, num_shown: int, horizon: int, width: float
) -> None:
    """Write as many times below the axis as have room; the first step of the forecast is one."""
    total = num_shown + horizon
    times = panel.last_times(total)
    some = times[0], *times[num_shown : num_shown + 1], times[-1]
    space = max(sheet.measure(sheet.text(time, most=24), 8) for time in some) + 14
    num_labels = max(1, int(width / space))
    stride = max(1, math.ceil(total / num_labels))
    ticks = range(num_shown % stride, total, stride)
    # A label at either end must not run out of the panel.
    margin = space / 2 / width * total
    inside = [index for index in ticks if margin - 1 <= index + 0.5 <= total - margin + 1]
    ticks = inside or [*ticks]
    axes.set_xticks(ticks, [sheet.text(times[index], most=24) for index in ticks])


def _draw_legend(sheet: Page, panels: Sequence[ForecastPanel], num_panels: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [Line2D([], [], color=MUTED.light, label="history")]
    if any(panel.actual is not None for panel in panels):
        handles.append(Line2D([], [], color=SECOND.light, label="what came"))
    handles += [
        Line2D([], [], color=ACCENT.light, label="median"),
        Patch(color=BAND.light, label="80 % band"),
        Patch(color=WIDE_BAND.light, label="95 % band"),
    ]
    sheet.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((_LEFT - 8) / sheet.width, 1 - 6 / sheet.height),
        ncols=len(handles),
        borderaxespad=0,
    )
    if num_panels > len(panels):
        text = f"{len(panels)} of {num_panels:,} forecasts"
        x, y = 1 - _RIGHT / sheet.width, 1 - 10 / sheet.height
        sheet.figure.text(x, y, text, ha="right", va="top", color=MUTED.light)
