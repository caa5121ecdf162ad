"""Backtracking until the value has decreased enough (Armijo 1966); it needs values only."""

from __future__ import annotations

import math

from regard.optim.line_search.base import NO_POINT, Found, Line, LinePoint, Start


class Armijo:
    """Backtracking until the value has decreased enough (Armijo 1966).

    Args:
        sufficient: c1: share of the decrease that the slope promises, above 0 and below 1.
        shrink: Least and greatest factor from one step to the next; the minimiser of the parabola
            through value and slope at the start and value at the step is taken between them.
        max_points: Values computed at most.
    """

    def __init__(
        self,
        sufficient: float = 1e-4,
        shrink: tuple[float, float] = (0.1, 0.5),
        max_points: int = 40,
    ) -> None:
        self.sufficient, self.shrink, self.max_points = sufficient, shrink, max_points

    def __call__(self, line: Line, start: Start) -> Found:
        """Search along `line`; one value a trial, and one slope at the end."""
        step, origin = start.step, start.origin
        for _ in range(self.max_points):
            value = line.value(step)
            bound = origin.value + self.sufficient * step * origin.slope + start.tolerance
            if math.isfinite(value) and value <= bound:
                point = line.point(step)
                if point.is_finite:
                    return Found(point=point)
            step *= self._factor(origin, step, value)
        return Found(point=None, failure=NO_POINT)

    def _factor(self, origin: LinePoint, step: float, value: float) -> float:
        low, high = self.shrink
        if not math.isfinite(value):
            return low
        curvature = value - origin.value - step * origin.slope
        return min(high, max(low, -0.5 * step * origin.slope / curvature if curvature else high))
