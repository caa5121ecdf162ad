"""Nonlinear conjugate gradient (Hestenes & Stiefel 1952; Fletcher & Reeves 1964).

    d_0 = -P g_0,    d_{k+1} = -P g_{k+1} + beta_k d_k,    x_{k+1} = x_k + alpha_k d_k

with a preconditioner P (the identity by default) and beta one of the formulas in `cg_updates`.
Hager and Zhang's is kept above ``0.4 d.g / d.P^-1 d`` (2013, equation 2.4; with P section 5): so
the method with P = S S^T in x is, step by step, the plain one in y, x = S y. The inverse of P need
not be known: ``d.P^-1 d`` is carried along by

    d'.P^-1 d' = g'.P g' - 2 beta d.g' + beta^2 d.P^-1 d        for  d' = beta d - P g'

Where P has changed, or the direction was the limited-memory one below, which breaks this chain, it
is kept above ``(d.g)^2 / (g.P g)``, its bound by the inequality of Cauchy and Schwarz. The search
starts at the minimiser of the parabola through value and slope here and the value at a guess, where
values are cheap (their QuadStep).

With ``memory``, a direction is conjugate where the gradient is still nearly orthogonal to the steps
before. Where it is not, or where P changes from step to step, conjugacy is lost, and the direction
is that of conjugate gradient with the limited-memory BFGS matrix of these steps as P: with the
newest step in it, P y is the step itself, Hager and Zhang's beta is zero, and the direction is that
of L-BFGS (Nocedal 1980).

Cost of a step: about 1.4 evaluations, 2 to 4 inner products of n entries (with m steps of memory a
pass over m vectors, and three more where conjugacy is lost); four vectors of n entries (and 2 m).
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, Literal

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.cg_updates import CG_UPDATES, USE_SQUARES, BetaName, InnerProducts
from regard.optim.limited_memory import CurvaturePair, LimitedMemory
from regard.optim.line_search import build_line_search
from regard.optim.line_search.initial_step import (
    initial_step_size,
    quadratic_interpolation,
    quasi_newton_step_size,
)
from regard.optim.line_search.trial import LineSearch, LineSearchResult
from regard.optim.line_search_optimizer import (
    NOT_DESCENDING,
    RETRY_SCALE,
    LineSearchOptimizer,
    StepReport,
)
from regard.optim.objective_along_direction import ObjectiveAlongDirection
from regard.optim.objectives.closure import ClosureObjective
from regard.optim.objectives.objective import DeterministicObjective, Reduce
from regard.optim.one_pass import in_one_pass
from regard.optim.preconditioners import Precondition, build_preconditioner
from regard.optim.step_products import StepProducts
from regard.option_checks import require_whole

_MAX_CHANGE = 10.0  # of the guessed step size from one iteration to the next
_QUADRATIC_STEPS = 6  # after this many, earlier directions are better dropped
_CONJUGATE = 0.5  # fraction of the gradient in the span of the last steps: above, conjugacy is lost
_EXACT = 0.1  # fraction of the slope that may remain where no cheap value helps to find the minimum
_CYCLE = 6  # directions between two restarts, times the number of parameters


class Restart(IntEnum):
    """Why the next direction is steepest descent; the numbers are in saved states."""

    NONE = 0
    FIRST_STEP = 1
    QUADRATIC = 2
    MANY_STEPS = 3
    NO_CURVATURE = 4
    SEARCH_FAILED = 5
    MOVED_PARAMETERS = 6
    INTERRUPT = 7


_REASONS = {
    Restart.FIRST_STEP: "first step",
    Restart.QUADRATIC: "the function has become nearly quadratic",
    Restart.MANY_STEPS: "many steps since the last restart",
    Restart.NO_CURVATURE: "no positive curvature along the step",
    Restart.SEARCH_FAILED: "the search had failed",
    Restart.MOVED_PARAMETERS: "the parameters were moved from outside",
    Restart.INTERRUPT: "the previous step was interrupted",
}


class ConjugateGradient(LineSearchOptimizer):
    """Nonlinear conjugate gradient.

    Args:
        params: Parameters or groups.
        beta: Which formula.
        search: hager-zhang, strong-wolfe, armijo, or a `LineSearch`.
        memory: Steps that are remembered, 0 for none; 11 is a good number.
        preconditioner: None; adam (the inverse of Adam's denominator, from the gradients so far);
            or a function that multiplies a vector ``[n]`` with a symmetric positive matrix.
        checks_noise: Evaluate the first point twice, and the start of a search that failed, and
            refuse an objective that differs.
        reduce: Sums over the processes that compute a closure's gradients together, in place; None
            finds them where they use DistributedDataParallel or sharded parameters.

    Raises:
        ConfigError: An argument is unknown, or a parameter cannot be optimized.

    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = ConjugateGradient([x])
    >>> def closure():
    ...     loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> while not optimizer.last.gradient_norm < 1e-6:
    ...     value = optimizer.step(closure)
    >>> [round(entry, 6) for entry in x.tolist()]
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Any,
        *,
        beta: BetaName = "hager-zhang",
        search: str | LineSearch = "hager-zhang",
        memory: int = 0,
        preconditioner: Literal["adam"] | Precondition | None = None,
        checks_noise: bool = True,
        reduce: Reduce | None = None,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise, reduce=reduce)
        if beta not in CG_UPDATES:
            raise ConfigError(f"unknown beta {beta!r}.  One of: {', '.join(CG_UPDATES)}")
        require_whole("memory", memory, 0)
        self._search = build_line_search(search)
        self._beta = CG_UPDATES[beta]
        self._num_pairs = memory
        self._preconditioner = build_preconditioner(preconditioner)

    def _step(self, objective: DeterministicObjective) -> StepReport:
        self._preconditioner.update(self._gradient, self._state, self._flat.largest)
        reason, beta, slope = self._compute_direction()
        result = self._search_from_here(objective, slope)
        if result.sample is None and not self._state["is_steepest"]:
            descends, beta = result.failure != NOT_DESCENDING, 0.0
            reason = f"the search failed: {result.failure}" if descends else NOT_DESCENDING
            slope = self._reset_to_steepest_descent()
            result = self._search_from_here(objective, slope, RETRY_SCALE if descends else 1.0)
        if result.sample is None:
            self._reset(Restart.SEARCH_FAILED)
            return StepReport(restart_reason=reason, failure=result.failure)
        self._update_state(result.sample.step_size, has_failed=bool(result.failure))
        return StepReport(step_size=result.sample.step_size, beta=beta, restart_reason=reason)

    def _on_moved_parameters(self) -> None:
        self._reset(Restart.MOVED_PARAMETERS)

    def _on_interrupt(self) -> None:
        self._reset(Restart.INTERRUPT)

    def _reset(self, reason: Restart) -> None:
        self._pairs().clear()
        self._state["restart"] = int(reason)

    def _pairs(self) -> LimitedMemory:
        return LimitedMemory(max(1, self._num_pairs), self._flat.dots, self._state)

    def _precondition(self, vector: Tensor) -> Tensor:
        apply = self._preconditioner.apply
        return vector if apply is None else apply(vector)

    def _compute_direction(self) -> tuple[str, float, float | None]:
        """Set the direction; return why it is steepest descent, if it is, beta and the slope."""
        reason = self._state.setdefault("restart", int(Restart.FIRST_STEP))
        if reason:
            return _REASONS[Restart(reason)], 0.0, self._reset_to_steepest_descent()
        beta = self._update_direction()
        slope = self._slope()
        if slope is not None and not slope < 0:
            return NOT_DESCENDING, 0.0, self._reset_to_steepest_descent()
        return "", beta, slope

    def _slope(self) -> float | None:
        """Compute the slope along the direction; on a device the first sample has it."""
        flat = self._flat
        return None if flat.waits else flat.dot(self._gradient, self._state["direction"])

    def _reset_to_steepest_descent(self) -> float | None:
        """Set the direction to -P g; return the slope."""
        state = self._state
        if "direction" not in state:
            state["direction"] = self._flat.zeros()
        torch.neg(self._precondition(self._gradient), out=state["direction"])
        state.update(num_since=0, num_stiff_steps=0, is_quasi_newton=False, is_steepest=True)
        return self._slope()

    def _update_direction(self) -> float:
        """Turn the old direction into the new one; return beta."""
        state, pairs = self._state, self._pairs()
        direction: Tensor = state["direction"]
        state["is_steepest"] = False
        state["is_quasi_newton"] = len(pairs) > 0 and (
            self._num_pairs >= self._flat.size
            or self._preconditioner.changes
            or pairs.fraction_in_span(self._gradient) > _CONJUGATE
        )
        if state["is_quasi_newton"]:
            pairs.quasi_newton_direction(self._gradient, self._preconditioner.apply, direction)
            return 0.0
        image = self._precondition(self._gradient)
        if in_one_pass(_turn, direction, image, state["beta"]) is None:
            _turn(direction, image, state["beta"])
        return state["beta"]

    def _search_from_here(
        self,
        objective: DeterministicObjective,
        slope: float | None,
        tolerance_scale: float = 1.0,
    ) -> LineSearchResult:
        """Search along the direction."""
        has_cheap_values = not isinstance(objective, ClosureObjective)
        is_loose = has_cheap_values or self._state["is_quasi_newton"]
        function = ObjectiveAlongDirection(self, objective, self._state["direction"], slope)
        return self._line_search(
            function,
            self._search,
            self._initial_step_size(function, has_cheap_values=has_cheap_values),
            tolerance_scale=tolerance_scale,
            curvature=None if is_loose else _EXACT,
        )

    def _initial_step_size(
        self, function: ObjectiveAlongDirection, *, has_cheap_values: bool
    ) -> float:
        state, flat = self._state, self._flat
        if state["is_quasi_newton"]:
            return quasi_newton_step_size(state)
        if "step" not in state:
            position = flat.max_abs_parameter(self._buffer("next"))
            largest = flat.max_abs(state["direction"])
            return initial_step_size(position, largest, self._value, function.slope)
        slope = self._expected_slope()
        if slope is None:
            slope = function.slope
        change = min(_MAX_CHANGE, max(1 / _MAX_CHANGE, state["slope"] / slope))
        guess = state["step"] * change
        if not has_cheap_values:
            return guess
        value = function.value(guess)
        return quadratic_interpolation(guess, value - self._value, function.slope)

    def _expected_slope(self) -> float | None:
        """Return the slope of a device's direction from the last step's products, if they give it.

        It is exact but for rounding, and serves for a guess alone.
        """
        square = self._figures.get("new_square")
        if not self._flat.waits or square is None or self._preconditioner.changes:
            return None
        if self._state["is_steepest"]:
            return -square
        slope = self._state["beta"] * self._state["end_slope"] - square
        return slope if slope < 0 else None

    @property
    def _uses_squares(self) -> bool:
        """Whether squares of gradients are needed."""
        return self._preconditioner.apply is not None or self._beta in USE_SQUARES

    def _measure(self, products: StepProducts) -> dict[str, Tensor]:
        if self._preconditioner.apply is not None:
            return self._measure_preconditioned(products, self._preconditioner.apply)
        names = ["norm", "d_d", "d_y", "y_y", "y_new"]
        if self._uses_squares:  # first, as the change may take the place of the old gradient
            names = ["old_square", *names]
        if self._uses_squares or self._flat.waits:
            names.append("new_square")
        return {name: products[name] for name in names}

    def _measure_preconditioned(
        self, products: StepProducts, apply: Precondition
    ) -> dict[str, Tensor]:
        """Compute the scalars of a step, where y_new is y.P g' and the squares are g.P g."""
        product, old, new = self._flat.product, products.old, products.new
        scalars = {"old_square": product(old, apply(old))}  # first, as above
        image, change = apply(new), products.change
        names = ["norm", "d_d", "d_y", "y_y"] if self._num_pairs else ["norm", "d_y"]
        scalars |= {name: products[name] for name in names}
        scalars["y_new"], scalars["y_py"] = product(change, image), product(change, apply(change))
        scalars["new_square"] = product(new, image)
        return scalars

    def _update_state(self, step_size: float, *, has_failed: bool) -> None:
        """Prepare the next direction."""
        state, figures, apply = self._state, self._figures, self._preconditioner.apply
        d_y, old_square = figures["d_y"], figures.get("old_square", math.nan)
        if self._num_pairs:
            squares = {name: figures[name] for name in ("d_d", "d_y", "y_y")}
            self._pairs().add(CurvaturePair(state["direction"], self._change, **squares), step_size)
        state["restart"] = int(self._reason_to_restart(d_y, has_failed=has_failed))
        if not d_y > 0:
            return
        # d.P^-1 d of the present direction: carried along, or its bound where the chain is broken.
        if apply is None:
            d_d = figures["d_d"]
        elif state["is_steepest"]:
            d_d = old_square
        else:
            bound = state["slope"] * state["slope"] / old_square
            d_d = bound if state["is_quasi_newton"] else max(bound, state.get("square", bound))
        products = InnerProducts(
            y_pg=figures["y_new"],
            y_py=figures["y_y"] if apply is None else figures["y_py"],
            d_y=d_y,
            d_new=state["end_slope"],
            d_old=state["slope"],
            d_d=d_d,
            new_square=figures.get("new_square", math.nan),
            old_square=old_square,
        )
        state["beta"] = beta = self._beta(products)
        if self._uses_squares:
            state["square"] = (
                products.new_square - 2 * beta * products.d_new + beta * beta * products.d_d
            )

    def _reason_to_restart(self, curvature: float, *, has_failed: bool) -> Restart:
        state = self._state
        state["num_since"] += 1
        state["num_quadratic"] = (state.get("num_quadratic", 0) + 1) * state["is_quadratic"]
        if has_failed:
            return Restart.SEARCH_FAILED
        if not curvature > 0:
            return Restart.NO_CURVATURE
        if not self._num_pairs and state["num_quadratic"] == _QUADRATIC_STEPS:
            return Restart.QUADRATIC
        is_long = state["num_since"] >= max(100, _CYCLE * self._flat.size)
        return Restart.MANY_STEPS if is_long else Restart.NONE


def _turn(direction: Tensor, image: Tensor, beta: float) -> Tensor:
    """Turn a direction into ``beta d - P g``, in place, all ``[n]``."""
    return direction.mul_(beta).sub_(image)
