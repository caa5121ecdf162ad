"""What line searches share: phi(alpha) = f(x + alpha d), its samples, the result, and a trial.

Every search checks each sample as it is evaluated, so that the accepted one is the last, and
returns the lowest that it saw where it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

NOT_FINITE = "the function is not finite however short the step"
NOT_MET = "no step met the conditions within the limit of evaluations"
INTERVAL_VANISHED = (
    "the interval shrank to nothing: values and slopes disagree, by rounding or by mistake"
)


@dataclass(frozen=True, slots=True)
class LineSample:
    """The function along a direction at one step size.

    Args:
        step_size: alpha, 0 or more.
        value: phi(alpha).
        slope: phi'(alpha).
    """

    step_size: float
    value: float
    slope: float

    @property
    def is_finite(self) -> bool:
        """Whether value and slope are finite."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


class LineFunction(Protocol):
    """The function along a direction, phi."""

    def sample(self, step_size: float) -> LineSample:
        """Compute value and slope."""
        ...

    def value(self, step_size: float) -> float:
        """Compute the value alone, which may be cheaper."""
        ...


@dataclass(frozen=True, slots=True)
class LineSearchResult:
    """How a line search ended.

    Args:
        sample: The accepted sample, or the lowest one below the start where the search failed, or
            None.
        failure: Why no sample was accepted; empty for success.
    """

    sample: LineSample | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class LineSearchState:
    """Where a line search begins.

    Args:
        origin: The sample at step size 0; its slope is negative.
        step_size: The first one to try, above 0.
        tolerance: Rounding error of a value near the origin: rises up to it are ignored.
        is_stagnating: Whether values change too little to be compared, so that slopes alone decide.
        curvature: Fraction of the first slope that may remain, in place of the search's own; None
            leaves it.
    """

    origin: LineSample
    step_size: float
    tolerance: float = 0.0
    is_stagnating: bool = False
    curvature: float | None = None


LineSearch: TypeAlias = Callable[[LineFunction, LineSearchState], LineSearchResult]
"""A line search."""


class Accepted(Exception):  # noqa: N818 - not an error: it ends a search from any depth
    """A sample met the conditions."""

    def __init__(self, sample: LineSample) -> None:
        self.sample = sample


class Trial:
    """One run of a search: counts and checks samples, and remembers the lowest.

    Args:
        function: The function along the direction.
        state: Where the search begins.
        accepts: Whether a finite sample meets the search's conditions.
        max_evaluations: Samples computed at most.
    """

    def __init__(
        self,
        function: LineFunction,
        state: LineSearchState,
        accepts: Callable[[LineSample], bool],
        max_evaluations: int,
    ) -> None:
        self.function, self.state, self._accepts = function, state, accepts
        self._num_left = max_evaluations
        self.lowest: LineSample | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether no further sample may be computed."""
        return self._num_left <= 0

    def sample(self, step_size: float) -> LineSample:
        """Compute value and slope; raise `Accepted` where they meet the conditions."""
        self._num_left -= 1
        sample = self.function.sample(step_size)
        if not sample.is_finite:
            return sample
        lowest = self.state.origin if self.lowest is None else self.lowest
        if sample.value < lowest.value:
            self.lowest = sample
        if self._accepts(sample):
            raise Accepted(sample)
        return sample

    def first_sample(self) -> LineSample:
        """Compute the sample at the first step size, or at the first shorter one that is finite."""
        step_size = self.state.step_size
        sample = self.sample(step_size)
        while not sample.is_finite and not self.is_exhausted:
            step_size *= 0.1
            sample = self.sample(step_size)
        return sample

    def failed(self, reason: str) -> LineSearchResult:
        """Return the lowest sample with the reason why none was accepted."""
        return LineSearchResult(self.lowest, reason)
