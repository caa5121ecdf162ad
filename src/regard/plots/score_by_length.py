"""Scores of rows by the length of what the model read: where a model gets worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

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
            positions = range(len(self.bins))
            for number, name in enumerate(self.names):
                color = (ACCENT, SECOND, MUTED)[number % 3].light
                shift = 0.12 * (number - (len(self.names) - 1) / 2)
                x = [position + shift for position in positions]
                means = [each.means[number] for each in self.bins]
                for center, each in zip(x, self.bins, strict=True):
                    mean, margin = each.means[number], each.margins[number]
                    interval = max(0.0, mean - margin), min(100.0, mean + margin)
                    axes.plot([center] * 2, interval, color=color, linewidth=2.4, alpha=0.45)
                axes.plot(x, means, color=color, marker="o", markersize=5.5, label=sheet.text(name))
            tops = [
                m + e for each in self.bins for m, e in zip(each.means, each.margins, strict=True)
            ]
            axes.set_ylim(0, min(104.0, max(5.0, 1.15 * max(tops, default=100.0))))
            axes.set_xlim(-0.6, max(0.6, len(self.bins) - 0.4))
            axes.set_xticks(list(positions))
            axes.set_xticklabels([f"{_range(each)}\n{each.num_rows:,}" for each in self.bins])
            axes.set_xlabel(sheet.text(f"{self.unit}, and number of {self.row}s"), labelpad=6)
            name = f"mean {self.names[0]}" if len(self.names) == 1 else "mean"
            axes.set_ylabel(sheet.text(f"{name} of a {self.row}, with its 95 % interval"))
            if len(self.names) > 1:
                axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(self.names))


def _bins_of_equal_count(lengths: Sequence[int]) -> list[list[int]]:
    """Divide rows, sorted by length, into parts; rows of one length are in the same part."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    num_bins = max(1, min(_MOST_BINS, len(order) // _FEWEST_ROWS))
    parts: list[list[int]] = []
    for number, index in enumerate(order):
        is_due = number * num_bins // len(order) >= len(parts)
        is_longer = number > 0 and lengths[index] != lengths[order[number - 1]]
        if not parts or (is_due and is_longer and len(parts[-1]) >= _FEWEST_ROWS):
            parts.append([])
        parts[-1].append(index)
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


def _range(each: LengthBin) -> str:
    """Return the lengths of a bin in words."""
    if each.shortest == each.longest:
        return f"{each.shortest:,}"
    return f"{each.shortest:,}–{each.longest:,}"
