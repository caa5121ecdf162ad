"""Cells of a matrix, colored in the steps of the scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from regard.plots.style import SCALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE_WIDTH = 120.0  # points


class LogScale(NamedTuple):
    """Steps of figures by their logarithm.

    Args:
        low: The smallest figure, above 0.
        high: The largest.
    """

    low: float
    high: float

    @classmethod
    def of_figures(cls, figures: Iterable[float | None]) -> LogScale:
        """Return the scale of figures; those that are unknown or not above 0 have no step."""
        positive = [figure for figure in figures if figure is not None and figure > 0]
        return cls(min(positive), max(positive)) if positive else cls(1.0, 1.0)

    def step(self, figure: float | None) -> int | None:
        """Return the step of a figure on the scale; None where it has none."""
        if figure is None or not figure > 0:
            return None
        span = math.log(self.high) - math.log(self.low) or 1.0
        part = (math.log(figure) - math.log(self.low)) / span
        return min(len(SCALE) - 1, int(part * len(SCALE)))


def draw_cells(
    canvas: Axes, corners: Mapping[int, Sequence[tuple[float, float]]], width: float, height: float
) -> None:
    """Draw all cells of a color as one outline: a patch a cell would take seconds.

    Args:
        canvas: Whose units are points.
        corners: Upper left corners of the cells of each step of the scale.
        width: Width of a cell.
        height: Height of a cell.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    cell = ((0, 0), (width, 0), (width, height), (0, height), (0, 0))
    for step in sorted(corners):
        points = [(x + right, y + down) for x, y in corners[step] for right, down in cell]
        codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * len(corners[step])
        outline = Outline(points, codes)
        canvas.add_patch(PathPatch(outline, facecolor=SCALE[step].light, linewidth=0))


def draw_scale(canvas: Axes, left: float, middle: float) -> None:
    """Draw the colors of the scale next to each other, from a left end, at a height."""
    from matplotlib.patches import Rectangle

    width = SCALE_WIDTH / len(SCALE)
    for step, color in enumerate(SCALE):
        corner = left + step * width, middle - 4
        canvas.add_patch(Rectangle(corner, width, 8, facecolor=color.light, linewidth=0))
