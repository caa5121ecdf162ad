"""What the methods for deterministic objectives share: evaluating, searching, restoring, telling.

Such a method compares values at different points, so a value must depend on the point alone: the
whole data set (`FullBatch`), no dropout or a frozen one, no mini-batches. The first step evaluates
the first point twice and refuses an objective whose two values differ.

Beside parameters and their gradients a method with a line search holds four vectors of their size:
the start of the search, the direction, and the gradients at both ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.flat_parameters import ParameterVector
from regard.optim.line_search.base import Found, LinePoint, Search, Start
from regard.optim.line_search.initial_step import note_step
from regard.optim.objectives.objective import (
    Closure,
    ClosureObjective,
    Objective,
    Prepared,
    require_gradients,
)

_ROUNDING = 1e-12  # relative error of a value in float64, ten times the unit roundoff in others
_FLAT = 1e-6  # relative change of the value in a step from which slopes are the better guide
ZERO = "the gradient is zero"
NOT_FINITE = "the gradient is not finite"
_NO_MOVE = "the step was too short to move the parameters"
RETRY_LOOSENESS = 1e4  # a search that failed is repeated downhill with so many times the tolerance


@dataclass(frozen=True, slots=True)
class StepReport:
    """What happened in a step.

    Args:
        value: Of the objective after the step.
        gradient_norm: Largest absolute entry of the gradient after the step.
        step: Length along the direction; 0 where the parameters did not move.
        evaluations: Evaluations of the objective, gradient points and values alike.
        beta: Share of the old direction in the new one; 0 after a restart.
        restart_reason: Why the direction was the steepest descent's; empty where it was not.
        cg_iterations: Products with the curvature that the step took.
        damping: Levenberg-Marquardt damping, or the trust region's radius; 0 for none.
        reduction_ratio: Decrease of the objective over the decrease that the model promised.
        negative_curvature: Whether a direction of negative curvature was met.
        failure: Why the parameters did not move; empty where they did.
    """

    value: float = math.nan
    gradient_norm: float = math.nan
    step: float = 0.0
    evaluations: int = 0
    beta: float = 0.0
    restart_reason: str = ""
    cg_iterations: int = 0
    damping: float = 0.0
    reduction_ratio: float = math.nan
    negative_curvature: bool = False
    failure: str = ""


@dataclass
class Counts:
    """Evaluations since construction.

    Args:
        values: Points at which the value alone was computed.
        gradients: Points at which value and gradient were computed.
        products: Products of the curvature with a vector.
    """

    values: int = 0
    gradients: int = 0
    products: int = 0


class Deterministic(torch.optim.Optimizer):
    """Base of the methods; a step is one direction and the search along it.

    Args:
        params: Parameters or groups; a group may set ``scale``, above 0: its parameters move as if
            they were measured in units of that size.
        defaults: Of a group.
        checks_noise: Evaluate the first point twice.

    Raises:
        ConfigError: A parameter cannot be optimized.
    """

    def __init__(self, params: Any, defaults: dict[str, Any], *, checks_noise: bool = True) -> None:
        super().__init__(params, {"scale": 1.0, **defaults})
        self.last = StepReport()
        self.counts = Counts()
        self._checks_noise = checks_noise
        self._vector = ParameterVector(self.param_groups)
        self._seen: list[tuple[int, int]] | None = None
        self._buffers: dict[str, Tensor] = {}
        self._has_left = False  # whether the buffer "start" holds where the present step began

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; what was known of the old ones is forgotten."""
        super().add_param_group(param_group)
        if not hasattr(self, "_vector"):
            return
        try:
            self._vector = ParameterVector(self.param_groups)
        except ConfigError:
            self.param_groups.pop()
            raise
        self.state.clear()
        self._buffers = {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a saved run at the saved parameters."""
        super().load_state_dict(state_dict)
        for name, kept in self._state.items():
            # Where memory begins decides how an inner product is rounded: all vectors are new.
            if isinstance(kept, Tensor):
                self._state[name] = kept.clone()
            elif isinstance(kept, list):
                self._state[name] = [k.clone() if isinstance(k, Tensor) else k for k in kept]
        self._vector = ParameterVector(self.param_groups)
        self._seen = None

    @torch.no_grad()
    def step(  # type: ignore[override] - an objective is required
        self, closure: Closure | Objective
    ) -> float:
        """Take one step.

        Args:
            closure: Clears the gradients, computes the loss, calls ``backward`` and returns the
                loss; or an `Objective`, which can tell a value without its gradient.

        Returns:
            The value after the step. Where no step could be taken it is the old value, the
            parameters are as before to the bit, and ``last.failure`` says why.

        An exception that ends the step, the objective's or an interrupt from the keyboard, finds
        the parameters as before to the bit, too, and the next step begins anew from there.

        Raises:
            ConfigError: The objective is noisy or does not compute gradients.
        """
        objective = self._objective(closure)
        before = Counts(**vars(self.counts))
        self._evaluate_start(objective)
        if 0 < self._state["norm"] < math.inf:
            with self._returning():
                report = self._advance(objective)
                self._state["norm"] = self._vector.largest(self._gradient)
        else:
            report = StepReport(failure=NOT_FINITE if self._state["norm"] else ZERO)
        self._seen = self._vector.versions()
        made = self.counts.values + self.counts.gradients - before.values - before.gradients
        products = self.counts.products - before.products
        self.last = replace(
            report,
            value=self._value,
            evaluations=made,
            cg_iterations=products,
            gradient_norm=self._state["norm"],
        )
        return self._value

    def _advance(self, objective: Objective) -> StepReport:
        """Take a step from the present point, whose value and gradient are known."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drop what was learnt at earlier points: the parameters were moved by somebody else."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Drop what a step that was broken off may have left half done."""
        self._forget()

    @contextmanager
    def _returning(self) -> Iterator[None]:
        """Go back to where the step began, to the bit, if an exception ends it."""
        self._has_left, is_done = False, False
        try:
            yield
            is_done = True
        finally:
            if not is_done:
                if self._has_left:
                    self._vector.move(self._buffer("start"))
                for name in ("value", "gradient", "norm"):  # of which point is not sure
                    self._state.pop(name, None)
                self._abandon()

    @property
    def _state(self) -> dict[str, Any]:
        """State of the method, kept under the first parameter as torch.optim.LBFGS does."""
        return self.state[self.param_groups[0]["params"][0]]

    @property
    def _value(self) -> float:
        return self._state["value"]

    @property
    def _gradient(self) -> Tensor:
        return self._state["gradient"]

    def _buffer(self, name: str) -> Tensor:
        """Return a vector whose content lasts a step only."""
        if name not in self._buffers:
            self._buffers[name] = self._vector.new()
        return self._buffers[name]

    def _objective(self, closure: Closure | Objective) -> Objective:
        if closure is None:
            raise ConfigError(
                f"{type(self).__name__}.step needs a closure: it evaluates the loss at several "
                "points of one step.  def closure(): optimizer.zero_grad(); loss = ...; "
                "loss.backward(); return loss"
            )
        if isinstance(closure, Objective):
            if isinstance(closure, Prepared):
                closure.bind(self._vector.parameters)
            return closure
        return ClosureObjective(closure, self._vector.parameters)

    def _evaluate_start(self, objective: Objective) -> None:
        """Make sure that value and gradient at the present point are known."""
        changed = isinstance(objective, Prepared) and objective.begin_step()
        known = self._seen is None or self._seen == self._vector.versions()
        if "gradient" in self._state and known and not changed:
            return
        is_first = "gradient" not in self._state
        if not known and not is_first:
            self._forget()
        gradient = self._vector.new() if is_first else self._gradient
        value = self._evaluate(objective, gradient)
        if is_first:
            require_gradients(self._vector.parameters, "the objective")
        if not math.isfinite(value):
            raise NonFiniteStartError(
                f"the loss is {value} at the starting point.  Start from finite weights, and "
                "check the data for non-finite numbers."
            )
        if is_first and self._checks_noise:
            self._refuse_noise(objective, value)
        # Only now, so that a call after an error is a first one again.
        norm = self._vector.largest(gradient)
        self._state.update(value=value, gradient=gradient, norm=norm)

    def _refuse_noise(self, objective: Objective, first: float) -> None:
        self.counts.values += 1
        second = objective.value()
        rounding = 100 * torch.finfo(self._vector.dtype).eps
        if not abs(first - second) <= rounding * max(abs(first), abs(second)):
            raise ConfigError(
                f"the loss was {first:.8g} and then {second:.8g} at the same point; "
                f"{type(self).__name__} needs a loss that depends on the parameters alone.  "
                "Mini-batches? Pass FullBatch(loader, loss).  Dropout? Call model.eval().  For "
                "noisy gradients use Adam."
            )

    def _evaluate(self, objective: Objective, gradient: Tensor) -> float:
        """Compute the value, and the gradient into a vector, at the present point."""
        self.counts.gradients += 1
        value = objective.gradient()
        self._vector.gradient(gradient)
        return value

    def _search(
        self, objective: Objective, direction: Tensor, search: Search, start: Start
    ) -> Found:
        """Search along a direction; move to what is found, or back to the start to the bit.

        Afterwards ``gradient`` and ``value`` of the state belong to the present point, and the
        buffer ``next`` holds the gradient at the start.
        """
        ray = Ray(self, objective, direction)
        found = search(ray, start)
        point = found.point
        if point is not None and point.value == self._value and self._vector.is_at(ray.start):
            found = Found(None, found.failure or _NO_MOVE)
        if found.point is None:
            self._vector.move(ray.start)
            return found
        if ray.at != found.point.step:
            ray.point(found.point.step)
        self._state["value"] = found.point.value
        old, new = self._gradient, self._buffer("next")
        self._state["gradient"], self._buffers["next"] = new, old
        return found

    def _descend(
        self,
        objective: Objective,
        search: Search,
        step: float,
        *,
        slope: float | None = None,
        looseness: float = 1.0,
        curvature: float | None = None,
    ) -> Found:
        """Search along ``direction`` of the state, and note what the next step wants to know.

        Args:
            objective: To be evaluated.
            search: How.
            step: First trial.
            slope: Along the direction, where it is known.
            looseness: Factor on the tolerance; above 1 slopes decide alone.
            curvature: In place of the search's own.
        """
        state, before = self._state, self._value
        direction: Tensor = state["direction"]
        if slope is None:
            slope = self._vector.dot(self._gradient, direction)
        origin = LinePoint(0.0, before, slope)
        eps = torch.finfo(self._vector.dtype).eps
        is_flat = state.get("is_flat", False) or looseness > 1
        tolerance = looseness * max(_ROUNDING, 10 * eps) * abs(before)
        start = Start(origin, step, tolerance, is_flat, curvature)
        found = self._search(objective, direction, search, start)
        if found.point is not None:
            note_step(state, origin, found.point)
            change = abs(found.point.value - before)
            state["is_flat"] = change <= max(_FLAT, 1e3 * eps) * abs(before)
        return found


class NonFiniteStartError(ConfigError):
    """The objective is not finite where the optimizer stands."""


class Ray:
    """The objective along a direction from the present point.

    Args:
        optimizer: Whose parameters move; the gradient of the last point is in its buffer ``next``.
        objective: To be evaluated.
        direction: ``[n]``.
    """

    def __init__(self, optimizer: Deterministic, objective: Objective, direction: Tensor) -> None:
        self._optimizer, self._objective, self._direction = optimizer, objective, direction
        self.start = optimizer._vector.position(optimizer._buffer("start"))
        optimizer._has_left = True
        self.at = math.nan

    def point(self, step: float) -> LinePoint:
        """Compute value and slope."""
        optimizer, vector = self._optimizer, self._optimizer._vector
        vector.move(self.start, self._direction, step)
        gradient = optimizer._buffer("next")
        value = optimizer._evaluate(self._objective, gradient)
        self.at = step
        return LinePoint(step, value, vector.dot(gradient, self._direction))

    def value(self, step: float) -> float:
        """Compute the value alone."""
        self._optimizer._vector.move(self.start, self._direction, step)
        self._optimizer.counts.values += 1
        self.at = math.nan
        return self._objective.value()
