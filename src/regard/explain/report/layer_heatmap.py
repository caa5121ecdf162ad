"""The chart of figures of layers over recorded steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from regard.explain.report.markup import Markup, tag
from regard.explain.report.svg_parts import (
    NUM_COLORS,
    WIDTH,
    Chart,
    draw_svg,
    line_between,
    number_text,
    shorten_middle,
    table,
    text_at,
)
from regard.plots.cells import LogScale
from regard.plots.style import thin

_MOST_COLUMNS = 56
_MOST_CHARS = 17  # of the name of a layer
_LEFT, _TOP = 112.0, 6.0  # corner of the cells; the names of layers are left of them


def heat_chart(
    layers: Sequence[str],
    steps: Sequence[int],
    figures: Mapping[str, Sequence[float | None]],
    marks: Sequence[tuple[str, int]],
    label: str,
) -> Chart:
    """Draw figures of layers over recorded steps, colored by their logarithm.

    Args:
        layers: Names, from top to bottom.
        steps: Steps of the columns.
        figures: By layer, one a step; None where unknown.
        marks: Layer and step of each problem.
        label: What the figures are.

    Returns:
        The picture and a table of some columns.
    """
    rows = [figures[layer] for layer in layers]
    scale = LogScale.of_figures(itertools.chain(*rows))
    totals = [math.fsum(filter(None, column)) for column in zip(*rows, strict=True)]
    columns = thin(totals or [0.0] * len(steps), _MOST_COLUMNS)
    grid = _Grid.of_size(len(layers), len(columns))
    bottom = grid.top(len(layers))
    kinds = dict.fromkeys(dict(marks), "problem")
    parts: list[Markup] = []
    for row, layer in enumerate(layers):
        parts.append(grid.row_name(row, layer, kind=kinds.get(layer, "")))
        parts += grid.row(row, [scale.step(figures[layer][column]) for column in columns])
    parts += _steps(steps, columns, marks, grid.cell, bottom)
    parts += _legend(scale, _LEFT, bottom + 26)
    columns = columns[:: max(1, math.ceil(len(columns) / 8))]
    return Chart(
        draw_svg(parts, bottom + 42, label), _table(layers, steps, figures, columns, label)
    )


def _steps(
    steps: Sequence[int],
    columns: Sequence[int],
    marks: Sequence[tuple[str, int]],
    cell: float,
    bottom: float,
) -> Iterator[Markup]:
    """Draw the axis of steps, and a line where each problem began."""
    for number in range(0, len(columns), max(1, math.ceil(48 / cell))):
        x = _LEFT + (number + 0.5) * cell
        text = f"{steps[columns[number]]:,}"
        yield text_at(x, bottom + 14, text, class_="middle small muted")
    for _, step in marks:
        x = _LEFT + cell * sum(steps[column] < step for column in columns)
        yield line_between(x, _TOP - 4, x, bottom + 2, class_="problem-line")
    yield text_at(_LEFT - 6, bottom + 14, "step", class_="end small muted")


def _table(
    layers: Sequence[str],
    steps: Sequence[int],
    figures: Mapping[str, Sequence[float | None]],
    columns: Sequence[int],
    label: str,
) -> Markup:
    """Return the figures of some columns as a table."""
    rows = [
        [layer, *(number_text(figures[layer][column]) for column in columns)] for layer in layers
    ]
    return table(["layer", *(f"step {steps[column]:,}" for column in columns)], rows, label)


class _Grid(NamedTuple):
    """Cells of a row for each layer and a column for each step.

    Args:
        cell: Width of a cell.
        height: Height of a row.
    """

    cell: float
    height: float

    @classmethod
    def of_size(cls, num_rows: int, num_columns: int) -> _Grid:
        """Return the grid of this many rows and columns that fits the width of a chart."""
        height = 16.0 if num_rows <= 24 else 12.0
        return cls(min(32.0, (WIDTH - _LEFT - 8) / max(1, num_columns)), height)

    def top(self, row: int) -> float:
        """Return the upper end of a row."""
        return _TOP + row * self.height

    def row_name(self, row: int, name: str, *, kind: str) -> Markup:
        """Draw the name of a row, of a class of the style sheet."""
        y = self.top(row) + self.height / 2 + 3.5
        return text_at(_LEFT - 6, y, shorten_middle(name, _MOST_CHARS), class_=f"end small {kind}")

    def row(self, row: int, colors: Sequence[int | None]) -> list[Markup]:
        """Draw the cells of a row; those without a color stay empty."""
        width = self.cell - min(1.0, self.cell / 8)
        box = {"y": self.top(row), "width": width, "height": self.height - 1}
        return [
            tag("rect", x=_LEFT + number * self.cell, **box, class_=f"s{color}")
            for number, color in enumerate(colors)
            if color is not None
        ]


def _legend(scale: LogScale, left: float, top: float) -> list[Markup]:
    """Draw the colors with the figures at both ends."""
    colors = [
        tag("rect", x=left + 10 * step, y=top, width=10, height=8, class_=f"s{step}")
        for step in range(NUM_COLORS)
    ]
    text = f"{number_text(scale.low)} to {number_text(scale.high)}, logarithmic"
    return [*colors, text_at(left + 10 * NUM_COLORS + 8, top + 8, text, class_="small muted")]
