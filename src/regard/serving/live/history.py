"""The history of a run, as a page that opens late is to have it: everything so far, thinned."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Fields = Mapping[str, Any]
"""An event of a run as ``regard train --json`` prints it; ``event`` names its kind."""

_MOST_PROGRESS = 2_000  # points of a curve; more would not be seen
_MOST_EVALUATIONS = 500
_MOST_WARNINGS = 50
_UNTHINNED = 100  # first points, which an axis of logarithms shows apart
_PROGRESS = (
    *("step", "epoch", "loss", "tokens_per_second", "elapsed", "num_passes"),
    *("gradient_norm", "learning_rate", "memory_bytes"),
)
_EVALUATED = (
    *("step", "epoch", "train_loss", "measures", "score_name", "is_best", "tokens_per_second"),
    *("gradient_norm", "elapsed", "learning_rate"),
)


class RunHistory:
    """The events of a run: curves of bounded length, the last warnings, the last of other kinds."""

    def __init__(self) -> None:
        self._progress: list[Fields] = []
        self._evaluations: list[Fields] = []
        self._warnings: deque[Fields] = deque(maxlen=_MOST_WARNINGS)
        self._num_warnings = 0
        self._latest: dict[str, Fields] = {}

    def add(self, fields: Fields) -> bool:
        """Add an event.

        Args:
            fields: The event. Points of the curves at its step and after it are dropped: they are
                of an earlier session, whose last steps a resumed run repeats.

        Returns:
            Whether points of the curves were dropped, or thinned.
        """
        kind = fields["event"]
        if kind == "warned":
            self._warnings.append(fields)
            self._num_warnings += 1
            return False
        self._latest.pop("working", None)  # what comes next says that it is done
        self._latest[kind] = fields
        if kind == "progress":
            has_dropped = self._drop_from(fields["step"], fields["step"] + 1)
            self._progress.append(_select(fields, _PROGRESS))
            return self._thin() or has_dropped
        if kind == "evaluated":
            has_dropped = self._drop_from(fields["step"] + 1, fields["step"])
            self._evaluations.append(_select(fields, _EVALUATED))
            return self._thin() or has_dropped
        return False

    def state(self) -> dict[str, Any]:
        """Return everything so far, in lists that later events leave as they are."""
        return {
            "latest": dict(self._latest),
            "progress": [*self._progress],
            "evaluated": [*self._evaluations],
            "warned": [*self._warnings],
            "num_warnings": self._num_warnings,
        }

    def _drop_from(self, progress: int, evaluation: int) -> bool:
        """Drop the points of both curves from a step on; return whether there were some."""
        has_dropped = False
        for points, step in ((self._progress, progress), (self._evaluations, evaluation)):
            while points and points[-1]["step"] >= step:
                points.pop()
                has_dropped = True
        return has_dropped

    def _thin(self) -> bool:
        """Thin curves that have twice as many points as they show; return whether one had."""
        if len(self._progress) > 2 * _MOST_PROGRESS:
            self._progress = _thinned(self._progress, _MOST_PROGRESS, _extreme_progress)
            return True
        if len(self._evaluations) > 2 * _MOST_EVALUATIONS:
            self._evaluations = _thinned(self._evaluations, _MOST_EVALUATIONS, _best_evaluation)
            return True
        return False


def _select(fields: Fields, names: Iterable[str]) -> Fields:
    return {name: fields[name] for name in names if name in fields}


def _thinned(
    points: list[Fields], most: int, pick: Callable[[list[Fields]], list[Fields]]
) -> list[Fields]:
    """Return the first points of a curve, and of each range of steps those that show it.

    The ranges are equally wide, so a curve that is thinned again and again is shown as finely at
    its beginning as at its end.

    Args:
        points: In the order of their steps.
        most: Points that are left, about.
        pick: Returns the points of a range that are left, at most three.
    """
    first, rest = points[:_UNTHINNED], points[_UNTHINNED:-1]
    start = rest[0]["step"]
    width = (points[-1]["step"] - start + 1) / max(1, (most - _UNTHINNED) // 3)
    ranges: dict[int, list[Fields]] = {}
    for point in rest:
        ranges.setdefault(int((point["step"] - start) / width), []).append(point)
    return [*first, *(point for part in ranges.values() for point in pick(part)), points[-1]]


def _extreme_progress(points: list[Fields]) -> list[Fields]:
    """Return those with the least loss, the largest, and the largest gradient, in order."""
    by_loss = [point for point in points if _is_finite(point.get("loss"))]
    by_norm = [point for point in points if _is_finite(point.get("gradient_norm"))]
    extremes = [points[0]]
    if by_loss:
        lowest = min(by_loss, key=lambda point: point["loss"])
        extremes = [lowest, max(by_loss, key=lambda point: point["loss"])]
    if by_norm:
        extremes.append(max(by_norm, key=lambda point: point["gradient_norm"]))
    return sorted({point["step"]: point for point in extremes}.values(), key=_step)


def _best_evaluation(points: list[Fields]) -> list[Fields]:
    """Return the last of a range, and the last that was the best so far, in order."""
    best = [point for point in points if point.get("is_best")][-1:]
    return sorted({point["step"]: point for point in [*best, points[-1]]}.values(), key=_step)


def _step(point: Fields) -> int:
    return point["step"]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
