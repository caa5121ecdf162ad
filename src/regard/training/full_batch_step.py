"""Training on the whole data set at once: the training steps of deterministic methods.

A step of such a method is one direction and the search along it, some passes over all rows. In
`training.loop` the whole data set is one batch.
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
from regard.optim import LBFGS, OPTIMIZERS, ConjugateGradient, FullBatch, GradientDescent, NewtonCG
from regard.optim.line_search_optimizer import LineSearchOptimizer
from regard.optim.objectives.full_batch import evenly_spaced
from regard.optim.plateau import Plateau
from regard.training.stability_monitor import gradient_norms
from regard.training.train_step import Loss, Objective, Stepper
from regard.training.training_config import OptimizerConfig

_MAX_FAILURES = 2  # in a row: the second restarted from steepest descent
_PASSES = 2  # over the data in a step of conjugate gradient, rounded up
_LATEST = 0.8  # fraction of the run after which conjugate gradient takes over in any case


class Split(Protocol):
    """An objective that separates outputs and loss, for Gauss-Newton products."""

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

    def __getitem__(self, index: int) -> Any:  # type: ignore[override] - no slices
        return self._batches.batch(self._rows[index])


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
        """Return nothing: the training step has the data."""


class FullBatchStepper:
    """Takes steps of a method for deterministic objectives.

    Args:
        model: To be trained.
        objective: Computes the loss of a micro-batch; newton-cg wants a `Split` one.
        config: Names the method.
        micro_batches: All rows.
        seed_dropout: Decides about dropout masks; they stay the same throughout a step.

    Raises:
        ConfigError: The method needs outputs, which the objective does not separate.
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
        self.optimizer = build_full_batch_optimizer(trained, config)
        has_dropout = any(getattr(module, "threshold", 0) > 0 for module in model.modules())
        settings: dict[str, Any] = {
            "model": model,
            "dropout": "frozen" if has_dropout else "off",
            "seed_dropout": seed_dropout,
        }
        if config.name == "newton-cg" and config.curvature == "gauss-newton":
            split = _require_split(objective)

            def loss(outputs: Tensor, batch: Any) -> tuple[Tensor, int]:
                return self._recorded(split.of_outputs(outputs, batch))

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
        return self.optimizer.last.failure if self._num_failures >= _MAX_FAILURES else ""

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:  # noqa: ARG002
        """Take one step.

        Args:
            batch: Not looked at.
            progress: Not looked at: there is no rate to be scheduled.

        Returns:
            The loss after the step, and the gradient's norm there.
        """
        before = self._count_passes()
        self._pass = 0
        value = self.optimizer.step(self._whole)
        self.num_passes = self._count_passes() - before
        failed = bool(self.optimizer.last.failure)
        self._num_failures = self._num_failures + 1 if failed else 0
        self.gradient_norms = gradient_norms(self._parameters)
        nll = self._nll / max(1, self._num_tokens)
        loss = Loss(loss=torch.tensor(value), nll=nll, num_tokens=self._num_tokens)
        return loss, float(torch.linalg.vector_norm(self.gradient_norms))

    def objective(self, model: nn.Module, batch: object) -> Loss:  # noqa: ARG002 - as Stepper
        """Compute the loss of all rows without gradients."""
        with torch.no_grad():
            parts = [self._compute(model, micro_batch) for micro_batch in self._micro_batches]
        num_tokens = sum(part.num_tokens for part in parts)
        loss = torch.stack([part.loss * part.num_tokens for part in parts]).sum() / num_tokens
        nll = torch.stack([part.nll * part.num_tokens for part in parts]).sum() / num_tokens
        return Loss(loss=loss, nll=nll, num_tokens=num_tokens)

    def state(self) -> dict[str, Tensor]:
        """Collect the optimizer's state as tensors by name."""
        entries = self.optimizer.state_dict()["state"].get(0, {})
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in entries.items() if name not in tensors}
        counts = {"num_failures": self._num_failures, "num_steps": self._whole.num_steps}
        written = json.dumps({"plain": plain, **counts}).encode()
        tensors["plain"] = torch.frombuffer(bytearray(written), dtype=torch.uint8)
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        written = json.loads(bytes(tensors["plain"].tolist()))
        self._num_failures = written["num_failures"]
        self._whole.num_steps = written["num_steps"]
        entries = {**written["plain"], **tensors}
        del entries["plain"]
        groups = self.optimizer.state_dict()["param_groups"]
        state = {0: entries} if entries else {}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _loss(self, batch: Any) -> tuple[Tensor, int]:
        return self._recorded(self._compute(self.model, batch))

    def _recorded(self, loss: Loss) -> tuple[Tensor, int]:
        """Add a loss to the sums that are displayed, over the present pass; return it as a sum."""
        if self._pass != self._micro_batches.num_passes:
            self._pass = self._micro_batches.num_passes
            self._nll, self._num_tokens = torch.zeros((), dtype=torch.float64), 0
        num_tokens = loss.num_tokens
        self._nll = self._nll + loss.nll.detach().double() * num_tokens
        self._num_tokens += num_tokens
        return loss.loss * num_tokens, num_tokens

    def _count_passes(self) -> float:
        counts, num_batches = self.optimizer.counts, len(self._micro_batches)
        chosen = evenly_spaced(num_batches, self.config.curvature_fraction)
        return counts.evaluations + len(chosen) / num_batches * counts.products


class AdamThenCgStepper:
    """Steps of AdamW on batches, then of conjugate gradient on all rows.

    The change comes at the end of an epoch: the first after which the loss has stopped falling
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
        """What the active method minimises."""
        return self._active.objective

    @property
    def _active(self) -> Stepper | FullBatchStepper:
        return self.second if self.is_second else self.first

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:
        """Take one step; arguments as `Stepper.step`."""
        loss, norm = self._active.step(batch, progress)
        self.gradient_norms = self._active.gradient_norms
        if not self.is_second:
            self._plateau.add(float(loss.nll))
            self._num_steps += 1
            if self._num_steps % self._steps_per_epoch == 0:
                self.is_second = self._plateau.is_reached or progress >= _LATEST
        return loss, norm

    def state(self) -> dict[str, Tensor]:
        """Collect the state of both."""
        own = [self._num_steps, float(self.is_second), *self._plateau.losses]
        first = {f"first.{name}": value for name, value in self.first.state().items()}
        second = {f"second.{name}": value for name, value in self.second.state().items()}
        return {**first, **second, "own": torch.tensor(own, dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        for stepper, prefix in ((self.first, "first."), (self.second, "second.")):
            stepper.load(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        num_steps, is_second, *self._plateau.losses = tensors["own"].tolist()
        self._num_steps, self.is_second = int(num_steps), bool(is_second)


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


def build_full_batch_optimizer(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> LineSearchOptimizer:
    """Build the optimizer of a method that always sees all rows.

    Args:
        parameters: To be trained.
        config: Names the method.
    """
    method = OPTIMIZERS[config.name]
    if method is ConjugateGradient:
        return ConjugateGradient(
            parameters,
            beta=config.beta,
            memory=config.memory,
            preconditioner=None if config.preconditioner == "none" else "adam",
        )
    if method is NewtonCG:
        return NewtonCG(
            parameters,
            curvature=config.curvature,
            region="levenberg-marquardt",
            preconditioner="adam" if config.preconditioner == "adam" else None,
            curvature_fraction=config.curvature_fraction,
        )
    if method is LBFGS:
        return LBFGS(parameters, history_size=max(1, config.memory))
    assert method is GradientDescent
    rate = config.learning_rate
    return GradientDescent(parameters, step="barzilai-borwein" if rate is None else rate)


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
            "newton-cg with the Gauss-Newton matrix needs a task that separates outputs and loss.  "
            "Take the Hessian: `optimizer.curvature=hessian`"
        )
    return objective
