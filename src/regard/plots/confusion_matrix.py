"""The confusion matrix and the reliability diagram of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from regard.plots.cells import SCALE_WIDTH, draw_cells, draw_scale
from regard.plots.style import (
    ACCENT,
    DARK_TEXT,
    GRID,
    INK,
    LIGHT_TEXT,
    MUTED,
    PAGE,
    SCALE,
    WIDE_BAND,
    Page,
    count_text,
    page,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 60  # in the matrix; the rarer ones of more are one row and column
_LONGEST_LABEL = 150.0  # points
_LARGEST_CELL, _SMALLEST_CELL = 34.0, 11.0  # points
_MATRIX = 520.0  # points, where the cells need no more
_MARGIN, _GAP, _TITLE = 22.0, 46.0, 26.0
_SIDE, _HISTOGRAM = 230.0, 62.0  # points, of the reliability diagram
_SMALLEST_LEGEND = 290.0
_LIGHT_TEXT_FROM = 7  # step of the scale


class ClassificationPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier gets wrong, and whether its probabilities are true.

    Args:
        labels: Names of the labels.
        counts: Inputs by true label and predicted label, ``[labels, labels]``.
        bin_counts: Inputs by the probability of the predicted label, in bins of equal width over 0
            to 1.
        bin_confidence: Mean probability in each bin; 0 in an empty one.
        bin_accuracy: Fraction of correct labels in each bin; 0 in an empty one.
        calibration_error: Expected calibration error, 0 to 100.
    """

    labels: list[str]
    counts: list[list[int]]
    bin_counts: list[int]
    bin_confidence: list[float]
    bin_accuracy: list[float]
    calibration_error: float

    def draw(self, path: str | Path) -> None:
        """Draw both next to each other.

        Args:
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The file cannot be written, or matplotlib is missing.
            ResourceError: The disk is full, or fails.
        """
        labels, counts = merge_rare_labels(self.labels, self.counts)
        cell = max(_SMALLEST_CELL, min(_LARGEST_CELL, _MATRIX / len(labels)))
        size = max(7.0, min(8.5, 0.72 * cell))
        with page(path) as sheet:
            names = [sheet.fit(label or "(empty)", _LONGEST_LABEL, size) for label in labels]
            widest = max(sheet.measure(name, size) for name in names)
            width, is_turned = cell * len(labels), widest > cell - 4
            left, top = _MARGIN + 24 + widest, _MARGIN + _TITLE
            right = left + max(width, _SMALLEST_LEGEND) + _GAP + 20
            below = width + (widest if is_turned else size) + 22  # where the legend is
            height = max(below + 10, _SIDE + _HISTOGRAM + 60)
            sheet.resize(right + _SIDE + _MARGIN, top + height + 8)
            matrix = _Matrix(left, top, cell, size, names, is_turned, widest)
            num_inputs, num_labels = sum(map(sum, counts)), len(self.labels)
            size_text = f"{count_text(num_inputs, 'input')}, {count_text(num_labels, 'label')}"
            _draw_matrix(sheet, matrix, counts, f"Confusion   ({size_text})", top + below)
            self._draw_reliability(sheet, right, top)

    def _draw_reliability(self, sheet: Page, left: float, top: float) -> None:
        """Draw accuracy by confidence with the diagonal, and how many inputs each bin has."""
        counts, accuracy = np.array(self.bin_counts), np.array(self.bin_accuracy)
        edges, width = np.arange(len(counts)) / len(counts), 1 / len(counts)
        is_filled = counts > 0
        axes = sheet.axes(left, top, _SIDE, _SIDE)
        style_axes(axes, grid="both")
        axes.set_title(f"Reliability   (calibration error {self.calibration_error:.1f} %)")
        axes.plot([0, 1], [0, 1], color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
        axes.bar(
            edges[is_filled],
            accuracy[is_filled],
            width,
            align="edge",
            color=WIDE_BAND.light,
            edgecolor=PAGE.light,
            zorder=1,
        )
        axes.plot(
            np.array(self.bin_confidence)[is_filled],
            accuracy[is_filled],
            color=ACCENT.light,
            marker="o",
            markersize=5,
            zorder=3,
        )
        axes.set_ylabel("correct")
        axes.text(0.96, 0.06, "too sure", ha="right", color=MUTED.light)
        axes.text(0.04, 0.92, "not sure enough", color=MUTED.light)
        histogram = sheet.axes(left, top + _SIDE + 16, _SIDE, _HISTOGRAM)
        style_axes(histogram)
        shares = counts / max(1, counts.sum())
        histogram.bar(edges, shares, width, align="edge", color=ACCENT.light, edgecolor=PAGE.light)
        histogram.set_ylabel("inputs")
        histogram.set_xlabel("probability of the predicted label")
        ticks = {tick / 100: f"{tick} %" for tick in range(0, 101, 20)}
        for each in (axes, histogram):
            each.set_xlim(0, 1)
            each.set_xticks([*ticks], [*ticks.values()])
        axes.set_ylim(0, 1)
        axes.set_yticks([*ticks], [*ticks.values()])
        axes.tick_params(labelbottom=False)
        most = float(max(shares))
        histogram.set_ylim(0, 1.05 * most or 1)
        histogram.set_yticks([0, most])
        histogram.set_yticklabels(["0", f"{100 * most:.0f} %"])


def merge_rare_labels(
    labels: Sequence[str], counts: Sequence[Sequence[int]]
) -> tuple[list[str], list[list[int]]]:
    """Return the matrix of the labels with most inputs; the others together are the last."""
    if len(labels) <= _MOST_LABELS:
        return list(labels), [list(row) for row in counts]
    matrix, last = np.array(counts), _MOST_LABELS - 1
    ranked = np.argsort(-(matrix.sum(0) + matrix.sum(1)), kind="stable")
    frequent = np.sort(ranked[:last])
    column_of = np.full(len(labels), last)
    column_of[frequent] = np.arange(last)
    merged = np.zeros((last + 1, last + 1), dtype=matrix.dtype)
    np.add.at(merged, (column_of[:, None], column_of), matrix)
    names = [label for label, column in zip(labels, column_of, strict=True) if column < last]
    return [*names, f"{len(labels) - last:,} others"], merged.tolist()


class _Matrix(NamedTuple):
    """Where a matrix is on the page, in points, and what its rows are called.

    Args:
        left: Left edge of the cells.
        top: Top edge of the cells.
        cell: Side of a cell.
        size: Font size.
        names: Names of the labels, in the form of the page.
        is_turned: Whether the names below the columns are turned.
        widest: Width of the longest name.
    """

    left: float
    top: float
    cell: float
    size: float
    names: Sequence[str]
    is_turned: bool
    widest: float


def _draw_matrix(
    sheet: Page, matrix: _Matrix, counts: Sequence[Sequence[int]], title: str, legend: float
) -> None:
    """Draw the inputs of each true label, a row, by the label that they were taken for."""
    from matplotlib.collections import LineCollection

    left, top, cell, size, names, is_turned, widest = matrix
    canvas = sheet.canvas()
    width = cell * len(names)
    canvas.text(left, top - 6, title, fontsize=9.5, fontweight="bold", va="baseline")
    _draw_counts(sheet, canvas, matrix, counts)
    steps = [index * cell for index in range(len(names) + 1)]
    lines = [[(left, top + step), (left + width, top + step)] for step in steps]
    lines += [[(left + step, top), (left + step, top + width)] for step in steps]
    canvas.add_collection(LineCollection(lines, colors=GRID.light, linewidths=0.6))
    for index, name in enumerate(names):
        center, style = (index + 0.5) * cell, {"fontsize": size, "color": INK.light}
        canvas.text(left - 6, top + center, name, ha="right", va="center_baseline", **style)
        turn = 90 if is_turned else 0
        anchor = left + center, top + width + 6
        canvas.text(*anchor, name, rotation=turn, ha="center", va="top", **style)
    style = {"fontsize": 8.5, "color": MUTED.light, "va": "center"}
    canvas.text(left - 16 - widest, top + width / 2, "true label", rotation=90, ha="right", **style)
    canvas.text(left, legend, "predicted label", ha="left", **style)
    style = {"fontsize": 8, "color": MUTED.light, "va": "center"}
    start = left + max(width, _SMALLEST_LEGEND) - SCALE_WIDTH - 69
    canvas.text(start - 5, legend, "0", ha="right", **style)
    draw_scale(canvas, start, legend)
    canvas.text(start + SCALE_WIDTH + 5, legend, "100 % of a row", ha="left", **style)


def _draw_counts(
    sheet: Page, canvas: Axes, matrix: _Matrix, counts: Sequence[Sequence[int]]
) -> None:
    """Draw the cells that are not empty, with their numbers where these have room."""
    cell, size = matrix.cell, matrix.size
    largest = max(map(max, counts), default=0)
    has_room = sheet.measure(f"{largest:,}", size) <= 0.9 * cell and cell >= 1.5 * size
    corners: dict[int, list[tuple[float, float]]] = {}  # of the cells of each color
    for row, column in np.argwhere(np.array(counts)).tolist():
        count = counts[row][column]
        step = min(len(SCALE) - 1, count * len(SCALE) // sum(counts[row]))
        x, y = matrix.left + column * cell, matrix.top + row * cell
        corners.setdefault(step, []).append((x, y))
        if has_room:
            ink = DARK_TEXT if step < _LIGHT_TEXT_FROM else LIGHT_TEXT
            style = {"fontsize": size, "color": ink.light, "ha": "center", "zorder": 3}
            anchor = x + cell / 2, y + cell / 2
            canvas.text(*anchor, f"{count:,}", va="center_baseline", **style)
    draw_cells(canvas, corners, cell, cell)
