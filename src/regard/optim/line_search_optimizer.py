"""What the methods for deterministic objectives share: evaluate, search, restore, report.

Such a method compares values at different points, so a value must depend on the point alone: the
whole data set (`FullBatch`), no dropout or a frozen one, no mini-batches. The first step evaluates
the first point twice and refuses an objective whose two values differ.

In addition to the parameters and their gradients, a method with a line search holds four vectors of
their size: the start of the search, the direction, and the gradients at both ends.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.copying import copied_attributes
from regard.optim.flat_parameters import FlatParameters
from regard.optim.group_settings import GroupWithoutRate, refuse_unknown_settings
from regard.optim.limited_memory import MATRICES
from regard.optim.line_search.initial_step import record_step
from regard.optim.line_search.trial import LineSample, LineSearch, LineSearchResult, LineSearchState
from regard.optim.objective_along_direction import ObjectiveAlongDirection
from regard.optim.objectives.closure import ClosureObjective, require_closure
from regard.optim.objectives.objective import (
    Closure,
    DeterministicObjective,
    JudgingObjective,
    Reduce,
    StepAwareObjective,
    UnreadObjective,
    require_gradients,
)
from regard.optim.step_products import StepProducts
from regard.option_checks import require_callable

RETRY_SCALE = 1e4  # a search that failed is repeated downhill with this much tolerance
_ROUNDING = 1e-12  # relative error of a value in float64, ten times the unit roundoff in others
_STAGNATING = 1e-6  # relative change of the value in a step below which slopes are more exact
NOT_DESCENDING = "the direction did not descend"
_ZERO = "the gradient is zero"
_SCALE_IT = "multiply the function by a number that makes it about 1"
_NOT_FINITE = "the gradient is not finite"
_JUDGED = "judged norm"
_NO_MOVE = "the step was too short to move the parameters"
_RENAMED = {"is_flat": "is_stagnating", "num_stiff": "num_stiff_steps"}  # in earlier state_dicts


@dataclass(frozen=True, slots=True)
class StepReport:
    """What happened in a step.

    Args:
        value: Value of the objective after the step.
        gradient_norm: Largest absolute entry of the gradient after the step.
        step_size: Along the direction; 0 where the parameters did not move.
        evaluations: Evaluations of the objective, with and without gradient.
        beta: Factor of the old direction in the new one; 0 after a restart.
        restart_reason: Why the direction was steepest descent; empty where it was not.
        cg_iterations: Products with the curvature that the step took.
        damping: Levenberg-Marquardt damping, or the trust region's radius; 0 for none.
        reduction_ratio: Decrease of the objective over the decrease predicted by the model.
        negative_curvature: Whether a direction of negative curvature was met.
        failure: Why the parameters did not move; empty where they did.
    """

    value: float = math.nan
    gradient_norm: float = math.nan
    step_size: float = 0.0
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

    @property
    def evaluations(self) -> int:
        """Points at which a value was computed, with or without gradient."""
        return self.values + self.gradients


class LineSearchOptimizer(torch.optim.Optimizer):
    """Base of the methods: a step is one direction and the search along it.

    Args:
        params: Parameters or groups; a group may set ``scale``, above 0: its parameters move as if
            they were measured in units of that size.
        defaults: Defaults of a group.
        checks_noise: Evaluate the first point twice, and the start of a search that failed.
        reduce: Sums over the processes that compute the gradients of a closure together; None finds
            them where they use DistributedDataParallel or sharded parameters.

    Where parameters are written to, frozen or unfrozen between two steps, the method restarts; but
    writing to ``parameter.data`` in place is not noticed: PyTorch keeps no record of it.

    Raises:
        ConfigError: A parameter cannot be optimized, or a group has a setting of another optimizer.
    """

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        checks_noise: bool = True,
        reduce: Reduce | None = None,
    ) -> None:
        super().__init__(params, {"scale": 1.0, **defaults})
        if reduce is not None:
            require_callable("reduce", reduce, "None or a function that sums a tensor in place")
        self._reduce = reduce
        self.last = StepReport()
        self.counts = Counts()
        self._checks_noise = checks_noise
        self._flat = FlatParameters(self.param_groups, frozen=self._find_frozen())
        self._seen_versions: list[tuple[int, int, bool]] | None = None
        self._buffers: dict[str, Tensor] = {}
        self._first_loss: object = None  # the closure or objective of the first step
        self._has_compared_losses = False
        self._figures: dict[str, float] = {}  # of the last step, by `_measure`
        self._products: StepProducts | None = None  # of it, within the step only
        self._has_start = False  # whether the buffer "start" holds where the present step began

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; what was learnt about the old ones is dropped.

        Raises:
            ConfigError: A parameter cannot be optimized, or a setting of the group is unknown.
        """
        refuse_unknown_settings(self, param_group, self.defaults)
        super().add_param_group(param_group)
        self.param_groups[-1] = GroupWithoutRate(self.param_groups[-1], type(self).__name__)
        if not hasattr(self, "_flat"):
            return
        try:
            self._flat = FlatParameters(self.param_groups, frozen=self._find_frozen())
        except ConfigError:
            self.param_groups.pop()
            raise
        self.state.clear()
        self._buffers = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state; small matrices of float64 as lists, which PyTorch does not convert."""
        saved = super().state_dict()
        saved["state"] = {
            index: {
                name: entry.tolist() if name in MATRICES and isinstance(entry, Tensor) else entry
                for name, entry in entries.items()
            }
            for index, entries in saved["state"].items()
        }
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a saved run; the parameters must be the saved ones.

        Raises:
            ConfigError: The saved state is of other parameters, or of others that were frozen.
        """
        saved = next(iter(state_dict["state"].values()), {}).get("gradient")
        if saved is not None and len(saved) != self._flat.size:
            raise ConfigError(
                f"the saved state is of {len(saved):,} numbers, but the parameters that move have "
                f"{self._flat.size:,}.  Give the same parameters, with the same ones frozen."
            )
        super().load_state_dict(state_dict)
        self.param_groups = [
            GroupWithoutRate({**self.defaults, **group}, type(self).__name__)
            for group in self.param_groups
        ]
        # Where memory begins decides how an inner product is rounded: all vectors are new.
        restored = {_RENAMED.get(name, name): _copied(entry) for name, entry in self._state.items()}
        self._state.clear()
        self._state.update(restored)
        self._flat = FlatParameters(self.param_groups, frozen=self._flat.frozen)
        self._seen_versions = None
        self._figures = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles have: not the vectors of a step, nor a closure."""
        of_this_process = {
            **dict.fromkeys(("_seen_versions", "_first_loss", "_products")),
            "_buffers": {},
        }
        return copied_attributes(self) | of_this_process

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` returned, with the parameters of the copy."""
        super().__setstate__(state)
        self._flat = FlatParameters(self.param_groups, frozen=self._flat.frozen)

    def _find_frozen(self) -> list[Tensor]:
        """Return the parameters that need no gradient, and warn of them.

        Raises:
            ConfigError: All parameters need none, or there is none.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        if not parameters:
            raise ConfigError(
                f"the groups have no parameters; {type(self).__name__} needs one or more, such as "
                "model.parameters()."
            )
        frozen = [
            index
            for index, p in enumerate(parameters)
            if p.is_floating_point() and not p.requires_grad  # others are refused
        ]
        if len(frozen) == len(parameters):
            raise ConfigError(
                f"all {len(parameters)} parameters have requires_grad=False, so nothing would "
                "move.  Call requires_grad_() on those to be optimized."
            )
        if frozen:
            first = parameters[frozen[0]]
            warnings.warn(
                f"{len(frozen)} of {len(parameters)} parameters have requires_grad=False, first "
                f"number {frozen[0]} of shape {list(first.shape)}: {type(self).__name__} leaves "
                "them as they are.",
                stacklevel=4,
            )
        return [parameters[index] for index in frozen]

    # Not compiled: a search decides by values that no graph has.
    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage] - the other one loads it
    @torch.no_grad()
    def step(  # type: ignore[override] - an objective is required
        self, closure: Closure | DeterministicObjective | None = None
    ) -> float:
        """Take one step.

        Args:
            closure: Clears the gradients, computes the loss, calls ``backward`` and returns the
                loss; or a `DeterministicObjective`, which computes a value without its gradient.

        Returns:
            The value after the step. Where no step could be taken it is the old value, the
            parameters are bit-identical to those before, and ``last.failure`` says why.

        After an exception that ends the step, the objective's or an interrupt from the keyboard,
        the parameters are bit-identical to those before, too, and the next step restarts there.

        Raises:
            ConfigError: The objective is noisy or does not compute gradients.
        """
        for group in self.param_groups:
            refuse_unknown_settings(self, group, self.defaults)
        if any(parameter.requires_grad for parameter in self._flat.frozen):
            self._flat = FlatParameters(self.param_groups, frozen=self._find_frozen())
            self.state.clear()
            self._buffers = {}
        if self._flat.scales != [group.get("scale", 1.0) for group in self.param_groups]:
            self._flat = FlatParameters(self.param_groups, frozen=self._flat.frozen)
            self._seen_versions = []  # the same as if the parameters had moved
        objective = self._as_objective(closure)
        before = replace(self.counts)
        # Autocast around the step would round values more than a search tells them apart, and in
        # inference mode there are no gradients.
        autocast = torch.autocast(self._flat.parameters[0].device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), autocast:
            self._evaluate_start(objective)
            failure = self._reason_not_to_step(self._state["norm"])
            if not failure:
                with self._restoring_on_interrupt():
                    report = self._step(objective)
            else:
                report = StepReport(failure=failure)
        self._seen_versions = self._flat.versions()
        self.last = replace(
            report,
            value=self._value,
            evaluations=self.counts.evaluations - before.evaluations,
            cg_iterations=self.counts.products - before.products,
            gradient_norm=self._state["norm"],
        )
        return self._value

    def _reason_not_to_step(self, norm: float) -> str:
        """Return why a gradient with this largest entry gives no direction; empty if it does."""
        if not 0 < norm < math.inf:
            return _NOT_FINITE if norm else _ZERO
        numbers = torch.finfo(self._flat.dtype)
        if not numbers.tiny < norm * norm < numbers.max:
            size = "large" if norm > 1 else "small"
            return f"the gradient, {norm:.2g} at most, is too {size} to be squared: {_SCALE_IT}"
        return ""

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Raise `ConfigError`: torch's GradScaler asks for this before it takes a step."""
        raise ConfigError(
            f"{type(self).__name__} takes no GradScaler: it compares values with slopes, which a "
            "scale would set apart.  Call step(closure) without it, in float32."
        )

    def _step(self, objective: DeterministicObjective) -> StepReport:
        """Take a step from the present point, whose value and gradient are known."""
        raise NotImplementedError

    def _on_moved_parameters(self) -> None:
        """Drop what was learnt at earlier points: something else has moved the parameters."""
        raise NotImplementedError

    def _on_interrupt(self) -> None:
        """Drop what an interrupted step may have left unfinished."""
        self._on_moved_parameters()

    @contextmanager
    def _restoring_on_interrupt(self) -> Iterator[None]:
        """Move the parameters back to where the step began if an exception ends it."""
        self._has_start, is_done = False, False
        try:
            yield
            is_done = True
        finally:
            self._products = None
            if not is_done:
                if self._has_start:
                    self._flat.move(self._buffer("start"))
                for name in ("value", "gradient", "norm"):  # of which point is unknown
                    self._state.pop(name, None)
                self._on_interrupt()

    @property
    def _state(self) -> dict[str, Any]:
        """State of the method, kept under the first parameter as torch.optim.LBFGS does."""
        return self.state[next(p for group in self.param_groups for p in group["params"])]

    @property
    def _value(self) -> float:
        return self._state["value"]

    @property
    def _change(self) -> Tensor:
        """Change of the gradient in the step, ``[n]``, valid after a search and within the step."""
        assert self._products is not None
        return self._products.change

    @property
    def _gradient(self) -> Tensor:
        return self._state["gradient"]

    def _buffer(self, name: str) -> Tensor:
        """Return a vector, ``[n]``, whose content is valid within a step only."""
        if name not in self._buffers:
            self._buffers[name] = self._flat.zeros()
        return self._buffers[name]

    def _as_objective(
        self, closure: Closure | DeterministicObjective | None
    ) -> DeterministicObjective:
        if not isinstance(closure, DeterministicObjective):
            closure = require_closure(f"{type(self).__name__}.step", closure, "it")
            return ClosureObjective(closure, self._flat.parameters, self._reduce)
        if isinstance(closure, StepAwareObjective):
            closure.bind(self._flat.parameters)
        return closure

    def _evaluate_start(self, objective: DeterministicObjective) -> None:
        """Make sure that value and gradient at the present point are known."""
        has_changed = isinstance(objective, StepAwareObjective) and objective.begin_step()
        is_first = "gradient" not in self._state
        has_moved = self._seen_versions not in (None, self._flat.versions())
        if not (is_first or has_moved or has_changed):
            if self._checks_noise:
                self._compare_losses(objective)
            return
        if has_moved and not is_first:
            self._on_moved_parameters()
        gradient = self._flat.zeros() if is_first else self._gradient
        value, figures = self._evaluate(
            objective, gradient, lambda: {"norm": self._flat.largest(gradient)}
        )
        self._figures = {}
        if is_first:
            require_gradients(self._flat.parameters, "the objective")
        if not math.isfinite(value):
            raise NonFiniteStartError(
                f"the loss is {value} at the starting point.  Start from finite weights, and "
                "check the data for non-finite numbers."
            )
        if is_first and self._checks_noise:
            self._refuse_noise(objective, value)
        # Stored last: after an error the next call is the first one again.
        self._state.update(value=value, gradient=gradient, norm=figures["norm"])
        if self._checks_noise and self._first_loss is None:
            self._compare_losses(objective)

    def _compare_losses(self, objective: DeterministicObjective) -> None:
        """Refuse the first new closure or objective of a loop if its loss is that of a batch."""
        if self._has_compared_losses:
            return
        loss = objective.closure if isinstance(objective, ClosureObjective) else objective
        if self._first_loss is None:
            self._first_loss = loss
        elif self._first_loss != loss:
            self._has_compared_losses, self._first_loss = True, None
            self._refuse_noise(objective, self._value)

    def _refuse_noise(self, objective: DeterministicObjective, first: float) -> None:
        self.counts.values += 1
        self._compare(first, objective.value())

    def _compare(self, first: float, second: float) -> None:
        """Refuse an objective with two values at one point."""
        rounding = 100 * torch.finfo(self._flat.dtype).eps
        if not abs(first - second) <= rounding * max(abs(first), abs(second)):
            raise ConfigError(
                f"the loss was {first:.8g} and then {second:.8g} at the same point; "
                f"{type(self).__name__} needs a loss that depends on the parameters alone.  "
                "Mini-batches? Pass FullBatch(loader, loss).  Dropout? Call model.eval().  For "
                "noisy gradients use Adam."
            )

    def _evaluate(
        self,
        objective: DeterministicObjective,
        gradient: Tensor,
        measure: Callable[[], dict[str, Tensor]] = dict,
    ) -> tuple[float, dict[str, float]]:
        """Compute value and gradient at the present point.

        Args:
            objective: The objective.
            gradient: Receives the gradient, ``[n]``.
            measure: Computes more scalars afterwards, which come from a device with the value.

        Returns:
            The value, and the scalars.
        """
        self.counts.gradients += 1
        unread = self._unread(objective)
        unread_value = objective.gradient() if unread is None else unread.unread_gradient()
        self._flat.copy_gradient(gradient)
        scalars = measure()
        if not isinstance(unread, JudgingObjective):
            return self._read(unread_value, scalars)
        value, figures = self._read(unread_value, {**scalars, _JUDGED: unread.unread_norm()})
        unread.judge(value, figures.pop(_JUDGED))
        return value, figures

    def _evaluate_value(
        self, objective: DeterministicObjective, scalars: dict[str, Tensor]
    ) -> tuple[float, dict[str, float]]:
        """Compute the value at the present point; return it and scalars, read with it."""
        self.counts.values += 1
        unread = self._unread(objective)
        value = objective.value() if unread is None else unread.unread_value()
        return self._read(value, scalars)

    def _unread(self, objective: DeterministicObjective) -> UnreadObjective | None:
        """Return an objective on a device whose values can be read later; None for others."""
        if self._flat.waits and isinstance(objective, UnreadObjective):
            return objective
        return None

    def _read(
        self, value: Tensor | float, scalars: dict[str, Tensor]
    ) -> tuple[float, dict[str, float]]:
        """Return a value and scalars as numbers, from a device in one transfer."""
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            return float(value), self._flat.read(scalars)
        figures = self._flat.read({"value": value, **scalars})
        return figures.pop("value"), figures

    def _measure(self, products: StepProducts) -> dict[str, Tensor]:
        """Compute the scalars of a step by which a method decides on the next one.

        On a device every sample is measured, as if it were the last, so that all its numbers come
        in one transfer; on a CPU only that which is accepted.

        Returns:
            Scalars by name, the largest entry of the gradient among them.
        """
        return {"norm": products["norm"]}

    def _search_along(
        self, function: ObjectiveAlongDirection, search: LineSearch, state: LineSearchState
    ) -> LineSearchResult:
        """Return the result of a search along a direction; move there, or to the start.

        Afterwards ``gradient``, ``norm`` and ``value`` of the state belong to the present point,
        and ``_products`` are those of the step.
        """
        objective = function.objective
        result = search(function, state)
        end = result.sample
        if end is not None and end.value == self._value and self._flat.is_at(function.start):
            result, end = LineSearchResult(None, result.failure or _NO_MOVE), None
        if end is None:
            if self._checks_noise:
                function.refuse_constant(self._value)
            self._flat.move(function.start)
            if self._checks_noise:
                self._refuse_noise(objective, self._value)
            return result
        if function.step_size != end.step_size:
            second = function.sample(end.step_size).value
            if self._checks_noise:
                self._compare(end.value, second)
        self._state["value"] = end.value
        old, new = self._gradient, self._buffer("next")
        self._state["gradient"], self._buffers["next"] = new, old
        self._products, self._figures = function.products, function.figures
        if self._products is None:  # on a CPU
            self._products = StepProducts(self._flat, old, new, function.direction, out=old)
            self._figures = self._flat.read(self._measure(self._products))
        self._state["norm"] = self._figures["norm"]
        return result

    def _line_search(
        self,
        function: ObjectiveAlongDirection,
        search: LineSearch,
        step_size: float,
        *,
        tolerance_scale: float = 1.0,
        curvature: float | None = None,
    ) -> LineSearchResult:
        """Return the result of a search along ``direction`` of the state, and record it there.

        Args:
            function: The objective along ``direction``.
            search: The method.
            step_size: First trial.
            tolerance_scale: Factor on the tolerance; above 1 slopes alone decide.
            curvature: Fraction of the slope that may remain, in place of the search's own.
        """
        state, before = self._state, self._value
        slope = function.slope_with_sample(step_size)
        if not slope < 0:
            self._flat.move(function.start)
            return LineSearchResult(None, NOT_DESCENDING)
        origin = LineSample(0.0, before, slope)
        eps = torch.finfo(self._flat.dtype).eps
        start = LineSearchState(
            origin,
            step_size,
            tolerance=tolerance_scale * max(_ROUNDING, 10 * eps) * abs(before),
            is_stagnating=state.get("is_stagnating", False) or tolerance_scale > 1,
            curvature=curvature,
        )
        result = self._search_along(function, search, start)
        if result.sample is not None:
            record_step(state, origin, result.sample)
            change = abs(result.sample.value - before)
            state["is_stagnating"] = change <= max(_STAGNATING, 1e3 * eps) * abs(before)
        return result


class NonFiniteStartError(ConfigError):
    """The objective is not finite where the optimizer starts."""


def _copied(entry: Any) -> Any:
    """Return copies of a tensor, or of the tensors in a list; anything else as it is."""
    if isinstance(entry, Tensor):
        return entry.clone()
    return [_copied(part) for part in entry] if isinstance(entry, list) else entry
