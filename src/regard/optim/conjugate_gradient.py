"""Nonlinear conjugate gradient (Hestenes & Stiefel 1952; Fletcher & Reeves 1964).

    d_0 = -P g_0,    d_{k+1} = -P g_{k+1} + beta_k d_k,    x_{k+1} = x_k + alpha_k d_k

with a preconditioner P (the identity by default), y = g_{k+1} - g_k, and beta one of

    hager-zhang        (y.P g' - (y.P y) (d.g') / (d.y)) / (d.y)      Hager & Zhang 2013, theta = 1
    polak-ribiere+     max(0, y.P g' / (g.P g))                       Gilbert & Nocedal 1992
    fletcher-reeves    g'.P g' / (g.P g)                              Fletcher & Reeves 1964
    hestenes-stiefel   y.P g' / (d.y)                                 Hestenes & Stiefel 1952
    dai-yuan           g'.P g' / (d.y)                                Dai & Yuan 1999

where g' = g_{k+1}. Hager and Zhang's beta is kept above ``0.4 d.g / d.P^-1 d`` (their equation 2.4,
with P their section 5): so the method with P = S S^T in x is, step by step, the plain one in y,
x = S y. The inverse of P need not be known: ``d.P^-1 d`` is carried along by

    d'.P^-1 d' = g'.P g' - 2 beta d.g' + beta^2 d.P^-1 d        for  d' = beta d - P g'

Where P has changed, or the direction was the limited-memory one below, which breaks this chain,
the inequality of Cauchy and Schwarz, ``d.P^-1 d >= (d.g)^2 / (g.P g)``, sets it right from below.
The search starts at the minimiser of the parabola through value and slope here and the value at a
guess, where values are cheap (their QuadStep).

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
from typing import Any, Literal

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.cg_updates import BETAS, USE_SIZES, BetaName, Products
from regard.optim.limited_memory import LimitedMemory, Pair
from regard.optim.line_search import search_named
from regard.optim.line_search.base import Found, Search
from regard.optim.line_search.initial_step import by_parabola, from_scratch, quasi_newton_step
from regard.optim.line_search_optimizer import RETRY_LOOSENESS, Deterministic, Ray, StepReport
from regard.optim.objectives.objective import ClosureObjective, Objective
from regard.optim.preconditioners import Precondition, preconditioner_named

_MOST_CHANGE = 10.0  # of the guessed step from one iteration to the next
_QUADRATIC_STEPS = 6  # after so many the directions from before are worth forgetting
_CONJUGATE = 0.5  # share of the gradient inside the last steps from which conjugacy is lost
_EXACT = 0.1  # share of the slope that may remain where no cheap value helps to find the minimum
_CYCLE = 6  # directions between two restarts, times the number of parameters

_GO_ON, _FIRST, _QUADRATIC, _LONG, _NO_CURVATURE, _FAILED, _MOVED, _BROKEN_OFF = range(8)
RESTARTS = (
    "",
    "first step",
    "the function has become nearly quadratic",
    "many steps since the last restart",
    "no positive curvature along the step",
    "the search had failed",
    "the parameters were moved from outside",
    "the step before was broken off",
)


class ConjugateGradient(Deterministic):
    """Nonlinear conjugate gradient.

    Args:
        params: Parameters or groups.
        beta: Which formula.
        search: hager-zhang, strong-wolfe, armijo, or a `Search`.
        memory: Steps that are remembered, 0 for none; 11 is a good number.
        preconditioner: None; adam (the inverse of Adam's denominator, from the gradients so far);
            or a function that multiplies a vector ``[n]`` with a symmetric positive matrix.
        checks_noise: Evaluate the first point twice and refuse an objective that differs.

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
        search: str | Search = "hager-zhang",
        memory: int = 0,
        preconditioner: Literal["adam"] | Precondition | None = None,
        checks_noise: bool = True,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise)
        if beta not in BETAS:
            raise ConfigError(f"unknown beta {beta!r}.  One of: {', '.join(BETAS)}")
        if memory < 0:
            raise ConfigError(f"memory must be 0 or more, not {memory}")
        self._method = search_named(search)
        self._beta = BETAS[beta]
        self._num_pairs = memory
        self._preconditioner = preconditioner_named(preconditioner)

    def _advance(self, objective: Objective) -> StepReport:
        self._preconditioner.see(self._gradient, self._state, self._vector.largest)
        reason, beta, slope = self._aim()
        found = self._go(objective, slope, 1.0)
        if found.point is None and not self._state["is_steepest"]:
            reason, beta = f"the search failed: {found.failure}", 0.0
            found = self._go(objective, self._point_downhill(), RETRY_LOOSENESS)
        if found.point is None:
            self._drop(_FAILED)
            return StepReport(restart_reason=reason, failure=found.failure)
        self._learn(found)
        return StepReport(step=found.point.step, beta=beta, restart_reason=reason)

    def _forget(self) -> None:
        self._drop(_MOVED)

    def _abandon(self) -> None:
        self._drop(_BROKEN_OFF)

    def _drop(self, reason: int) -> None:
        self._pairs().clear()
        self._state["restart"] = reason

    def _pairs(self) -> LimitedMemory:
        return LimitedMemory(max(1, self._num_pairs), self._vector.dots, self._state)

    def _precondition(self, vector: Tensor) -> Tensor:
        apply = self._preconditioner.apply
        return vector if apply is None else apply(vector)

    def _aim(self) -> tuple[str, float, float]:
        """Set the direction; return why it is the steepest descent's, if it is, beta and slope."""
        reason = self._state.setdefault("restart", _FIRST)
        if reason:
            return RESTARTS[reason], 0.0, self._point_downhill()
        beta = self._bend()
        slope = self._slope()
        if not slope < 0:
            return "the direction did not descend", 0.0, self._point_downhill()
        return "", beta, slope

    def _slope(self) -> float:
        """Compute the slope along the direction."""
        return self._vector.dot(self._gradient, self._state["direction"])

    def _point_downhill(self) -> float:
        """Turn to the steepest descent; return the slope."""
        state = self._state
        if "direction" not in state:
            state["direction"] = self._vector.new()
        torch.neg(self._precondition(self._gradient), out=state["direction"])
        state.update(num_since=0, num_stiff=0, is_quasi_newton=False, is_steepest=True)
        return self._slope()

    def _bend(self) -> float:
        """Turn the old direction into the new one; return beta."""
        state, pairs = self._state, self._pairs()
        direction: Tensor = state["direction"]
        state["is_steepest"] = False
        state["is_quasi_newton"] = len(pairs) > 0 and self._has_lost_conjugacy(pairs)
        if state["is_quasi_newton"]:
            pairs.inverse_product(self._gradient, self._preconditioner.apply, direction).neg_()
            return 0.0
        direction.mul_(state["beta"]).sub_(self._precondition(self._gradient))
        return state["beta"]

    def _has_lost_conjugacy(self, pairs: LimitedMemory) -> bool:
        if self._num_pairs >= self._vector.size or self._preconditioner.changes:
            return True
        return pairs.share_inside(self._gradient) > _CONJUGATE

    def _go(self, objective: Objective, slope: float, looseness: float) -> Found:
        """Search along the direction, whose slope is known."""
        is_cheap = not isinstance(objective, ClosureObjective)
        return self._descend(
            objective,
            self._method,
            self._first_step(objective, slope, is_cheap),
            slope=slope,
            looseness=looseness,
            curvature=None if is_cheap or self._state["is_quasi_newton"] else _EXACT,
        )

    def _first_step(self, objective: Objective, slope: float, is_cheap: bool) -> float:
        state, vector = self._state, self._vector
        if state["is_quasi_newton"]:
            return quasi_newton_step(state)
        if "step" not in state:
            place = vector.extent(self._buffer("next"))
            return from_scratch(place, vector.largest(state["direction"]), self._value, slope)
        change = min(_MOST_CHANGE, max(1 / _MOST_CHANGE, state["slope"] / slope))
        guess = state["step"] * change
        if not is_cheap:
            return guess
        ray = Ray(self, objective, state["direction"])
        value = ray.value(guess)
        vector.move(ray.start)
        return by_parabola(guess, value - self._value, slope)

    def _learn(self, found: Found) -> None:
        """Prepare the next direction: the buffer ``next`` holds the gradient before the step."""
        state, vector, point = self._state, self._vector, found.point
        assert point is not None
        old = self._buffer("next")
        old_size = vector.dot(old, self._precondition(old)) if self._uses_sizes else math.nan
        change = old.neg_().add_(self._gradient)
        pair = Pair(state["direction"], change, vector.dot)
        if self._num_pairs:
            self._pairs().add(pair, point.step)
        state["restart"] = self._reason_to_restart(found, pair.d_y)
        if pair.d_y > 0:
            products = self._products(pair, old_size)
            state["beta"] = beta = self._beta(products)
            if self._uses_sizes:
                state["square"] = (
                    products.new_size - 2 * beta * products.d_new + beta**2 * products.d_d
                )

    @property
    def _uses_sizes(self) -> bool:
        return self._preconditioner.apply is not None or self._beta in USE_SIZES

    def _products(self, pair: Pair, old_size: float) -> Products:
        state, dot, apply = self._state, self._vector.dot, self._preconditioner.apply
        image = self._precondition(self._gradient)
        return Products(
            y_pg=dot(pair.change, image),
            y_py=pair.y_y if apply is None else dot(pair.change, apply(pair.change)),
            d_y=pair.d_y,
            d_new=state["end_slope"],
            d_old=state["slope"],
            d_d=self._square(pair, old_size),
            new_size=dot(self._gradient, image) if self._uses_sizes else math.nan,
            old_size=old_size,
        )

    def _square(self, pair: Pair, old_size: float) -> float:
        """Compute d.P^-1 d of the present direction, which had the slope ``slope``."""
        state = self._state
        if self._preconditioner.apply is None:
            return pair.d_d
        if state["is_steepest"]:
            return old_size
        least = state["slope"] ** 2 / old_size
        return least if state["is_quasi_newton"] else max(least, state.get("square", least))

    def _reason_to_restart(self, found: Found, along: float) -> int:
        state = self._state
        state["num_since"] += 1
        state["num_quadratic"] = (state.get("num_quadratic", 0) + 1) * state["is_quadratic"]
        if found.failure:
            return _FAILED
        if not along > 0:
            return _NO_CURVATURE
        if not self._num_pairs and state["num_quadratic"] == _QUADRATIC_STEPS:
            return _QUADRATIC
        return _LONG if state["num_since"] >= max(100, _CYCLE * self._vector.size) else _GO_ON
