"""Bracketing and zooming to the strong Wolfe conditions (Nocedal & Wright 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(eq=False)
class StrongWolfe:
    """Sufficient decrease and a small slope (Wolfe 1969; Nocedal & Wright, algorithms 3.5, 3.6).

    Args:
        sufficient: c1, above 0 and below `curvature`.
        curvature: c2: largest fraction of the first slope that may remain, below 1.
        max_evaluations: Samples computed at most.

    Raises:
        ConfigError: An argument is out of range.
    """

    sufficient: float = 1e-4
    curvature: float = 0.1
    max_evaluations: int = 40

    def __post_init__(self) -> None:
        require_number("curvature", self.curvature, "above 0 and below 1", lambda x: 0 < x < 1)
        rule = f"above 0 and below {self.curvature}"
        require_number("sufficient", self.sufficient, rule, lambda x: 0 < x < self.curvature)
        require_whole("max_evaluations", self.max_evaluations, 1)

    def __call__(self, function: LineFunction, state: LineSearchState) -> LineSearchResult:
        """Search along `function`."""
        origin = state.origin
        fraction = self.curvature if state.curvature is None else state.curvature

        def accepts(sample: LineSample) -> bool:
            return self._is_low(state, sample) and abs(sample.slope) <= -fraction * origin.slope

        trial = Trial(function, state, accepts, self.max_evaluations)
        try:
            return self._bracket(trial)
        except Accepted as accepted:
            return LineSearchResult(accepted.sample)

    def _is_low(self, state: LineSearchState, sample: LineSample) -> bool:
        origin = state.origin
        bound = origin.value + self.sufficient * sample.step_size * origin.slope
        return sample.value <= bound + state.tolerance

    def _bracket(self, trial: Trial) -> LineSearchResult:
        before, sample = trial.state.origin, trial.first_sample()
        if not sample.is_finite:
            return trial.failed(NOT_FINITE)
        while not trial.is_exhausted:
            rises = before.step_size > 0 and sample.value > before.value
            if rises or not self._is_low(trial.state, sample):
                return self._zoom(trial, before, sample)
            if sample.slope >= 0:
                return self._zoom(trial, sample, before)
            minimum = _cubic_minimum(before, sample)
            step = min(10 * sample.step_size, max(2 * sample.step_size, minimum))
            before, sample = sample, trial.sample(step)
            while not sample.is_finite and not trial.is_exhausted:
                step = 0.5 * (before.step_size + step)
                sample = trial.sample(step)
        return trial.failed(NOT_MET)

    def _zoom(self, trial: Trial, low: LineSample, high: LineSample) -> LineSearchResult:
        while not trial.is_exhausted:
            width = abs(high.step_size - low.step_size)
            if width <= 1e-15 * max(high.step_size, low.step_size):
                return trial.failed(INTERVAL_VANISHED)
            left = min(low.step_size, high.step_size)
            step = min(left + 0.9 * width, max(left + 0.1 * width, _cubic_minimum(low, high)))
            sample = trial.sample(step)
            if (
                not sample.is_finite
                or not self._is_low(trial.state, sample)
                or sample.value >= low.value
            ):
                high = sample
            else:
                if sample.slope * (high.step_size - low.step_size) >= 0:
                    high = low
                low = sample
        return trial.failed(NOT_MET)


def _cubic_minimum(a: LineSample, b: LineSample) -> float:
    """Return the minimiser of the cubic through two samples (Nocedal & Wright, equation 3.59).

    The middle if the cubic has none.
    """
    middle = 0.5 * (a.step_size + b.step_size)
    if not (a.is_finite and b.is_finite) or a.step_size == b.step_size:
        return middle
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step_size - b.step_size)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return middle
    d2 = math.copysign(math.sqrt(square), b.step_size - a.step_size)
    below = b.slope - a.slope + 2 * d2
    if not below:
        return middle
    return b.step_size - (b.step_size - a.step_size) * (b.slope + d2 - d1) / below
