"""Full-batch gradient descent: fixed steps, backtracking, or Barzilai and Borwein's steps.

- a number: x - step g; the value after the step is not compared.
- armijo: backtracking from twice the last step (Armijo 1966).
- barzilai-borwein: s.s / s.y with s the last step and y the change of the gradient along it
  (Barzilai & Borwein 1988), accepted if the value is below the largest of the last ten (Raydan
  1997).

Cost of a step: one evaluation, and a value for every trial; four vectors of n entries.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.line_search.armijo import Armijo
from regard.optim.line_search.initial_step import initial_step_size
from regard.optim.line_search.trial import (
    LineFunction,
    LineSample,
    LineSearchResult,
    LineSearchState,
)
from regard.optim.line_search_optimizer import (
    LineSearchOptimizer,
    StepReport,
)
from regard.optim.objective_along_direction import ObjectiveAlongDirection
from regard.optim.objectives.objective import DeterministicObjective, Reduce
from regard.optim.step_products import StepProducts
from regard.option_checks import require_number

_REMEMBERED_VALUES = 10
_LONGEST, _SHORTEST = 1e10, 1e-10  # of a step, relative to the one before
_RULES = ("armijo", "barzilai-borwein")


class GradientDescent(LineSearchOptimizer):
    """Gradient descent on a deterministic objective.

    Args:
        params: Parameters or groups.
        step: armijo, barzilai-borwein, or the length of every step, above 0, which is ``lr`` of the
            groups, the same in all: torch's schedulers change it.
        checks_noise: Evaluate the first point twice, and the start of a search that failed, and
            refuse an objective that differs.
        reduce: Sums over the processes that compute a closure's gradients together, in place; None
            finds them where they use DistributedDataParallel or sharded parameters.

    Raises:
        ConfigError: An argument is unknown, or a parameter cannot be optimized.
    """

    def __init__(
        self,
        params: Any,
        *,
        step: float | Literal["armijo", "barzilai-borwein"] = "barzilai-borwein",
        checks_noise: bool = True,
        reduce: Reduce | None = None,
    ) -> None:
        if not isinstance(step, str):
            rule = f"{', '.join(_RULES)} or a number above 0"
            require_number("step", step, rule, lambda step: step > 0)
        elif step not in _RULES:
            raise ConfigError(f"step must be {', '.join(_RULES)} or a number above 0, not {step!r}")
        self._rule = step
        defaults = {} if isinstance(step, str) else {"lr": float(step)}
        super().__init__(params, defaults, checks_noise=checks_noise, reduce=reduce)

    def _step(self, objective: DeterministicObjective) -> StepReport:
        state, flat = self._state, self._flat
        if "direction" not in state:
            state["direction"] = flat.zeros()
        direction = torch.neg(self._gradient, out=state["direction"])
        square = self._figures.get("new_square")  # of the last step, where this one continues it
        slope = -(flat.dot(self._gradient, self._gradient) if square is None else square)
        function = ObjectiveAlongDirection(self, objective, direction, slope)
        allowed_rise = 0.0
        if self._rule == "barzilai-borwein":
            values = state.setdefault("values", [])
            values.append(self._value)
            del values[:-_REMEMBERED_VALUES]
            allowed_rise = max(values) - self._value
        origin = LineSample(0.0, self._value, slope)
        start = LineSearchState(origin, self._initial_step_size(slope), allowed_rise)
        search = Armijo() if isinstance(self._rule, str) else _take_fixed_step
        result = self._search_along(function, search, start)
        if result.sample is None:
            return StepReport(failure=result.failure)
        step_size = result.sample.step_size
        state["step"] = 2 * step_size  # the next step's first trial
        if self._rule == "barzilai-borwein":
            d_y, d_d = self._figures["d_y"], self._figures["d_d"]
            longest = _LONGEST * step_size
            quotient = step_size * d_d / d_y if d_y > 0 else longest  # s.s / s.y
            state["step"] = min(longest, max(_SHORTEST * step_size, quotient))
        return StepReport(step_size=step_size)

    def _measure(self, products: StepProducts) -> dict[str, Tensor]:
        names = ["norm", "new_square"]
        if self._rule == "barzilai-borwein":
            names += ["d_y", "d_d"]
        return {name: products[name] for name in names}

    def _on_moved_parameters(self) -> None:
        self._state.pop("step", None)
        self._state.pop("values", None)

    def _initial_step_size(self, slope: float) -> float:
        state, flat = self._state, self._flat
        if not isinstance(self._rule, str):
            rates = {float(group["lr"]) for group in self.param_groups}
            if len(rates) > 1:
                raise ConfigError(
                    f"groups have the rates {', '.join(map(str, sorted(rates)))}; one step takes "
                    "one.  Give groups a `scale` of their own."
                )
            return rates.pop()
        if "step" in state:
            return state["step"]
        position = flat.max_abs_parameter(self._buffer("next"))
        return initial_step_size(position, flat.max_abs(self._gradient), self._value, slope)


def _take_fixed_step(function: LineFunction, state: LineSearchState) -> LineSearchResult:
    """Accept the first step size, unless the function is not finite there."""
    sample = function.sample(state.step_size)
    if sample.is_finite:
        return LineSearchResult(sample)
    return LineSearchResult(None, "the function is not finite after the step: take a smaller one")
