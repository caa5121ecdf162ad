"""The curves of a run: losses, score and learning rate by step, with the best evaluation marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.plots.style import (
    ACCENT,
    INK,
    MUTED,
    PAGE,
    SECOND,
    STEPS,
    label_values,
    marked_values,
    page,
    style_axes,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 1000  # of a curve; more would not be seen
_MARKED_POINTS = 60  # at most, for a dot on each
_LOG_RATIO = 50.0  # of the largest to the least loss, from which the axis is logarithmic
_LOSSES = ("loss", "shuffled_loss")
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 620.0, 62.0, 22.0, 30.0, 40.0, 34.0  # points
_HEIGHTS = {"loss": 170.0, "score": 110.0, "rate": 70.0}


@dataclass(frozen=True)
class Curves:
    """What the evaluations of a run have measured; NaN where a figure is missing.

    Args:
        steps: Step of each evaluation.
        train_loss: Mean since the evaluation before.
        valid_loss: On the validation data.
        score: The figure that chooses the best weights, or another where that is the loss.
        score_name: Its name in ``metrics.jsonl``; empty where the loss is the only one.
        score_title: Its title, with its unit.
        learning_rate: Learning rate of the step before the evaluation.
        best: Index of the best evaluation; None where none is known.
        unit: Unit of the losses, such as ``nats per token``; empty for none.
    """

    steps: Sequence[int]
    train_loss: Sequence[float]
    valid_loss: Sequence[float]
    score: Sequence[float]
    score_name: str
    score_title: str
    learning_rate: Sequence[float]
    best: int | None
    unit: str = ""

    @classmethod
    def from_metrics(
        cls,
        lines: Iterable[Mapping[str, Any]],
        *,
        unit: str = "",
        title_of: Callable[[str], str] = str,
    ) -> Curves:
        """Return the curves of the lines of ``metrics.jsonl``.

        Args:
            lines: Objects of the file; only evaluations are used.
            unit: Unit of the losses.
            title_of: Returns the title of a score by its name.
        """
        rows = [line for line in lines if line.get("event") == "evaluated"]
        measures = [row.get("measures") or {} for row in rows]
        name = _score_name(rows, measures)
        return cls(
            steps=[int(row.get("step", 0)) for row in rows],
            train_loss=_column(rows, "train_loss"),
            valid_loss=_column(measures, "loss"),
            score=_column(measures, name),
            score_name=name,
            score_title=title_of(name),
            learning_rate=_column(rows, "learning_rate"),
            best=max((i for i, row in enumerate(rows) if row.get("is_best")), default=None),
            unit=unit,
        )


def draw_curves(curves: Curves, path: str | Path) -> None:
    """Draw the curves of a run.

    Args:
        curves: Curves of any number of evaluations.
        path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        ConfigError: The file cannot be written, or matplotlib is missing.
        ResourceError: The disk is full, or fails.
    """
    is_shown = {
        "loss": True,
        "score": bool(curves.score_name) and _has_any(curves.score),
        "rate": _has_any(curves.learning_rate),
    }
    panels = [name for name in _HEIGHTS if is_shown[name]]
    with page(path) as sheet:
        height = sum(_HEIGHTS[name] for name in panels) + _GAP * (len(panels) - 1)
        sheet.resize(_WIDTH, _TOP + height + _BOTTOM)
        top, drawn = _TOP, []
        for name in panels:
            axes = sheet.axes(_LEFT, top, _WIDTH - _LEFT - _RIGHT, _HEIGHTS[name])
            style_axes(axes)
            {"loss": _draw_loss, "score": _draw_score, "rate": _draw_rate}[name](axes, curves)
            axes.set_title(sheet.text(axes.get_title(loc="left")))
            drawn.append(axes)
            top += _HEIGHTS[name] + _GAP
        _label_axes(drawn, curves.steps)
        if curves.best is not None:
            _mark_best(drawn, curves, curves.best)


def _draw_loss(axes: Axes, curves: Curves) -> None:
    lines = (
        ("training", curves.train_loss, SECOND.light),
        ("validation", curves.valid_loss, ACCENT.light),
    )
    for label, values, color in lines:
        if _has_any(values):
            _draw_line(axes, curves.steps, values, color, label)
    finite = [*filter(math.isfinite, (*curves.train_loss, *curves.valid_loss))]
    if 0 < _LOG_RATIO * min(finite, default=0.0) < max(finite, default=0.0):
        axes.set_yscale("log")
    axes.set_title(f"loss ({curves.unit})".removesuffix(" ()"))
    if finite:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    else:
        note = "no finite loss" if curves.steps else "no evaluation yet"
        axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", color=MUTED.light)
        axes.set_yticks([])


def _draw_score(axes: Axes, curves: Curves) -> None:
    _draw_line(axes, curves.steps, curves.score, ACCENT.light)
    axes.set_title(curves.score_title)


def _draw_rate(axes: Axes, curves: Curves) -> None:
    _draw_line(axes, curves.steps, curves.learning_rate, MUTED.light)
    axes.set_title("learning rate")
    axes.set_ylim(bottom=0)


def _draw_line(
    axes: Axes, steps: Sequence[int], values: Sequence[float], color: str, label: str = ""
) -> None:
    """Draw a curve; few points, and a point without neighbors, have a dot each."""
    indices = thin(values, _MOST_POINTS)
    x, y = np.array(steps)[indices], np.array(values)[indices]
    dots = marked_values(y.tolist(), _MARKED_POINTS)
    axes.plot(x, y, color=color, label=label, marker="o", markevery=dots)


def _label_axes(panels: Sequence[Axes], steps: Sequence[int]) -> None:
    """Give all panels one axis of steps, and numbers to both axes."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axes in panels:
        if steps:
            margin = 0.02 * (max(steps) - min(steps)) or 1.0
            axes.set_xlim(min(steps) - margin, max(steps) + margin)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(labelbottom=axes is panels[-1])
        if axes.get_lines():
            label_values(axes, 5)
    if steps:
        panels[-1].set_xlabel("step")
    else:
        panels[-1].set_xticks([])


def _mark_best(panels: Sequence[Axes], curves: Curves, best: int) -> None:
    """Draw a line at the best evaluation through all panels, and dots on its loss and score."""
    step = curves.steps[best]
    for axes in panels:
        axes.axvline(step, color=MUTED.light, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    for axes, values in zip(panels, (curves.valid_loss, curves.score), strict=False):
        if math.isfinite(values[best]):
            style = {"markerfacecolor": PAGE.light, "markeredgecolor": ACCENT.light, "zorder": 4}
            axes.plot([step], [values[best]], "o", markersize=6.5, **style)
    x, align = (-5, "right") if step > sum(panels[0].get_xlim()) / 2 else (5, "left")
    panels[0].annotate(
        f"best, step {step:,}",
        (step, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(x, -3),
        textcoords="offset points",
        ha=align,
        va="top",
        fontsize=8,
        color=INK.light,
    )


def _score_name(rows: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the score; where that is the loss, of another figure, or none."""
    name = rows[-1].get("score_name", "") if rows else ""
    if name not in _LOSSES:
        return name
    return next((key for row in measures for key in row if key not in _LOSSES), "")


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    return [_number(row.get(name)) for row in rows]


def _number(value: object) -> float:
    """Return a finite number, or NaN."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]


def _has_any(values: Iterable[float]) -> bool:
    return any(map(math.isfinite, values))
