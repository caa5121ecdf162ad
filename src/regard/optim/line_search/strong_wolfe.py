"""Bracketing and zooming to the strong Wolfe conditions (Nocedal & Wright 2006)."""

from __future__ import annotations

import math

from regard.optim.line_search.base import (
    NO_POINT,
    NOT_FINITE,
    ROUNDING,
    Accepted,
    Found,
    Line,
    LinePoint,
    Start,
    Trial,
)


class StrongWolfe:
    """Sufficient decrease and a small slope (Wolfe 1969; Nocedal & Wright, algorithms 3.5, 3.6).

    Args:
        sufficient: c1, above 0 and below `curvature`.
        curvature: c2: greatest share of the first slope that may remain, below 1.
        max_points: Points evaluated at most.
    """

    def __init__(
        self, sufficient: float = 1e-4, curvature: float = 0.1, max_points: int = 40
    ) -> None:
        self.sufficient, self.curvature, self.max_points = sufficient, curvature, max_points

    def __call__(self, line: Line, start: Start) -> Found:
        """Search along `line`."""
        origin = start.origin
        share = self.curvature if start.curvature is None else start.curvature

        def accepts(point: LinePoint) -> bool:
            return self._is_low(start, point) and abs(point.slope) <= -share * origin.slope

        trial = Trial(line, start, accepts, self.max_points)
        try:
            return self._bracket(trial)
        except Accepted as accepted:
            return Found(point=accepted.point)

    def _is_low(self, start: Start, point: LinePoint) -> bool:
        origin = start.origin
        bound = origin.value + self.sufficient * point.step * origin.slope
        return point.value <= bound + start.tolerance

    def _bracket(self, trial: Trial) -> Found:
        before, point = trial.start.origin, trial.first_point()
        if not point.is_finite:
            return trial.failed(NOT_FINITE)
        while not trial.is_exhausted:
            if not self._is_low(trial.start, point) or (before.step and point.value > before.value):
                return self._zoom(trial, before, point)
            if point.slope >= 0:
                return self._zoom(trial, point, before)
            step = min(10 * point.step, max(2 * point.step, _cubic_minimum(before, point)))
            before, point = point, trial.point(step)
            while not point.is_finite and not trial.is_exhausted:
                step = 0.5 * (before.step + step)
                point = trial.point(step)
        return trial.failed(NO_POINT)

    def _zoom(self, trial: Trial, low: LinePoint, high: LinePoint) -> Found:
        while not trial.is_exhausted:
            width = abs(high.step - low.step)
            if width <= 1e-15 * max(high.step, low.step):
                return trial.failed(ROUNDING)
            left = min(low.step, high.step)
            step = min(left + 0.9 * width, max(left + 0.1 * width, _cubic_minimum(low, high)))
            point = trial.point(step)
            if (
                not point.is_finite
                or not self._is_low(trial.start, point)
                or point.value >= low.value
            ):
                high = point
            else:
                if point.slope * (high.step - low.step) >= 0:
                    high = low
                low = point
        return trial.failed(NO_POINT)


def _cubic_minimum(a: LinePoint, b: LinePoint) -> float:
    """Find the minimiser of the cubic through two points (Nocedal & Wright, equation 3.59).

    The middle, where there is none.
    """
    middle = 0.5 * (a.step + b.step)
    if not (a.is_finite and b.is_finite) or a.step == b.step:
        return middle
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return middle
    d2 = math.copysign(math.sqrt(square), b.step - a.step)
    below = b.slope - a.slope + 2 * d2
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / below if below else middle
