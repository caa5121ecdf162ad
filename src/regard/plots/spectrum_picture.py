"""The curvature of a trained model: the density of its eigenvalues, and the trace of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from regard.plots.style import ACCENT, INK, MUTED, SECOND, page, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 520.0, 220.0  # points, of the density
_ROW = 17.0  # points, of a layer
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 64.0, 24.0, 44.0, 44.0, 68.0
_LONGEST_NAME = 180.0  # points
_LOWEST = 0.2  # of the density of one eigenvalue in a cell: less is the tail of the smoothing


class SpectrumPicture(msgspec.Struct, frozen=True, kw_only=True):
    """The spectrum of the Hessian of a training loss.

    Args:
        title: What it is of.
        num_parameters: Number of all eigenvalues.
        grid: Middles of the cells.
        density: Fraction of the eigenvalues per unit in each cell.
        largest: Largest eigenvalues.
        layers: Names.
        traces: Trace of each layer's block.
        errors: Standard errors of the traces.
    """

    title: str
    num_parameters: int
    grid: list[float]
    density: list[float]
    largest: list[float]
    layers: list[str]
    traces: list[float]
    errors: list[float]

    def draw(self, path: str | Path) -> None:
        """Draw the density above the traces.

        Args:
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The file cannot be written, or matplotlib is missing.
            ResourceError: The disk is full, or fails.
        """
        with page(path) as sheet:
            names = [sheet.fit(name, _LONGEST_NAME, 8.5) for name in self.layers]
            left = max(_LEFT, 16 + max(sheet.measure(name, 8.5) for name in names))
            rows = _ROW * len(names)
            sheet.resize(left + _WIDTH + _RIGHT, _TOP + _HEIGHT + _GAP + rows + _BOTTOM)
            density = sheet.axes(left, _TOP, _WIDTH, _HEIGHT)
            self._draw_density(density)
            density.set_title(sheet.fit(self.title, _WIDTH, 10.0))
            self._draw_traces(sheet.axes(left, _TOP + _HEIGHT + _GAP, _WIDTH, rows), names)

    def _draw_density(self, axes: Axes) -> None:
        style_axes(axes)
        grid, density = np.array(self.grid), np.array(self.density)
        cell = grid[1] - grid[0]
        floor = _LOWEST / (self.num_parameters * cell)
        cut = int((grid < 0).sum())
        for part, color in ((slice(0, cut), SECOND), (slice(cut, None), ACCENT)):
            if len(grid[part]):
                edges = np.append(grid[part] - cell / 2, grid[part][-1] + cell / 2)
                values = np.maximum(density[part], floor)
                axes.stairs(values, edges, baseline=floor, fill=True, color=color.light)
        for value in self.largest:
            axes.plot([value], [floor], marker="^", color=INK.light, markersize=5, clip_on=False)
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        axes.set_xlabel("eigenvalue (▲ largest)")
        axes.set_ylabel("density")

    def _draw_traces(self, axes: Axes, names: Sequence[str]) -> None:
        style_axes(axes, grid="x")
        rows = np.arange(len(names))
        colors = [SECOND.light if trace < 0 else ACCENT.light for trace in self.traces]
        axes.barh(rows, self.traces, height=0.6, color=colors, xerr=self.errors, ecolor=MUTED.light)
        axes.set_yticks(rows, names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title("trace by layer, with its standard error")
