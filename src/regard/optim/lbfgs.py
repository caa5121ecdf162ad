"""L-BFGS (Nocedal 1980; Liu & Nocedal 1989), with a search that restores where it fails.

Cost of a step: about 1.1 evaluations and 5 m n multiplications; 2 m vectors of n entries for m
pairs, in addition to the four of every line search.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.optim.limited_memory import CurvaturePair, LimitedMemory
from regard.optim.line_search import build_line_search
from regard.optim.line_search.initial_step import initial_step_size, quasi_newton_step_size
from regard.optim.line_search.trial import LineSearch, LineSearchResult
from regard.optim.line_search_optimizer import (
    NOT_DESCENDING,
    RETRY_SCALE,
    LineSearchOptimizer,
    StepReport,
)
from regard.optim.objective_along_direction import ObjectiveAlongDirection
from regard.optim.objectives.objective import DeterministicObjective, Reduce
from regard.optim.step_products import StepProducts
from regard.option_checks import require_whole

_UNKNOWN = "nothing is known of the curvature"
_CURVATURE = 0.9  # a quasi-Newton direction's first step is good: a loose search is enough


class LBFGS(LineSearchOptimizer):
    """Limited-memory BFGS.

    Args:
        params: Parameters or groups.
        history_size: Pairs of a step and a change of the gradient that are kept, 1 or more.
        search: hager-zhang, strong-wolfe, armijo, or a `LineSearch`.
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
        history_size: int = 20,
        search: str | LineSearch = "strong-wolfe",
        checks_noise: bool = True,
        reduce: Reduce | None = None,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise, reduce=reduce)
        require_whole("history_size", history_size, 1)
        self._search, self._history_size = build_line_search(search), history_size

    def _step(self, objective: DeterministicObjective) -> StepReport:
        reason, result = self._search_from_here(objective)
        if result.sample is None and not reason:
            descends = result.failure != NOT_DESCENDING
            reason = f"the search failed: {result.failure}" if descends else _UNKNOWN
            self._pairs().clear()
            _, result = self._search_from_here(objective, RETRY_SCALE if descends else 1.0)
        if result.sample is None:
            return StepReport(restart_reason=reason, failure=result.failure)
        figures = self._figures
        pair = CurvaturePair(
            self._state["direction"],
            self._change,
            d_d=figures["d_d"],
            d_y=figures["d_y"],
            y_y=figures["y_y"],
        )
        self._pairs().add(pair, result.sample.step_size)
        return StepReport(step_size=result.sample.step_size, restart_reason=reason)

    def _on_moved_parameters(self) -> None:
        self._pairs().clear()

    def _pairs(self) -> LimitedMemory:
        return LimitedMemory(self._history_size, self._flat.dots, self._state)

    def _measure(self, products: StepProducts) -> dict[str, Tensor]:
        return {name: products[name] for name in ("norm", "d_d", "d_y", "y_y")}

    def _compute_direction(self) -> tuple[str, float | None]:
        """Set the direction; return why it is steepest descent, if it is, and the slope."""
        state, flat, pairs = self._state, self._flat, self._pairs()
        if "direction" not in state:
            state["direction"] = flat.zeros()
        if len(pairs):
            pairs.quasi_newton_direction(self._gradient, None, state["direction"])
            if flat.waits:
                return "", None  # the first sample has the slope
            slope = flat.dot(self._gradient, state["direction"])
            if slope < 0:
                return "", slope
            pairs.clear()
        torch.neg(self._gradient, out=state["direction"])
        state["num_stiff_steps"] = 0
        return _UNKNOWN, flat.dot(self._gradient, state["direction"])

    def _search_from_here(
        self, objective: DeterministicObjective, tolerance_scale: float = 1.0
    ) -> tuple[str, LineSearchResult]:
        """Search; return why it is along steepest descent, if it is, and the result."""
        flat, state = self._flat, self._state
        reason, slope = self._compute_direction()
        function = ObjectiveAlongDirection(self, objective, state["direction"], slope)
        if reason:
            position = flat.max_abs_parameter(self._buffer("next"))
            largest = flat.max_abs(self._gradient)
            step_size = initial_step_size(position, largest, self._value, function.slope)
        else:
            step_size = quasi_newton_step_size(state)
        result = self._line_search(
            function,
            self._search,
            step_size,
            tolerance_scale=tolerance_scale,
            curvature=_CURVATURE,
        )
        return reason, result
