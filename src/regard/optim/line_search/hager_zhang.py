"""The search of CG_DESCENT, which works from slopes (Hager & Zhang 2005, 2006).

So it gets as near to the minimum as rounding allows, where searches by value stop at its square
root.
"""

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

_OVERSHOOT = 1.05  # past where a secant puts the minimum, to bracket it


class HagerZhang:
    """The search of CG_DESCENT (Hager & Zhang 2005, section 4; 2006, section 3).

    Accepts by the Wolfe conditions, or, where the change in value is of the size of its rounding
    error, by their approximation, which compares slopes only. Keeps an interval whose left end has
    a negative slope and a value within the tolerance of the start's, and whose right end has a
    positive slope, and shrinks it by two secant steps.

    Args:
        sufficient: delta of the Wolfe conditions, above 0 and below 1/2.
        curvature: sigma, at least delta and below 1.
        bisection: theta: where an interval is cut that holds too high values.
        shrinkage: gamma: an interval that shrinks by less is cut in the middle.
        growth: rho: greatest factor from one step to the next while the slope stays negative.
        max_points: Points evaluated at most.
    """

    def __init__(
        self,
        sufficient: float = 0.1,
        curvature: float = 0.9,
        bisection: float = 0.5,
        shrinkage: float = 0.66,
        growth: float = 10.0,
        max_points: int = 50,
    ) -> None:
        self.sufficient, self.curvature = sufficient, curvature
        self.bisection, self.shrinkage, self.growth = bisection, shrinkage, growth
        self.max_points = max_points

    def __call__(self, line: Line, start: Start) -> Found:
        """Search along `line`."""
        trial = Trial(line, start, lambda point: self._accepts(start, point), self.max_points)
        try:
            point = trial.first_point()
            if not point.is_finite:
                return trial.failed(NOT_FINITE)
            return self._shrink(trial, *self._bracket(trial, point))
        except Accepted as accepted:
            return Found(point=accepted.point)

    def _accepts(self, start: Start, point: LinePoint) -> bool:
        origin, delta = start.origin, self.sufficient
        share = self.curvature if start.curvature is None else start.curvature
        if point.slope < share * origin.slope:
            return False
        if point.value - origin.value <= delta * point.step * origin.slope:
            return True
        is_near = point.value <= origin.value + start.tolerance
        return start.is_flat and is_near and point.slope <= (2 * delta - 1) * origin.slope

    def _is_too_high(self, trial: Trial, point: LinePoint) -> bool:
        start = trial.start
        return not point.is_finite or point.value > start.origin.value + start.tolerance

    def _bracket(self, trial: Trial, point: LinePoint) -> tuple[LinePoint, LinePoint]:
        """Step outwards until the slope turns (steps B0 to B3)."""
        left = trial.start.origin
        while not trial.is_exhausted:
            if self._is_too_high(trial, point):
                return self._bisect(trial, left, point)
            if point.slope >= 0:
                return left, point
            left, point = point, trial.point(self._outwards(left, point))
        return left, point

    def _outwards(self, left: LinePoint, point: LinePoint) -> float:
        """Extrapolate to where the slope should be zero, by `growth` where it falls still."""
        step = _secant(left, point) if point.slope > left.slope else math.inf
        return min(max(_OVERSHOOT * step, 1.1 * point.step), self.growth * point.step)

    def _bisect(
        self, trial: Trial, left: LinePoint, right: LinePoint
    ) -> tuple[LinePoint, LinePoint]:
        """Find an interval with a minimum inside one whose right end is too high (step U3)."""
        while not trial.is_exhausted and right.step - left.step > 1e-15 * right.step:
            step = (1 - self.bisection) * left.step + self.bisection * right.step
            point = trial.point(step)
            if self._is_too_high(trial, point) and not (point.is_finite and point.slope >= 0):
                right = point
            elif point.slope >= 0:
                return left, point
            else:
                left = point
        return left, right

    def _update(
        self, trial: Trial, left: LinePoint, right: LinePoint, step: float
    ) -> tuple[LinePoint, LinePoint]:
        """Cut the interval at a step (U0 to U3)."""
        if not left.step < step < right.step:
            return left, right
        point = trial.point(step)
        if point.is_finite and point.slope >= 0:
            return left, point
        if self._is_too_high(trial, point):
            return self._bisect(trial, left, point)
        return point, right

    def _shrink(self, trial: Trial, left: LinePoint, right: LinePoint) -> Found:
        while not trial.is_exhausted:
            width = right.step - left.step
            if width <= 1e-15 * right.step:
                return trial.failed(ROUNDING)
            left, right = self._secant_twice(trial, left, right)
            if right.step - left.step > self.shrinkage * width:
                middle = 0.5 * (left.step + right.step)
                left, right = self._update(trial, left, right, middle)
        return trial.failed(NO_POINT)

    def _secant_twice(
        self, trial: Trial, left: LinePoint, right: LinePoint
    ) -> tuple[LinePoint, LinePoint]:
        """Cut at the secant's zero, then at that between the new end and the old (S1 to S4)."""
        step = _secant(left, right)
        new_left, new_right = self._update(trial, left, right, step)
        if step == new_right.step:
            return self._update(trial, new_left, new_right, _secant(right, new_right))
        if step == new_left.step:
            return self._update(trial, new_left, new_right, _secant(left, new_left))
        return new_left, new_right


def _secant(a: LinePoint, b: LinePoint) -> float:
    """Find where the slope is zero if it is linear between two points; NaN where it is constant."""
    difference = b.slope - a.slope
    return (a.step * b.slope - b.step * a.slope) / difference if difference else math.nan
