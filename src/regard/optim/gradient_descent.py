"""Full-batch gradient descent: fixed steps, backtracking, or Barzilai and Borwein's steps.

- a number: x - step g, as far as it goes; the step is not checked.
- armijo: backtracking from twice the last step (Armijo 1966).
- barzilai-borwein: s.s / s.y with s the last step and y the change of the gradient along it
  (Barzilai & Borwein 1988), accepted if the value is below the greatest of the last ten (Raydan
  1997).

Cost of a step: one evaluation, and a value for every trial; four vectors of n entries.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from regard.errors import ConfigError
from regard.optim.line_search import Armijo
from regard.optim.line_search.base import Found, Line, LinePoint, Start
from regard.optim.line_search.initial_step import from_scratch
from regard.optim.line_search_optimizer import Deterministic, StepReport
from regard.optim.objectives.objective import Objective

_REMEMBERED_VALUES = 10
_LONGEST, _SHORTEST = 1e10, 1e-10
_RULES = ("armijo", "barzilai-borwein")


class GradientDescent(Deterministic):
    """Gradient descent on a deterministic objective.

    Args:
        params: Parameters or groups.
        step: armijo, barzilai-borwein, or the length of every step, above 0.
        checks_noise: Evaluate the first point twice and refuse an objective that differs.

    Raises:
        ConfigError: An argument is unknown, or a parameter cannot be optimized.
    """

    def __init__(
        self,
        params: Any,
        *,
        step: float | Literal["armijo", "barzilai-borwein"] = "barzilai-borwein",
        checks_noise: bool = True,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise)
        if step not in _RULES if isinstance(step, str) else not step > 0:
            raise ConfigError(f"step must be {', '.join(_RULES)} or a number above 0, not {step!r}")
        self._rule = step

    def _advance(self, objective: Objective) -> StepReport:
        state, vector = self._state, self._vector
        if "direction" not in state:
            state["direction"] = vector.new()
        direction = torch.neg(self._gradient, out=state["direction"])
        slope = -vector.dot(self._gradient, self._gradient)
        origin = LinePoint(0.0, self._value, slope)
        start = Start(origin, self._first_step(slope), self._allowance())
        search = Armijo() if isinstance(self._rule, str) else _take
        found = self._search(objective, direction, search, start)
        if found.point is None:
            return StepReport(failure=found.failure)
        self._learn(found.point)
        return StepReport(step=found.point.step)

    def _forget(self) -> None:
        self._state.pop("step", None)
        self._state.pop("values", None)

    def _first_step(self, slope: float) -> float:
        state, vector = self._state, self._vector
        if not isinstance(self._rule, str):
            return float(self._rule)
        if "step" in state:
            return state["step"]
        place = vector.extent(self._buffer("next"))
        return from_scratch(place, vector.largest(self._gradient), self._value, slope)

    def _allowance(self) -> float:
        """Return how far the value may rise: to the greatest of the last ones."""
        if self._rule != "barzilai-borwein":
            return 0.0
        values = self._state.setdefault("values", [])
        values.append(self._value)
        del values[:-_REMEMBERED_VALUES]
        return max(values) - self._value

    def _learn(self, point: LinePoint) -> None:
        """Choose the next step's first trial; the buffer ``next`` holds the old gradient."""
        state, vector = self._state, self._vector
        state["step"] = 2 * point.step
        if self._rule == "barzilai-borwein":
            change = self._buffer("next").neg_().add_(self._gradient)
            direction = state["direction"]
            along = vector.dot(direction, change)
            square = vector.dot(direction, direction)
            longest = _LONGEST * point.step
            found = point.step * square / along if along > 0 else longest
            state["step"] = min(longest, max(_SHORTEST * point.step, found))


def _take(line: Line, start: Start) -> Found:
    """Take the step as it is, unless the function is not finite there."""
    point = line.point(start.step)
    if point.is_finite:
        return Found(point)
    return Found(None, "the function is not finite after the step: take a smaller one")
