"""Backtracking until the value has decreased enough (Armijo 1966); it needs values only."""

from __future__ import annotations

import math

from regard.optim.line_search.trial import (
    NOT_MET,
    LineFunction,
    LineSearchResult,
    LineSearchState,
)
from regard.option_checks import require_number, require_whole


class Armijo:
    """Backtracking until the value has decreased enough (Armijo 1966).

    Args:
        sufficient: c1: fraction of the decrease that the slope promises, above 0 and below 1.
        shrink: Smallest and largest factor from one step to the next; the minimiser of the parabola
            through value and slope at the start and value at the step is taken between them.
        max_evaluations: Values computed at most.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        sufficient: float = 1e-4,
        shrink: tuple[float, float] = (0.1, 0.5),
        max_evaluations: int = 40,
    ) -> None:
        require_number("sufficient", sufficient, "above 0 and below 1", lambda x: 0 < x < 1)
        low, high = shrink
        require_number("shrink[0]", low, "above 0 and below 1", lambda x: 0 < x < 1)
        require_number("shrink[1]", high, f"{low} or more and below 1", lambda x: low <= x < 1)
        require_whole("max_evaluations", max_evaluations, 1)
        self.sufficient, self.shrink, self.max_evaluations = sufficient, shrink, max_evaluations

    def __call__(self, function: LineFunction, state: LineSearchState) -> LineSearchResult:
        """Search along `function`; one value a trial, and one slope at the end."""
        step, origin, (low, high) = state.step_size, state.origin, self.shrink
        for _ in range(self.max_evaluations):
            value = function.value(step)
            bound = origin.value + self.sufficient * step * origin.slope + state.tolerance
            if math.isfinite(value) and value <= bound:
                sample = function.sample(step)
                if sample.is_finite:
                    return LineSearchResult(sample)
            curvature = value - origin.value - step * origin.slope
            minimum = -0.5 * step * origin.slope / curvature if curvature else math.inf
            step *= min(high, max(low, minimum)) if math.isfinite(value) else low
        return LineSearchResult(None, NOT_MET)
