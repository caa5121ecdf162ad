"""Scores of rows by the length of what the model read: where a model gets worse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from regard.plots.style import ACCENT, MUTED, SECOND, count_text, page, style_axes

_WIDTH, _HEIGHT = 560.0, 320.0  # points
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 24.0, 44.0, 58.0
_MOST_BINS = 8
_FEWEST_ROWS = 10  # of a bin, but where there are fewer altogether
_STANDARD_ERRORS = 1.96  # of a mean, on each side of its 95 % interval


class LengthBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of about one length.

    Args:
        shortest: Length of the shortest.
        longest: Length of the longest.
        num_rows: How many rows.
        means: Mean of each score.
        margins: Half the 95 % interval of each mean, by the normal approximation; 0 of one row.
    """

    shortest: int
    longest: int
    num_rows: int
    means: list[float]
    margins: list[float]

    @property
    def range_text(self) -> str:
        """The lengths in words."""
        if self.shortest == self.longest:
            return f"{self.shortest:,}"
        return f"{self.shortest:,}–{self.longest:,}"


class ScoreByLengthPicture(msgspec.Struct, frozen=True, kw_only=True):
    """Mean scores of rows by length.

    Args:
        unit: What is measured, such as ``words of the source``.
        row: What a row is, such as ``sentence``.
        names: Names of the scores, for people.
        bins: Bins from short to long.
    """

    unit: str
    row: str
    names: list[str]
    bins: list[LengthBin]

    @classmethod
    def from_rows(
        cls,
        lengths: Sequence[int],
        scores: Sequence[Sequence[float]],
        *,
        unit: str,
        row: str,
        names: Sequence[str],
    ) -> ScoreByLengthPicture:
        """Divide rows into bins of about equal numbers of rows.

        Args:
            lengths: Length of each row.
            scores: Scores of each row, 0 to 100, ``[scores, rows]``.
            unit: What is measured.
            row: What a row is.
            names: Names of the scores.

        Returns:
            The picture, with the mean of each score in each bin.
        """
        bins = [
            _summarize([lengths[index] for index in part], [[s[i] for i in part] for s in scores])
            for part in _bins_of_equal_count(lengths)
        ]
        return cls(unit=unit, row=row, names=list(names), bins=bins)

    def draw(self, path: str | Path) -> None:
        """Draw the mean of each bin with its interval, and the number of rows.

        Args:
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The file cannot be written, or matplotlib is missing.
            ResourceError: The disk is full, or fails.
        """
        with page(path) as sheet:
            sheet.resize(_WIDTH, _HEIGHT)
            size = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
            axes = sheet.axes(_LEFT, _TOP, *size)
            style_axes(axes)
            total = sum(each.num_rows for each in self.bins)
            axes.set_title(f"Score by length   ({count_text(total, self.row)})", pad=12)
            figures = np.array([(each.means, each.margins) for each in self.bins])
            means, margins = figures.reshape(-1, 2, len(self.names)).transpose(1, 2, 0)
            positions = np.arange(len(self.bins))
            for number, name in enumerate(self.names):
                color = (ACCENT, SECOND, MUTED)[number % 3].light
                x = positions + 0.12 * (number - (len(self.names) - 1) / 2)
                mean, margin = means[number], margins[number]
                ends = np.maximum(mean - margin, 0), np.minimum(mean + margin, 100)
                axes.plot([x, x], ends, color=color, linewidth=2.4, alpha=0.45)
                axes.plot(x, mean, color=color, marker="o", markersize=5.5, label=sheet.text(name))
            highest = max((means + margins).flat, default=100.0)
            axes.set_ylim(0, min(104.0, max(5.0, 1.15 * highest)))
            axes.set_xlim(-0.6, max(0.6, len(self.bins) - 0.4))
            labels = [f"{each.range_text}\n{each.num_rows:,}" for each in self.bins]
            axes.set_xticks(positions, labels)
            axes.set_xlabel(sheet.text(f"{self.unit}, and number of {self.row}s"), labelpad=6)
            name = "mean"
            if len(self.names) > 1:
                axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(self.names))
            else:
                name = " ".join(["mean", *self.names])
            axes.set_ylabel(sheet.text(f"{name} of a {self.row}, with its 95 % interval"))


def _bins_of_equal_count(lengths: Sequence[int]) -> list[list[int]]:
    """Divide rows, sorted by length, into parts; rows of one length are in the same part."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    num_bins = max(1, min(_MOST_BINS, len(order) // _FEWEST_ROWS))
    parts: list[list[int]] = []
    for _, rows in itertools.groupby(order, lengths.__getitem__):
        is_due = sum(map(len, parts)) * num_bins // len(order) >= len(parts)
        if not parts or (is_due and len(parts[-1]) >= _FEWEST_ROWS):
            parts.append([])
        parts[-1] += rows
    return parts


def _summarize(lengths: Sequence[int], scores: Sequence[Sequence[float]]) -> LengthBin:
    num_rows = len(lengths)
    means = [sum(values) / num_rows for values in scores]
    margins = []
    for values, mean in zip(scores, means, strict=True):
        squares = sum((value - mean) ** 2 for value in values)
        error = math.sqrt(squares / (num_rows - 1) / num_rows) if num_rows > 1 else 0.0
        margins.append(_STANDARD_ERRORS * error)
    return LengthBin(
        shortest=min(lengths), longest=max(lengths), num_rows=num_rows, means=means, margins=margins
    )
