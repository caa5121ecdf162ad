"""The search of CG_DESCENT, which works from slopes (Hager & Zhang 2005, 2006).

So it gets as near to the minimum as rounding allows, where searches by value stop at its square
root.
"""

from __future__ import annotations

import math

from regard.optim.line_search.trial import (
    INTERVAL_VANISHED,
    NOT_FINITE,
    NOT_MET,
    Accepted,
    LineFunction,
    LineSample,
    LineSearchResult,
    LineSearchState,
    Trial,
)
from regard.option_checks import require_number, require_whole

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
        bisection: theta: where an interval is cut that holds too high values, above 0 and below 1.
        shrinkage: gamma, above 0 and below 1: an interval that shrinks by less is cut in the
            middle.
        growth: rho, above 1: largest factor from one step to the next while the slope stays
            negative.
        max_evaluations: Samples computed at most.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        sufficient: float = 0.1,
        curvature: float = 0.9,
        bisection: float = 0.5,
        shrinkage: float = 0.66,
        growth: float = 10.0,
        max_evaluations: int = 50,
    ) -> None:
        require_number("sufficient", sufficient, "above 0 and below 1/2", lambda x: 0 < x < 0.5)
        rule = f"{sufficient} or more and below 1"
        require_number("curvature", curvature, rule, lambda x: sufficient <= x < 1)
        for name, value in (("bisection", bisection), ("shrinkage", shrinkage)):
            require_number(name, value, "above 0 and below 1", lambda x: 0 < x < 1)
        require_number("growth", growth, "above 1", lambda x: x > 1)
        require_whole("max_evaluations", max_evaluations, 1)
        self.sufficient, self.curvature = sufficient, curvature
        self.bisection, self.shrinkage, self.growth = bisection, shrinkage, growth
        self.max_evaluations = max_evaluations

    def __call__(self, function: LineFunction, state: LineSearchState) -> LineSearchResult:
        """Search along `function`."""
        trial = Trial(
            function, state, lambda sample: self._accepts(state, sample), self.max_evaluations
        )
        try:
            sample = trial.first_sample()
            if not sample.is_finite:
                return trial.failed(NOT_FINITE)
            return self._shrink(trial, *self._bracket(trial, sample))
        except Accepted as accepted:
            return LineSearchResult(accepted.sample)

    def _accepts(self, state: LineSearchState, sample: LineSample) -> bool:
        origin, delta = state.origin, self.sufficient
        fraction = self.curvature if state.curvature is None else state.curvature
        if sample.slope < fraction * origin.slope:
            return False
        if sample.value - origin.value <= delta * sample.step_size * origin.slope:
            return True
        is_near = sample.value <= origin.value + state.tolerance
        return state.is_stagnating and is_near and sample.slope <= (2 * delta - 1) * origin.slope

    def _is_too_high(self, trial: Trial, sample: LineSample) -> bool:
        state = trial.state
        return not sample.is_finite or sample.value > state.origin.value + state.tolerance

    def _bracket(self, trial: Trial, sample: LineSample) -> tuple[LineSample, LineSample]:
        """Step outwards until the slope turns (steps B0 to B3)."""
        left = trial.state.origin
        while not trial.is_exhausted:
            if self._is_too_high(trial, sample):
                return self._bisect(trial, left, sample)
            if sample.slope >= 0:
                return left, sample
            # To the secant's zero of the slope, or as far as allowed where the slope still falls.
            secant = _secant(left, sample) if sample.slope > left.slope else math.inf
            step = max(_OVERSHOOT * secant, 1.1 * sample.step_size)
            left, sample = sample, trial.sample(min(step, self.growth * sample.step_size))
        return left, sample

    def _bisect(
        self, trial: Trial, left: LineSample, right: LineSample
    ) -> tuple[LineSample, LineSample]:
        """Find an interval with a minimum inside one whose right end is too high (step U3)."""
        while not trial.is_exhausted and right.step_size - left.step_size > 1e-15 * right.step_size:
            step = (1 - self.bisection) * left.step_size + self.bisection * right.step_size
            sample = trial.sample(step)
            if self._is_too_high(trial, sample) and not (sample.is_finite and sample.slope >= 0):
                right = sample
            elif sample.slope >= 0:
                return left, sample
            else:
                left = sample
        return left, right

    def _update(
        self, trial: Trial, left: LineSample, right: LineSample, step: float
    ) -> tuple[LineSample, LineSample]:
        """Cut the interval at a step (U0 to U3)."""
        if not left.step_size < step < right.step_size:
            return left, right
        sample = trial.sample(step)
        if sample.is_finite and sample.slope >= 0:
            return left, sample
        if self._is_too_high(trial, sample):
            return self._bisect(trial, left, sample)
        return sample, right

    def _shrink(self, trial: Trial, left: LineSample, right: LineSample) -> LineSearchResult:
        while not trial.is_exhausted:
            width = right.step_size - left.step_size
            if width <= 1e-15 * right.step_size:
                return trial.failed(INTERVAL_VANISHED)
            left, right = self._secant_twice(trial, left, right)
            if right.step_size - left.step_size > self.shrinkage * width:
                middle = 0.5 * (left.step_size + right.step_size)
                left, right = self._update(trial, left, right, middle)
        return trial.failed(NOT_MET)

    def _secant_twice(
        self, trial: Trial, left: LineSample, right: LineSample
    ) -> tuple[LineSample, LineSample]:
        """Cut at the secant's zero, then at that between the new end and the old (S1 to S4)."""
        step = _secant(left, right)
        new_left, new_right = self._update(trial, left, right, step)
        if step == new_right.step_size:
            return self._update(trial, new_left, new_right, _secant(right, new_right))
        if step == new_left.step_size:
            return self._update(trial, new_left, new_right, _secant(left, new_left))
        return new_left, new_right


def _secant(a: LineSample, b: LineSample) -> float:
    """Return where the slope is zero if linear between two samples; NaN where it is constant."""
    difference = b.slope - a.slope
    return (a.step_size * b.slope - b.step_size * a.slope) / difference if difference else math.nan
