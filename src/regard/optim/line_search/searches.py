"""Line searches: how far to go along a direction of descent.

A line is ``phi(step) = f(x + step d)``. `Armijo` needs values only; `StrongWolfe` brackets and
zooms (Nocedal & Wright 2006, algorithms 3.5 and 3.6); `HagerZhang` works from slopes, and so gets
as near as rounding allows, where searches by value stop at its square root (Hager & Zhang 2005).
Every search checks each point as it is evaluated, so that the accepted point is the last one, and
reports the best point that it saw where it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from regard.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LinePoint:
    """A point on a line.

    Args:
        step: Its place, 0 or more.
        value: phi(step).
        slope: phi'(step).
    """

    step: float
    value: float
    slope: float

    @property
    def is_finite(self) -> bool:
        """Whether value and slope are finite."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


class Line(Protocol):
    """The function along a direction; what it was evaluated at is its own business."""

    def point(self, step: float) -> LinePoint:
        """Compute value and slope."""
        ...

    def value(self, step: float) -> float:
        """Compute the value alone, which may be cheaper."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Args:
        point: The accepted point, or the lowest one below the start where the search failed, or
            None.
        failure: Why no point was accepted; empty for success.
    """

    point: LinePoint | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a search begins.

    Args:
        origin: The point at step 0; its slope is negative.
        step: The first step to try, above 0.
        tolerance: Rounding error of a value near the origin: rises up to it are not seen.
        is_flat: Whether values change too little to be compared, so that slopes decide alone.
        curvature: Share of the first slope that may remain, in place of the search's own; None
            leaves it.
    """

    origin: LinePoint
    step: float
    tolerance: float = 0.0
    is_flat: bool = False
    curvature: float | None = None


class Search(Protocol):
    """A line search."""

    def __call__(self, line: Line, start: Start) -> Found:
        """Search along `line`."""
        ...


class _Accepted(Exception):  # noqa: N818 - not an error: it ends a search from any depth
    def __init__(self, point: LinePoint) -> None:
        self.point = point


class _Trial:
    """One search: counts points, accepts, and remembers the lowest."""

    def __init__(
        self, line: Line, start: Start, accepts: Callable[[LinePoint], bool], max_points: int
    ) -> None:
        self.line, self.start, self._accepts = line, start, accepts
        self._left = max_points
        self.lowest: LinePoint | None = None

    @property
    def is_exhausted(self) -> bool:
        return self._left <= 0

    def point(self, step: float) -> LinePoint:
        self._left -= 1
        point = self.line.point(step)
        if not point.is_finite:
            return point
        lowest = self.start.origin if self.lowest is None else self.lowest
        if point.value < lowest.value:
            self.lowest = point
        if self._accepts(point):
            raise _Accepted(point)
        return point

    def first_point(self) -> LinePoint:
        """Evaluate the first step, or the first of ever shorter ones that is finite."""
        step = self.start.step
        point = self.point(step)
        while not point.is_finite and not self.is_exhausted:
            step *= 0.1
            point = self.point(step)
        return point

    def failed(self, why: str) -> Found:
        return Found(point=self.lowest, failure=why)


_OVERSHOOT = 1.05  # past where a secant puts the minimum, to bracket it
_NOT_FINITE = "the function is not finite however short the step"
_NO_POINT = "no step met the conditions within the limit of evaluations"
_ROUNDING = "the interval shrank to nothing: values and slopes disagree, by rounding or by mistake"


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
        return Found(point=None, failure=_NO_POINT)

    def _factor(self, origin: LinePoint, step: float, value: float) -> float:
        low, high = self.shrink
        if not math.isfinite(value):
            return low
        curvature = value - origin.value - step * origin.slope
        return min(high, max(low, -0.5 * step * origin.slope / curvature if curvature else high))


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

        trial = _Trial(line, start, accepts, self.max_points)
        try:
            return self._bracket(trial)
        except _Accepted as accepted:
            return Found(point=accepted.point)

    def _is_low(self, start: Start, point: LinePoint) -> bool:
        origin = start.origin
        bound = origin.value + self.sufficient * point.step * origin.slope
        return point.value <= bound + start.tolerance

    def _bracket(self, trial: _Trial) -> Found:
        before, point = trial.start.origin, trial.first_point()
        if not point.is_finite:
            return trial.failed(_NOT_FINITE)
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
        return trial.failed(_NO_POINT)

    def _zoom(self, trial: _Trial, low: LinePoint, high: LinePoint) -> Found:
        while not trial.is_exhausted:
            width = abs(high.step - low.step)
            if width <= 1e-15 * max(high.step, low.step):
                return trial.failed(_ROUNDING)
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
        return trial.failed(_NO_POINT)


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
        trial = _Trial(line, start, lambda point: self._accepts(start, point), self.max_points)
        try:
            point = trial.first_point()
            if not point.is_finite:
                return trial.failed(_NOT_FINITE)
            return self._shrink(trial, *self._bracket(trial, point))
        except _Accepted as accepted:
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

    def _is_too_high(self, trial: _Trial, point: LinePoint) -> bool:
        start = trial.start
        return not point.is_finite or point.value > start.origin.value + start.tolerance

    def _bracket(self, trial: _Trial, point: LinePoint) -> tuple[LinePoint, LinePoint]:
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
        self, trial: _Trial, left: LinePoint, right: LinePoint
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
        self, trial: _Trial, left: LinePoint, right: LinePoint, step: float
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

    def _shrink(self, trial: _Trial, left: LinePoint, right: LinePoint) -> Found:
        while not trial.is_exhausted:
            width = right.step - left.step
            if width <= 1e-15 * right.step:
                return trial.failed(_ROUNDING)
            left, right = self._secant_twice(trial, left, right)
            if right.step - left.step > self.shrinkage * width:
                middle = 0.5 * (left.step + right.step)
                left, right = self._update(trial, left, right, middle)
        return trial.failed(_NO_POINT)

    def _secant_twice(
        self, trial: _Trial, left: LinePoint, right: LinePoint
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


def search_named(search: str | Search) -> Search:
    """Return the search of a name, or the given one.

    Raises:
        ConfigError: There is no such search.
    """
    if not isinstance(search, str):
        return search
    if search not in SEARCHES:
        raise ConfigError(f"unknown search {search!r}.  One of: {', '.join(SEARCHES)}")
    return SEARCHES[search]()


SEARCHES: dict[str, Callable[[], Search]] = {
    "hager-zhang": HagerZhang,
    "strong-wolfe": StrongWolfe,
    "armijo": Armijo,
}
