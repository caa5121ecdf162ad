"""What line searches share: a function along a direction, its samples, the result, and a trial.

A line is ``phi(step) = f(x + step d)``. Every search checks each point as it is evaluated, so that
the accepted point is the last one, and reports the best point that it saw where it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

NOT_FINITE = "the function is not finite however short the step"
NO_POINT = "no step met the conditions within the limit of evaluations"
ROUNDING = "the interval shrank to nothing: values and slopes disagree, by rounding or by mistake"


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


class Accepted(Exception):  # noqa: N818 - not an error: it ends a search from any depth
    """A point was accepted."""

    def __init__(self, point: LinePoint) -> None:
        self.point = point


class Trial:
    """One search: counts points, accepts, and remembers the lowest."""

    def __init__(
        self, line: Line, start: Start, accepts: Callable[[LinePoint], bool], max_points: int
    ) -> None:
        self.line, self.start, self._accepts = line, start, accepts
        self._left = max_points
        self.lowest: LinePoint | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether no further point may be evaluated."""
        return self._left <= 0

    def point(self, step: float) -> LinePoint:
        """Compute value and slope; raise `Accepted` where they meet the conditions."""
        self._left -= 1
        point = self.line.point(step)
        if not point.is_finite:
            return point
        lowest = self.start.origin if self.lowest is None else self.lowest
        if point.value < lowest.value:
            self.lowest = point
        if self._accepts(point):
            raise Accepted(point)
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
        """Return the lowest point with the reason why none was accepted."""
        return Found(point=self.lowest, failure=why)
