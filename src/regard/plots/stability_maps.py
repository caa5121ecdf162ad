"""The stability of a run: gradient norms and relative updates, layers by recorded steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from regard.plots.cells import SCALE_WIDTH, LogScale, draw_cells, draw_scale
from regard.plots.style import INK, MUTED, SECOND, page, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 72
_WIDTH = 520.0  # points, of a map
_LARGEST_CELL = 36.0  # points
_ROW, _SMALLEST_ROW, _MOST_HEIGHT = 15.0, 7.0, 620.0  # points
_LONGEST_NAME = 170.0  # points
_MARGIN, _TITLE, _GAP, _LINE = 22.0, 24.0, 58.0, 14.0


class StabilityPicture(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run by layer, and what went wrong.

    Args:
        steps: Recorded ones, ascending.
        layers: Names.
        gradient_norms: By layer, one a step; None where unknown.
        update_ratios: By layer, one a step; None where unknown.
        verdicts: Texts, a line each.
        marks: Layer and first step of each verdict.
    """

    steps: list[int]
    layers: list[str]
    gradient_norms: dict[str, list[float | None]]
    update_ratios: dict[str, list[float | None]]
    verdicts: list[str]
    marks: list[tuple[str, int]]

    def draw(self, path: str | Path) -> None:
        """Draw a map of the gradient norms above one of the updates.

        Args:
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The file cannot be written, or matplotlib is missing.
            ResourceError: The disk is full, or fails.
        """
        columns = thin(self._total_norms(), _MOST_COLUMNS)
        rows = max(1, len(self.layers))
        height = max(_SMALLEST_ROW, min(_ROW, _MOST_HEIGHT / rows))
        size = max(6.0, min(8.5, 0.62 * height))
        with page(path) as sheet:
            names = [sheet.fit(name or "(unnamed)", _LONGEST_NAME, size) for name in self.layers]
            widest = max(map(partial(sheet.measure, size=size), names), default=0.0)
            cell = min(_LARGEST_CELL, _WIDTH / max(1, len(columns)))
            map_height = height * rows
            left, top = _MARGIN + widest + 8, _MARGIN + _LINE * max(1, len(self.verdicts)) + 12
            width = left + max(cell * len(columns) + 32, 2.5 * SCALE_WIDTH) + _MARGIN
            text_width = max(width, 640.0) - 2 * _MARGIN
            sheet.resize(text_width + 2 * _MARGIN, top + 2 * (_TITLE + map_height + _GAP) - 8)
            canvas = sheet.canvas()
            verdicts, color = self.verdicts, SECOND.light
            if not verdicts:
                verdicts, color = ["Nothing wrong in the record."], INK.light
            for number, text in enumerate(verdicts):
                line = sheet.fit(text, text_width, 8.5)
                canvas.text(_MARGIN, _MARGIN + 4 + _LINE * number, line, fontsize=8.5, color=color)
            maps = {
                "gradient norm, before clipping": self.gradient_norms,
                "norm of the update / norm of the weights": self.update_ratios,
            }
            for title, figures in maps.items():
                layout = _Map(left, top + _TITLE, cell, height, size)
                canvas.text(left, top + 12, title, fontsize=9.5, fontweight="bold")
                self._draw_map(canvas, layout, figures, columns, names)
                top += _TITLE + map_height + _GAP

    def _total_norms(self) -> list[float]:
        """Return the norm of the whole gradient at each step; zeros where it is unknown."""
        norms = [self.gradient_norms.get(name, []) for name in self.layers]
        totals = [math.hypot(*filter(None, column)) for column in zip(*norms, strict=False)]
        return totals or [0.0] * len(self.steps)

    def _draw_map(
        self,
        canvas: Axes,
        layout: _Map,
        figures: Mapping[str, Sequence[float | None]],
        columns: Sequence[int],
        names: Sequence[str],
    ) -> None:
        """Draw a cell a layer and step, its color by the logarithm of the figure."""
        left, top, cell, height, size = layout
        scale = LogScale.of_figures(v for layer in self.layers for v in figures.get(layer, ()))
        corners: dict[int, list[tuple[float, float]]] = {}  # of the cells of each color
        colors = dict.fromkeys(dict(self.marks), SECOND.light)
        for row, (layer, name) in enumerate(zip(self.layers, names, strict=True)):
            y, color = top + row * height, colors.get(layer, INK.light)
            style = {"fontsize": size, "color": color, "ha": "right", "va": "center_baseline"}
            canvas.text(left - 6, y + height / 2, name, **style)
            values = dict(enumerate(figures.get(layer, ())))
            for number, column in enumerate(columns):
                step = scale.step(values.get(column))
                if step is not None:  # else the color of the page: nothing
                    corners.setdefault(step, []).append((left + number * cell, y))
        draw_cells(canvas, corners, cell - 0.4, height - 0.4)
        bottom = top + height * max(1, len(self.layers))
        self._draw_steps(canvas, layout, columns, bottom)
        draw_scale(canvas, left, bottom + 30)
        text = f"{scale.low:.2g} to {scale.high:.2g}, logarithmic; empty: 0 or unknown"
        style = {"fontsize": 8, "color": MUTED.light, "va": "center", "ha": "left"}
        canvas.text(left + SCALE_WIDTH + 8, bottom + 30, text, **style)

    def _draw_steps(
        self, canvas: Axes, layout: _Map, columns: Sequence[int], bottom: float
    ) -> None:
        """Draw the axis of steps, and a line where each problem began."""
        left, top, cell = layout.left, layout.top, layout.cell
        spacing = max(1, math.ceil(44 / cell))  # columns between two labels
        style = {"fontsize": 8, "color": MUTED.light, "va": "top"}
        for number in range(0, len(columns), spacing):
            middle = left + (number + 0.5) * cell
            step = f"{self.steps[columns[number]]:,}"
            canvas.text(middle, bottom + 4, step, ha="center", **style)
        canvas.text(left + cell * len(columns) + 8, bottom + 4, "step", ha="left", **style)
        for _, step in self.marks:
            number = sum(self.steps[column] < step for column in columns)
            x = left + min(number, len(columns)) * cell
            line = {"color": SECOND.light, "linewidth": 1.2, "linestyle": (0, (3, 2)), "zorder": 4}
            canvas.plot([x, x], [top - 4, bottom + 3], **line)


class _Map(NamedTuple):
    """Where a map is on the page, in points.

    Args:
        left: Left end of the cells.
        top: Upper end of the cells.
        cell: Width of a cell.
        height: Height of a cell.
        size: Size of the font.
    """

    left: float
    top: float
    cell: float
    height: float
    size: float
