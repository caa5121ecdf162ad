"""The objective of an optimizer along a direction, as line searches take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from regard.optim.line_search.trial import LineSample
from regard.optim.objectives.objective import DeterministicObjective

if TYPE_CHECKING:
    from regard.optim.line_search_optimizer import LineSearchOptimizer


class ObjectiveAlongDirection:
    """The objective along a direction from the present point.

    Args:
        optimizer: Whose parameters move; the gradient of the last sample is in its buffer ``next``.
        objective: The objective.
        direction: ``[n]``.
        slope: At the start. Where it is a scalar of a device, it is read with the first sample.
    """

    def __init__(
        self,
        optimizer: LineSearchOptimizer,
        objective: DeterministicObjective,
        direction: Tensor,
        slope: float | Tensor,
    ) -> None:
        self.objective = objective
        self._optimizer, self._direction, self._slope = optimizer, direction, slope
        self.start = optimizer._flat.copy_parameters(optimizer._buffer("start"))
        optimizer._has_start = True
        self.step_size = math.nan
        """Step size of the last sample; NaN where the parameters have moved since."""
        self.figures: dict[str, float] = {}
        """Scalars of the last sample, on a device."""
        self._early: LineSample | None = None  # a sample that no search has asked for yet

    @property
    def slope(self) -> float:
        """Slope at the start."""
        self._slope = float(self._slope)
        return self._slope

    def slope_with_sample(self, step_size: float) -> float:
        """Return the slope at the start; from a device it comes with the sample at a step size."""
        if isinstance(self._slope, Tensor):
            self._early = self.sample(step_size)
        return self.slope

    def sample(self, step_size: float) -> LineSample:
        """Compute value and slope."""
        if self._early is not None and self._early.step_size == step_size:
            early, self._early = self._early, None
            return early
        optimizer, flat, self._early = self._optimizer, self._optimizer._flat, None
        flat.move(self.start, self._direction, step_size)
        gradient = optimizer._buffer("next")

        def measure() -> dict[str, Tensor]:
            scalars = {"slope": flat.product(gradient, self._direction)}
            if flat.waits:
                scalars |= optimizer._measure(optimizer._gradient, gradient, optimizer._change)
            if isinstance(self._slope, Tensor):
                scalars["first"] = self._slope
            return scalars

        value, self.figures = optimizer._evaluate(self.objective, gradient, measure)
        self._slope = self.figures.pop("first", self._slope)
        self.step_size = step_size
        return LineSample(step_size, value, self.figures["slope"])

    def value(self, step_size: float) -> float:
        """Compute the value alone."""
        if self._early is not None and self._early.step_size == step_size:
            return self._early.value
        self._early = None
        self._optimizer._flat.move(self.start, self._direction, step_size)
        self.step_size = math.nan
        scalars = {"first": self._slope} if isinstance(self._slope, Tensor) else {}
        value, figures = self._optimizer._evaluate_value(self.objective, scalars)
        self._slope = figures.get("first", self._slope)
        return value
