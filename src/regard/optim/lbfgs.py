"""L-BFGS (Nocedal 1980; Liu & Nocedal 1989), with a search that restores where it fails.

Cost of a step: about 1.1 evaluations and 5 m n multiplications; 2 m vectors of n entries for m
pairs, beside the four of every line search.
"""

from __future__ import annotations

from typing import Any

import torch

from regard.errors import ConfigError
from regard.optim.limited_memory import LimitedMemory, Pair
from regard.optim.line_search import search_named
from regard.optim.line_search.base import Found, Search
from regard.optim.line_search.initial_step import from_scratch, quasi_newton_step
from regard.optim.line_search_optimizer import RETRY_LOOSENESS, Deterministic, StepReport
from regard.optim.objectives.objective import Objective

_CURVATURE = 0.9  # a quasi-Newton direction's first step is good: little is asked of the search


class LBFGS(Deterministic):
    """Limited-memory BFGS.

    Args:
        params: Parameters or groups.
        memory: Pairs that are kept, 1 or more.
        search: hager-zhang, strong-wolfe, armijo, or a `Search`.
        checks_noise: Evaluate the first point twice and refuse an objective that differs.

    Raises:
        ConfigError: An argument is unknown, or a parameter cannot be optimized.
    """

    def __init__(
        self,
        params: Any,
        *,
        memory: int = 20,
        search: str | Search = "strong-wolfe",
        checks_noise: bool = True,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise)
        if memory < 1:
            raise ConfigError(f"memory must be 1 or more, not {memory}")
        self._method, self._num_pairs = search_named(search), memory

    def _advance(self, objective: Objective) -> StepReport:
        reason = self._aim()
        found = self._go(objective, 1.0)
        if found.point is None and not reason:
            reason = f"the search failed: {found.failure}"
            self._forget()
            self._aim()
            found = self._go(objective, RETRY_LOOSENESS)
        if found.point is None:
            return StepReport(restart_reason=reason, failure=found.failure)
        change = self._buffer("next").neg_().add_(self._gradient)
        pair = Pair(self._state["direction"], change, self._vector.dot)
        self._pairs().add(pair, found.point.step)
        return StepReport(step=found.point.step, restart_reason=reason)

    def _forget(self) -> None:
        self._pairs().clear()

    def _pairs(self) -> LimitedMemory:
        return LimitedMemory(self._num_pairs, self._vector.dots, self._state)

    def _aim(self) -> str:
        """Set the direction; return why it is the steepest descent's, if it is."""
        state, pairs = self._state, self._pairs()
        if "direction" not in state:
            state["direction"] = self._vector.new()
        if len(pairs):
            pairs.inverse_product(self._gradient, None, state["direction"]).neg_()
            if self._vector.dot(self._gradient, state["direction"]) < 0:
                return ""
            pairs.clear()
        torch.neg(self._gradient, out=state["direction"])
        state["num_stiff"] = 0
        return "nothing is known of the curvature"

    def _go(self, objective: Objective, looseness: float) -> Found:
        step = self._first_step()
        return self._descend(
            objective, self._method, step, looseness=looseness, curvature=_CURVATURE
        )

    def _first_step(self) -> float:
        if len(self._pairs()):
            return quasi_newton_step(self._state)
        vector = self._vector
        place = vector.extent(self._buffer("next"))
        slope = vector.dot(self._gradient, self._state["direction"])
        return from_scratch(place, vector.largest(self._gradient), self._value, slope)
