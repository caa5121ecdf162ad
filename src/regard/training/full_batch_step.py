"""Training on the whole data set at once: the steppers of deterministic methods.

A step of such a method is one direction and the search along it, some passes over all rows. They
fit the loop of `training.loop` by seeing the whole data set as one batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.optim import LBFGS, ConjugateGradient, FullBatch, GradientDescent, NewtonCG
from regard.optim.line_search_optimizer import Deterministic
from regard.optim.objectives.full_batch import spread
from regard.optim.plateau import Plateau
from regard.training.stability_monitor import gradient_norms
from regard.training.train_step import Loss, Objective, Stepper
from regard.training.training_config import OptimizerConfig

_FAILURES = 2  # in a row: the second began anew from the steepest descent
_PASSES = 2  # over the data that a step of conjugate gradient takes, rounded up
_LATEST = 0.8  # share of the run after which conjugate gradient takes over in any case


class Split(Protocol):
    """An objective that tells outputs from loss, for Gauss-Newton products."""

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute what the loss is convex in, such as the logits of all tokens."""
        ...

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from outputs."""
        ...


class MicroBatches(Sequence[Any]):
    """All rows in batches that are the same in every pass.

    Args:
        batches: Has ``in_sequence()``, the rows of each batch, and ``batch(rows)``.
    """

    def __init__(self, batches: Any) -> None:
        self._batches, self._rows = batches, batches.in_sequence()
        self.num_passes = 0
        """Passes begun."""

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        self.num_passes += 1
        return (self._batches.batch(rows) for rows in self._rows)

    def __getitem__(self, place: int) -> Any:  # type: ignore[override] - no slices
        return self._batches.batch(self._rows[place])


class WholeData:
    """The data as one batch an epoch, for the loop.

    Args:
        batches: Has ``in_sequence()``, the rows of each batch.
    """

    def __init__(self, batches: Any) -> None:
        self._rows = np.concatenate(batches.in_sequence())

    def order(self, epoch: int) -> list[NDArray[np.int64]]:  # noqa: ARG002 - always the same
        """Return all rows as one batch."""
        return [self._rows]

    def batch(self, rows: NDArray[np.int64]) -> None:
        """Build nothing: the stepper has the data."""


class FullBatchStepper:
    """Takes steps of a method for deterministic objectives.

    Args:
        model: To be trained.
        objective: Computes the loss of a micro-batch; newton-cg wants a `Split` one.
        config: Names the method.
        micro_batches: All rows.
        seed_dropout: Decides about dropout masks; they stay the same throughout a step.

    Raises:
        ConfigError: The method needs what the objective cannot tell.
    """

    pace = 1

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        config: OptimizerConfig,
        micro_batches: MicroBatches,
        seed_dropout: Callable[[int], None],
    ) -> None:
        self.model, self.config = model, config
        self._compute, self._micro_batches = objective, micro_batches
        self._parameters = list(model.parameters())
        self.gradient_norms: Tensor | None = None
        """Of each parameter at the last point, ``[parameters]``."""
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        self.optimizer = BUILDERS[config.name](trained, config)
        has_dropout = any(getattr(module, "threshold", 0) > 0 for module in model.modules())
        settings: dict[str, Any] = {
            "model": model,
            "dropout": "frozen" if has_dropout else "off",
            "seed_dropout": seed_dropout,
        }
        if config.name == "newton-cg" and config.curvature == "gauss-newton":
            split = _require_split(objective)

            def loss(outputs: Tensor, batch: Any) -> tuple[Tensor, int]:
                return self._noted(split.of_outputs(outputs, batch))

            self._whole = FullBatch(
                micro_batches, loss, outputs=lambda batch: split.outputs(model, batch), **settings
            )
        else:
            self._whole = FullBatch(micro_batches, self._loss, **settings)
        self.num_passes = 0.0
        """Passes over the data that the last step took, products by their part of it."""
        self._num_failures = 0
        self._pass, self._nll, self._num_tokens = 0, torch.zeros(()), 0

    @property
    def has_ended(self) -> str:
        """Why no further step can be taken; empty where one can."""
        return self.optimizer.last.failure if self._num_failures >= _FAILURES else ""

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:  # noqa: ARG002
        """Take one step.

        Args:
            batch: Not looked at.
            progress: Not looked at: there is no rate to be scheduled.

        Returns:
            The loss after the step, and the gradient's norm there.
        """
        before = self._passes()
        self._pass = 0
        value = self.optimizer.step(self._whole)
        self.num_passes = self._passes() - before
        failed = bool(self.optimizer.last.failure)
        self._num_failures = self._num_failures + 1 if failed else 0
        self.gradient_norms = gradient_norms(self._parameters)
        nll = self._nll / max(1, self._num_tokens)
        found = Loss(loss=torch.tensor(value), nll=nll, num_tokens=self._num_tokens)
        return found, float(torch.linalg.vector_norm(self.gradient_norms))

    def objective(self, model: nn.Module, batch: object) -> Loss:  # noqa: ARG002 - as Stepper
        """Compute the loss of all rows without gradients."""
        with torch.no_grad():
            found = [self._compute(model, micro_batch) for micro_batch in self._micro_batches]
        count = sum(each.num_tokens for each in found)
        loss = torch.stack([each.loss * each.num_tokens for each in found]).sum() / count
        nll = torch.stack([each.nll * each.num_tokens for each in found]).sum() / count
        return Loss(loss=loss, nll=nll, num_tokens=count)

    def state(self) -> dict[str, Tensor]:
        """Collect the optimizer's state as tensors by name."""
        entries = self.optimizer.state_dict()["state"].get(0, {})
        found, plain = {}, {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                found[name] = value
            elif isinstance(value, list) and value and isinstance(value[0], Tensor):
                found |= {f"{name}.{place}": each for place, each in enumerate(value)}
            else:
                plain[name] = value
        counts = {"num_failures": self._num_failures, "num_steps": self._whole.num_steps}
        written = json.dumps({"plain": plain, **counts}).encode()
        found["plain"] = torch.frombuffer(bytearray(written), dtype=torch.uint8)
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        written = json.loads(bytes(tensors["plain"].tolist()))
        self._num_failures = written["num_failures"]
        self._whole.num_steps = written["num_steps"]
        entries: dict[str, Any] = dict(written["plain"])
        for name in sorted(tensors, key=_place_in_list):
            key, dot, _ = name.partition(".")
            if dot:
                entries.setdefault(key, []).append(tensors[name])
            elif name != "plain":
                entries[name] = tensors[name]
        groups = self.optimizer.state_dict()["param_groups"]
        state = {0: entries} if entries else {}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _loss(self, batch: Any) -> tuple[Tensor, int]:
        return self._noted(self._compute(self.model, batch))

    def _noted(self, found: Loss) -> tuple[Tensor, int]:
        """Sum up what people read over the present pass; the last one stands where a step ends."""
        if self._pass != self._micro_batches.num_passes:
            self._pass = self._micro_batches.num_passes
            self._nll, self._num_tokens = torch.zeros((), dtype=torch.float64), 0
        count = found.num_tokens
        self._nll = self._nll + found.nll.detach().double() * count
        self._num_tokens += count
        return found.loss * count, count

    def _passes(self) -> float:
        counts = self.optimizer.counts
        number = len(self._micro_batches)
        share = len(spread(number, self.config.curvature_fraction)) / number
        return counts.gradients + counts.values + share * counts.products


class AdamThenCgStepper:
    """Steps of AdamW on batches, then of conjugate gradient on all rows.

    The change comes at the end of an epoch: the first after which the loss has stopped to fall
    (`regard.optim.plateau`, with windows of an epoch), or the first in the last part of the run.

    Args:
        first: AdamW's.
        second: Conjugate gradient's.
        steps_per_epoch: Of the first.
    """

    def __init__(self, first: Stepper, second: FullBatchStepper, steps_per_epoch: int) -> None:
        self.first, self.second = first, second
        self.model, self.config = first.model, first.config
        self.is_second = False
        self._steps_per_epoch = steps_per_epoch
        self._num_steps = 0
        self._plateau = Plateau(steps_per_epoch)
        self.gradient_norms: Tensor | None = None
        """Of each parameter at the last step, ``[parameters]``."""

    @property
    def num_passes(self) -> float:
        """Passes over the data that the last step took."""
        return self.second.num_passes if self.is_second else 1 / self._steps_per_epoch

    @property
    def pace(self) -> int:
        """Steps of the first plan that a step now stands for."""
        return _PASSES * self._steps_per_epoch if self.is_second else 1

    @property
    def has_ended(self) -> str:
        """Why no further step can be taken; empty where one can."""
        return self.second.has_ended

    @property
    def objective(self) -> Objective:
        """What the present steps minimise."""
        return self._now.objective

    @property
    def _now(self) -> Stepper | FullBatchStepper:
        return self.second if self.is_second else self.first

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:
        """Take one step; arguments as `Stepper.step`."""
        found, norm = self._now.step(batch, progress)
        self.gradient_norms = self._now.gradient_norms
        if not self.is_second:
            self._plateau.add(float(found.nll))
            self._num_steps += 1
            if self._num_steps % self._steps_per_epoch == 0:
                self.is_second = self._plateau.is_reached or progress >= _LATEST
        return found, norm

    def state(self) -> dict[str, Tensor]:
        """Collect the state of both."""
        own = [self._num_steps, float(self.is_second), *self._plateau.losses]
        found = {f"first.{name}": value for name, value in self.first.state().items()}
        found |= {f"second.{name}": value for name, value in self.second.state().items()}
        return {**found, "own": torch.tensor(own, dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        for stepper, prefix in ((self.first, "first."), (self.second, "second.")):
            stepper.load(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        count, is_second, *self._plateau.losses = tensors["own"].tolist()
        self._num_steps, self.is_second = int(count), bool(is_second)


class PhasedBatches:
    """Batches for AdamW, then all rows.

    Args:
        batches: Of the first phase.
        whole: Of the second.
        stepper: Knows the phase.
    """

    def __init__(self, batches: Any, whole: WholeData, stepper: AdamThenCgStepper) -> None:
        self._batches, self._whole, self._stepper = batches, whole, stepper

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch."""
        return (self._whole if self._stepper.is_second else self._batches).order(epoch)

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of the given rows."""
        return (self._whole if self._stepper.is_second else self._batches).batch(rows)


def _conjugate_gradient(parameters: list[nn.Parameter], config: OptimizerConfig) -> Deterministic:
    return ConjugateGradient(
        parameters,
        beta=config.beta,
        memory=config.memory,
        preconditioner=None if config.preconditioner == "none" else "adam",
    )


def _newton_cg(parameters: list[nn.Parameter], config: OptimizerConfig) -> Deterministic:
    return NewtonCG(
        parameters,
        curvature=config.curvature,
        region="levenberg-marquardt",
        preconditioner="adam" if config.preconditioner == "adam" else None,
        curvature_fraction=config.curvature_fraction,
    )


def _lbfgs(parameters: list[nn.Parameter], config: OptimizerConfig) -> Deterministic:
    return LBFGS(parameters, memory=max(1, config.memory))


def _gradient_descent(parameters: list[nn.Parameter], config: OptimizerConfig) -> Deterministic:
    if config.learning_rate is None:
        return GradientDescent(parameters)
    return GradientDescent(parameters, step=config.learning_rate)


BUILDERS: dict[str, Callable[[list[nn.Parameter], OptimizerConfig], Deterministic]] = {
    "cg": _conjugate_gradient,
    "newton-cg": _newton_cg,
    "lbfgs": _lbfgs,
    "gradient-descent": _gradient_descent,
}
"""Methods that always see all rows."""


def build_full_batch(
    model: nn.Module,
    objective: Objective,
    config: OptimizerConfig,
    batches: Any,
    seed_dropout: Callable[[int], None],
) -> tuple[FullBatchStepper | AdamThenCgStepper, WholeData | PhasedBatches]:
    """Build the stepper of a method that sees all rows, and the batches that the loop goes through.

    Args:
        model: To be trained.
        objective: Computes the loss of a batch.
        config: Names the method.
        batches: Of the training data.
        seed_dropout: Decides about dropout masks.
    """
    whole = WholeData(batches)
    micro_batches = MicroBatches(batches)
    if config.name != "adam-then-cg":
        return FullBatchStepper(model, objective, config, micro_batches, seed_dropout), whole
    second = FullBatchStepper(
        model, objective, replace(config, name="cg"), micro_batches, seed_dropout
    )
    first = Stepper(model, objective, replace(config, name="adamw"))
    stepper = AdamThenCgStepper(first, second, len(batches.order(0)))
    return stepper, PhasedBatches(batches, whole, stepper)


def _require_split(objective: Any) -> Split:
    if not hasattr(objective, "outputs"):
        raise ConfigError(
            "newton-cg with the Gauss-Newton matrix needs a task that tells outputs from loss.  "
            "Take the Hessian: --set optimizer.curvature=hessian"
        )
    return objective


def _place_in_list(name: str) -> int:
    _, dot, place = name.rpartition(".")
    return int(place) if dot else -1
