"""The objective of an optimizer along a direction, as line searches take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from regard.errors import ConfigError
from regard.optim.line_search.trial import LineSample
from regard.optim.objectives.objective import DeterministicObjective
from regard.optim.step_products import StepProducts

if TYPE_CHECKING:
    from regard.optim.line_search_optimizer import LineSearchOptimizer

_VISIBLE = 1e-3  # relative change of a value that no rounding hides


class ObjectiveAlongDirection:
    """The objective along a direction from the present point.

    Args:
        optimizer: Whose parameters move; the gradient of the last sample is in its buffer ``next``.
        objective: The objective.
        direction: ``[n]``.
        slope: At the start; None computes it with the first sample.
    """

    def __init__(
        self,
        optimizer: LineSearchOptimizer,
        objective: DeterministicObjective,
        direction: Tensor,
        slope: float | None,
    ) -> None:
        self.objective, self.direction = objective, direction
        self._optimizer, self._slope = optimizer, slope
        self.start = optimizer._flat.copy_parameters(optimizer._buffer("start"))
        optimizer._has_start = True
        self.step_size = math.nan
        """Step size of the last sample; NaN where the parameters have moved since."""
        self.figures: dict[str, float] = {}
        """Scalars of the last sample, on a device."""
        self.products: StepProducts | None = None
        """Inner products of the last sample, on a device."""
        self.values: dict[float, float] = {}
        """The values so far, by step size."""
        self._early: LineSample | None = None  # a sample that no search has asked for yet

    @property
    def slope(self) -> float:
        """Slope at the start."""
        if self._slope is None:
            self._slope = float(self._compute_slope())
        return self._slope

    def _compute_slope(self) -> Tensor:
        return self._optimizer._flat.product(self._optimizer._gradient, self.direction)

    def slope_with_sample(self, step_size: float) -> float:
        """Return the slope at the start; if not known, it comes with the sample at a step size."""
        if self._slope is None:
            self._early = self.sample(step_size)
        return self.slope

    def sample(self, step_size: float) -> LineSample:
        """Compute value and slope."""
        if self._early is not None and self._early.step_size == step_size:
            early, self._early = self._early, None
            return early
        optimizer, flat, self._early = self._optimizer, self._optimizer._flat, None
        flat.move(self.start, self.direction, step_size)
        gradient = optimizer._buffer("next")

        def measure() -> dict[str, Tensor]:
            if not flat.waits:
                return {"slope": flat.product(gradient, self.direction)}
            self.products = products = StepProducts(
                flat, optimizer._gradient, gradient, self.direction
            )
            scalars = {"slope": products["slope"], **optimizer._measure(products)}
            if self._slope is None:
                scalars["first"] = products["old_slope"]
            return scalars

        value, self.figures = optimizer._evaluate(self.objective, gradient, measure)
        self._slope = self.figures.pop("first", self._slope)
        self.step_size = step_size
        self.values[step_size] = value
        return LineSample(step_size, value, self.figures["slope"])

    def value(self, step_size: float) -> float:
        """Compute the value alone."""
        if self._early is not None and self._early.step_size == step_size:
            return self._early.value
        self._early = None
        self._optimizer._flat.move(self.start, self.direction, step_size)
        self.step_size = math.nan
        scalars = {"first": self._compute_slope()} if self._slope is None else {}
        value, figures = self._optimizer._evaluate_value(self.objective, scalars)
        self._slope = figures.get("first", self._slope)
        self.values[step_size] = value
        return value

    def refuse_constant(self, start_value: float) -> None:
        """Refuse an objective that has one value and one slope wherever the parameters are.

        It was computed before they moved: backward through the same graph gives the same gradient.
        Where rounding hides the changes of a value, the slope still changes.

        Args:
            start_value: The value at the start.

        Raises:
            ConfigError: The objective does not change.
        """
        expected = max(self.values, default=0.0) * abs(self.slope)  # change of the value
        is_constant = len(self.values) > 1 and {*self.values.values()} == {start_value}
        if not is_constant or expected <= _VISIBLE * abs(start_value):
            return
        if self.sample(max(self.values)).slope == self.slope:
            raise ConfigError(
                f"the loss was {start_value:.8g} at {len(self.values)} points, though its gradient "
                "says that it falls: it does not depend on the parameters as they are now, or "
                "autocast in the closure rounds the change away: leave that out.  "
                "Compute the prediction within the closure, not before it."
            )
