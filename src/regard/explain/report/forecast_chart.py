"""The chart of a forecast: the end of its history, its median and bands, and what came."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from regard.explain.page.token_text import short_times
from regard.explain.report.markup import Markup, tag
from regard.explain.report.svg_parts import (
    WIDTH,
    Chart,
    broken_line,
    draw_svg,
    number_text,
    table,
    text_at,
    value_grid,
)
from regard.plots.forecast_panels import ForecastPanel

_CHARACTER_WIDTH = 6.2  # of a small text, on average


class _ForecastLines(NamedTuple):
    """The lines of a forecast, as many of them as are known.

    Args:
        history: End of the history.
        actual: What came; empty where it is not known.
        quantiles: By level.
        times: Times of the history and the steps ahead; empty where they are not known.
        horizon: Number of steps ahead.
    """

    history: list[float]
    actual: list[float]
    quantiles: dict[float, list[float]]
    times: list[str]
    horizon: int

    @classmethod
    def of_panel(cls, panel: ForecastPanel) -> _ForecastLines:
        """Return the lines of a panel, with twice as much history as is ahead."""
        horizon = len(panel.quantiles)
        num_shown = min(len(panel.history), max(24, 2 * horizon))
        levels = {level: panel.quantile(level) for level in (0.025, 0.1, 0.5, 0.9, 0.975)}
        return cls(
            history=panel.history[len(panel.history) - num_shown :].tolist(),
            actual=[] if panel.actual is None else panel.actual.tolist(),
            quantiles={level: row.tolist() for level, row in levels.items() if row is not None},
            times=list(panel.times)[-(num_shown + horizon) :],
            horizon=horizon,
        )

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest number; 0 and 1 where there are none."""
        lines = (self.history, self.actual, *self.quantiles.values())
        finite = [value for line in lines for value in line if math.isfinite(value)]
        return (min(finite), max(finite)) if finite else (0.0, 1.0)

    def rows(self) -> list[list[str]]:
        """Return the steps ahead as the rows of a table."""
        rows = []
        for index in range(self.horizon):
            time = self.times[len(self.history) + index] if self.times else f"+{index + 1}"
            cells = [
                number_text(self.quantiles[level][index]) if level in self.quantiles else "–"
                for level in (0.1, 0.5, 0.9)
            ]
            rows.append([time, *cells, number_text(self.actual[index] if self.actual else None)])
        return rows


def forecast_chart(panel: ForecastPanel) -> Chart:
    """Draw a forecast with its bands next to the end of its history and what came."""
    left, top, width, height = 44.0, 8.0, WIDTH - 60.0, 150.0
    lines = _ForecastLines.of_panel(panel)
    num_history, (lowest, highest) = len(lines.history), lines.range
    span = highest - lowest or 1.0

    def x(index: float) -> float:
        return left + width * index / max(1, num_history + lines.horizon - 1)

    def y(value: float) -> float:
        return top + height * (1 - (value - lowest) / span)

    parts = value_grid(left, width, [lowest + span * index / 3 for index in range(4)], y)
    parts += _draw_bands(lines, x, y)
    for start, values, kind in (
        (0, lines.history, "history"),
        (num_history, lines.quantiles.get(0.5, []), "curve first"),
        (num_history, lines.actual, "came"),
    ):
        parts += broken_line(_points(values, start, x, y), kind)
    bottom = top + height
    names = (("history", "muted"), ("what came", "problem"), ("median and bands", "own-name"))
    for number, (name, kind) in enumerate(names):
        parts.append(text_at(left + 110.0 * number, bottom + 36, name, class_=kind))
    for index, time, kind in _time_labels(lines.times, num_history, x):
        parts.append(text_at(x(index), bottom + 16, time, class_=f"small muted {kind}"))
    label = f"Forecast of {panel.title}"
    return Chart(
        draw_svg(parts, bottom + 42, label),
        table(["time", "10 %", "median", "90 %", "what came"], lines.rows(), label),
    )


def _points(
    values: Sequence[float], start: int, x: Callable[[float], float], y: Callable[[float], float]
) -> list[tuple[float, float]]:
    """Return the coordinates of values from an index on."""
    return [(x(start + index), y(value)) for index, value in enumerate(values)]


def _draw_bands(
    lines: _ForecastLines, x: Callable[[float], float], y: Callable[[float], float]
) -> Iterator[Markup]:
    """Yield the bands of the steps ahead whose quantiles are known, the wider one first."""
    start = len(lines.history)
    for low, high, kind in ((0.025, 0.975, "wide-band"), (0.1, 0.9, "inner-band")):
        if low in lines.quantiles and high in lines.quantiles:
            upper, lower = (_points(lines.quantiles[level], start, x, y) for level in (high, low))
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *reversed(lower)])
            yield tag("polygon", points=points, class_=kind)


def _time_labels(
    times: Sequence[str], origin: int, x: Callable[[float], float]
) -> Iterator[tuple[int, str, str]]:
    """Yield index, text and anchor of the first time, the last, and that of the origin between.

    Args:
        times: Of the history and the steps ahead; empty where they are not known.
        origin: Index of the first step ahead.
        x: Maps an index to a coordinate.
    """
    if not times:
        return
    last = len(times) - 1
    start, middle, end = short_times([times[0], times[origin], times[last]])
    yield 0, start, ""
    yield last, end, "end"
    half = _CHARACTER_WIDTH * len(middle) / 2
    begins, ends = x(origin) - half, x(origin) + half
    if x(0) + _CHARACTER_WIDTH * len(start) < begins and ends < x(last) - _CHARACTER_WIDTH * len(
        end
    ):
        yield origin, middle, "middle"
