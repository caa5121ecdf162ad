"""Training on the whole data set at once: the training steps of deterministic methods.

A step of such a method is one direction and the search along it, some passes over all rows. In
`training.loop` the whole data set is one batch.
"""

from __future__ import annotations

import copy
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.optim import FullBatch
from regard.optim.line_search_optimizer import Counts
from regard.optim.matrix_sharing import MatrixSharing
from regard.optim.objectives.full_batch import MicroBatchShare, evenly_spaced
from regard.optim.plateau import Plateau
from regard.training.distribution import World
from regard.training.evaluation_loop import SequentialBatches
from regard.training.gradients import DdpGradient, FsdpGradient, OrderedGradient
from regard.training.loop import Batches
from regard.training.optimizers import record_of, takes_gauss_newton
from regard.training.shards import ShardedBatches, is_joinable, own_shards, shard_bounds
from regard.training.stability_monitor import gradient_norms
from regard.training.train_step import (
    BatchGradient,
    Loss,
    LossFunction,
    MiniBatchStep,
    StepOutput,
    on_host,
)
from regard.training.training_config import OptimizerConfig
from regard.training.tree_sum import TreeSum

_MAX_FAILURES = 2  # in a row: the second restarted from steepest descent
_LATEST = 0.8  # fraction of the run after which conjugate gradient takes over in any case


class RepeatableBatches(Batches, SequentialBatches, Protocol):
    """Batches in the order of an epoch, and in a fixed order."""


@runtime_checkable
class SplitLoss(Protocol):
    """A loss function that separates outputs and loss, for Gauss-Newton products."""

    def outputs(self, model: Any, batch: Any) -> Tensor:
        """Compute the tensor in which the loss is convex, such as logits, ``[tokens, vocab]``."""
        ...

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from outputs, such as logits of shape ``[tokens, vocab]``."""
        ...


class Sharing(NamedTuple):
    """How processes share the data, in shards as those of a batch (`regard.training.shards`).

    Args:
        world: The processes.
        num_shards: Shards of the data.
        is_ordered: Whether sums over shards are taken in an order that does not depend on the
            number of processes.
        uses_fsdp: Whether each process holds a part of the model (FSDP2), not all of it.
    """

    world: World
    num_shards: int
    is_ordered: bool = False
    uses_fsdp: bool = False

    def summation(self, shard_of: Callable[[int], int]) -> TreeSum | None:
        """Return the sum in a fixed order of what micro-batches give; None where any order does."""
        return TreeSum(self.world, self.num_shards, shard_of) if self.is_ordered else None


class MicroBatches(Sequence[Any]):
    """All rows in batches that are the same in every pass, or this process's part of them.

    Args:
        batches: Of the training data.
        sharing: The processes that share them; None for one alone.
    """

    def __init__(self, batches: SequentialBatches, sharing: Sharing | None = None) -> None:
        self._batches, rows = batches, batches.in_sequence()
        self._bounds = [0, len(rows)]
        if sharing is not None:
            num_cuts = -(-sharing.num_shards // len(rows))
            rows = [part for whole in rows for part in np.array_split(whole, num_cuts) if len(part)]
            self._bounds = shard_bounds(len(rows), sharing.num_shards)
            own = own_shards(sharing.num_shards, sharing.world)
            rows, start = rows[self._bounds[own.start] : self._bounds[own.stop]], own.start
            self.part = MicroBatchShare(self._bounds[start], self._bounds[-1])
        else:
            self.part = MicroBatchShare(0, len(rows))
        self._rows = rows
        self.num_passes = 0
        """Passes begun."""

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        self.num_passes += 1
        return (self._batches.batch(rows) for rows in self._rows)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override] - no slices
        return self._batches.batch(self._rows[index])

    def shard_of(self, index: int) -> int:
        """Return the shard of a micro-batch, by its index among those of all processes."""
        return bisect_right(self._bounds, index) - 1


class WholeData:
    """The data as one batch an epoch, for the loop.

    Args:
        batches: Of the training data.
    """

    def __init__(self, batches: SequentialBatches) -> None:
        self._rows = np.concatenate(batches.in_sequence())

    def order(self, epoch: int) -> list[NDArray[np.int64]]:  # noqa: ARG002 - always the same
        """Return all rows as one batch."""
        return [self._rows]

    def batch(self, rows: NDArray[np.int64]) -> None:
        """Return nothing: the training step has the data."""


class FullBatchStep:
    """Takes steps of a method for deterministic objectives.

    Args:
        model: To be trained.
        loss_function: Computes the loss of a micro-batch; a `SplitLoss` for Gauss-Newton products.
        config: Names the method.
        micro_batches: All rows.
        seed_dropout: Determines the dropout masks; they stay the same throughout a step.
        sharing: The processes that share the data; None for one alone.

    Raises:
        ConfigError: The method takes no steps on all rows, or needs outputs, which the loss
            function does not separate.
    """

    plan_stride = 1

    def __init__(
        self,
        model: nn.Module,
        loss_function: LossFunction,
        config: OptimizerConfig,
        micro_batches: MicroBatches,
        seed_dropout: Callable[[int], None],
        sharing: Sharing | None = None,
    ) -> None:
        self.model, self.config = model, config
        self._sharing = sharing
        self._batch_loss, self._micro_batches = loss_function, micro_batches
        self._parameters = list(model.parameters())
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        build = record_of(config.name).on_all_rows
        if build is None:
            raise ConfigError(f"optimizer.name={config.name}: takes no steps on all rows.")
        self.optimizer = build(trained, config)
        compute, outputs = _split_loss(model, loss_function, config)
        self._whole = FullBatch(
            micro_batches,
            lambda *arguments: self._recorded(compute(*arguments)),
            outputs=outputs,
            model=model,
            dropout="frozen" if _has_dropout(model) else "off",
            seed_dropout=seed_dropout,
            reduce=None if sharing is None else sharing.world.sum,
            part=micro_batches.part,
            summation=None if sharing is None else sharing.summation(micro_batches.shard_of),
        )
        self.num_passes = 0.0
        """Passes over the data that the last step took; products count by their part of it."""
        self._num_failures = 0
        self._pass, self._nll, self._num_tokens = 0, torch.zeros(()), 0
        self._parts: list[Tensor] = []  # of the sum, where processes share the data

    @property
    def stop_reason(self) -> str:
        """Why no further step can be taken; empty where one can."""
        return self.optimizer.last.failure if self._num_failures >= _MAX_FAILURES else ""

    @property
    def learning_rate(self) -> float | None:
        """None: the length of a step is found by a search, or follows from the steps before."""
        return None

    def step(self, batch: Any, progress: float) -> StepOutput:  # noqa: ARG002
        """Take one step.

        Args:
            batch: Ignored: the step has all rows.
            progress: Ignored: this method schedules no rate.

        Returns:
            The loss after the step, and the gradient's norms there.
        """
        before = copy.copy(self.optimizer.counts)
        self._pass = 0
        value = self.optimizer.step(self._whole)
        self.num_passes = self._passes_since(before)
        has_failed = bool(self.optimizer.last.failure)
        self._num_failures = self._num_failures + 1 if has_failed else 0
        norms = gradient_norms(self._parameters)
        nll, num_tokens = self._mean_nll()
        loss = Loss(loss=torch.tensor(value), nll=nll, num_tokens=num_tokens)
        loss, norms, norm = on_host(loss, norms, torch.linalg.vector_norm(norms))
        return StepOutput(loss=loss, gradient_norm=norm, gradient_norms=norms)

    def loss_function(self, model: Any, batch: object) -> Loss:  # noqa: ARG002 - all rows
        """Compute the loss of all rows, or of this process's part, without gradients."""
        with torch.no_grad():
            losses = [self._batch_loss(model, batch) for batch in self._micro_batches]
        if not losses:
            return Loss(loss=torch.zeros(()), nll=torch.zeros(()), num_tokens=0)
        num_tokens = sum(part.num_tokens for part in losses)
        loss = torch.stack([part.loss * part.num_tokens for part in losses]).sum() / num_tokens
        nll = torch.stack([part.nll * part.num_tokens for part in losses]).sum() / num_tokens
        return Loss(loss=loss, nll=nll, num_tokens=num_tokens)

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer's state as tensors by name."""
        entries = self.optimizer.state_dict()["state"].get(0, {})
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in entries.items() if name not in tensors}
        counts = {"num_failures": self._num_failures, "num_steps": self._whole.num_steps}
        encoded = json.dumps({"plain": plain, **counts}).encode()
        tensors["plain"] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        decoded = json.loads(bytes(tensors["plain"].tolist()))
        self._num_failures = decoded["num_failures"]
        self._whole.num_steps = decoded["num_steps"]
        entries = {**decoded["plain"], **tensors}
        del entries["plain"]
        groups = self.optimizer.state_dict()["param_groups"]
        state = {0: entries} if entries else {}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _mean_nll(self) -> tuple[Tensor, int]:
        """Return the mean cross-entropy of the last pass, and the number of tokens."""
        if self._sharing is None:
            return self._nll / max(1, self._num_tokens), self._num_tokens
        own = ([float(part) for part in self._parts], self._num_tokens)
        parts, counts = zip(*self._sharing.world.gather(own), strict=True)
        num_tokens = sum(counts)
        total = math.fsum(value for part in parts for value in part)  # in any order the same
        return torch.tensor(total / max(1, num_tokens), dtype=torch.float64), num_tokens

    def _recorded(self, loss: Loss) -> tuple[Tensor, int]:
        """Add a loss to the sums that are displayed, over the present pass; return it as a sum."""
        if self._pass != self._micro_batches.num_passes:
            self._pass = self._micro_batches.num_passes
            self._nll, self._num_tokens = torch.zeros((), dtype=torch.float64), 0
            self._parts = []
        num_tokens = loss.num_tokens
        part = loss.nll.detach().double() * num_tokens
        self._nll = self._nll + part
        if self._sharing is not None:
            self._parts.append(part)
        self._num_tokens += num_tokens
        return loss.loss * num_tokens, num_tokens

    def _passes_since(self, before: Counts) -> float:
        """Return passes by differences of whole numbers, which are the same in a resumed run."""
        counts, num_batches = self.optimizer.counts, self._micro_batches.part.num_batches
        indices = evenly_spaced(num_batches, self.config.curvature_fraction)
        num_products = counts.products - before.products
        return counts.evaluations - before.evaluations + len(indices) / num_batches * num_products


def _has_dropout(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _split_loss(
    model: nn.Module, loss_function: LossFunction, config: OptimizerConfig
) -> tuple[Callable[..., Loss], Callable[[Any], Tensor] | None]:
    """Return what computes the loss of a batch, and its outputs first for Gauss-Newton products.

    Raises:
        ConfigError: The loss function does not separate the two.
    """
    if not takes_gauss_newton(config):
        return partial(loss_function, model), None
    if not isinstance(loss_function, SplitLoss):
        raise ConfigError(
            f"{config.name} with the Gauss-Newton matrix needs a task that separates outputs and "
            "loss.  Take the Hessian: `optimizer.curvature=hessian`"
        )
    return loss_function.of_outputs, partial(loss_function.outputs, model)


class AdamThenCGStep:
    """Takes steps of AdamW on batches, then of conjugate gradient on all rows.

    The change comes at the end of an epoch: the first after which the loss has stopped falling
    (`regard.optim.plateau`, with windows of an epoch), or the first in the last part of the run.

    Args:
        first: AdamW's.
        second: Conjugate gradient's.
        steps_per_epoch: Of the first.
    """

    def __init__(self, first: MiniBatchStep, second: FullBatchStep, steps_per_epoch: int) -> None:
        self.first, self.second = first, second
        self.model, self.config = first.model, first.config
        self.is_second = False
        self._steps_per_epoch = steps_per_epoch
        self._num_passes = math.ceil(record_of(self.config.name).num_passes)
        self._num_steps = 0
        self._plateau = Plateau(steps_per_epoch)

    @property
    def num_passes(self) -> float:
        """Passes over the data that the last step took."""
        return self.second.num_passes if self.is_second else 1 / self._steps_per_epoch

    @property
    def plan_stride(self) -> int:
        """Number of steps of the first plan that a step now replaces."""
        return self._num_passes * self._steps_per_epoch if self.is_second else 1

    @property
    def stop_reason(self) -> str:
        """Why no further step can be taken; empty where one can."""
        return self.second.stop_reason

    @property
    def learning_rate(self) -> float | None:
        """The rate of the last step; None where conjugate gradient took it."""
        return self._active.learning_rate

    @property
    def loss_function(self) -> LossFunction:
        """The loss that the active method minimises."""
        return self._active.loss_function

    @property
    def _active(self) -> MiniBatchStep | FullBatchStep:
        return self.second if self.is_second else self.first

    def step(self, batch: Any, progress: float) -> StepOutput:
        """Take one step of the active method.

        Args:
            batch: Of the training data; ignored by conjugate gradient.
            progress: Fraction of the run that is done, 0 to 1.

        Returns:
            The loss and the gradient's norms.
        """
        output = self._active.step(batch, progress)
        if not self.is_second:
            self._plateau.add(float(output.loss.nll))
            self._num_steps += 1
            if self._num_steps % self._steps_per_epoch == 0:
                self.is_second = self._plateau.is_reached or progress >= _LATEST
        return output

    def state(self) -> dict[str, Tensor]:
        """Return the state of both methods, by name."""
        own = [self._num_steps, float(self.is_second), *self._plateau.losses]
        first = {f"first.{name}": value for name, value in self.first.state().items()}
        second = {f"second.{name}": value for name, value in self.second.state().items()}
        return {**first, **second, "own": torch.tensor(own, dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for stepper, prefix in ((self.first, "first."), (self.second, "second.")):
            stepper.load(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        num_steps, is_second, *self._plateau.losses = tensors["own"].tolist()
        self._num_steps, self.is_second = int(num_steps), bool(is_second)


@dataclass(frozen=True, eq=False)
class PhasedBatches:
    """Batches for AdamW, then all rows.

    Args:
        batches: Of the first phase.
        whole: Of the second.
        stepper: Has the phase.
    """

    batches: Batches
    whole: WholeData
    stepper: AdamThenCGStep

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch."""
        return (self.whole if self.stepper.is_second else self.batches).order(epoch)

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of some rows."""
        return (self.whole if self.stepper.is_second else self.batches).batch(rows)


def build_full_batch(
    model: nn.Module,
    loss_function: LossFunction,
    config: OptimizerConfig,
    batches: RepeatableBatches,
    seed_dropout: Callable[[int], None],
    sharing: Sharing | None = None,
) -> tuple[FullBatchStep | AdamThenCGStep, WholeData | PhasedBatches]:
    """Build the steps of a method that sees all rows, and the loop's batches.

    Args:
        model: To be trained.
        loss_function: Computes the loss of a batch.
        config: Names the method.
        batches: Of the training data.
        seed_dropout: Determines the dropout masks.
        sharing: The processes that share the data; None for one alone.

    Returns:
        What takes the steps, and the batches that the loop goes through.
    """
    whole = WholeData(batches)
    micro_batches = MicroBatches(batches, sharing)
    if record_of(config.name).is_full_batch:
        step = FullBatchStep(model, loss_function, config, micro_batches, seed_dropout, sharing)
        return step, whole
    first, first_batches = build_mini_batch(model, loss_function, config, batches, sharing)
    second = FullBatchStep(model, loss_function, config, micro_batches, seed_dropout, sharing)
    stepper = AdamThenCGStep(first, second, len(batches.order(0)))
    return stepper, PhasedBatches(first_batches, whole, stepper)


def build_mini_batch(
    model: nn.Module,
    loss_function: LossFunction,
    config: OptimizerConfig,
    batches: Batches,
    sharing: Sharing | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[MiniBatchStep, Batches]:
    """Build the steps of a method on batches, and the loop's batches.

    Args:
        model: To be trained.
        loss_function: Computes the loss of a batch.
        config: Names the method.
        batches: Of the training data.
        sharing: The processes that share a batch; None for one alone.
        dtype: Type of products that the optimizer computes.

    Returns:
        What takes the steps, and the batches that the loop goes through.
    """
    if sharing is None:
        return MiniBatchStep(model, loss_function, config, dtype), batches
    world, num_shards, is_ordered, uses_fsdp = sharing
    by_row = is_joinable(model, batches)  # asked before parameters are cut in parts
    compute: BatchGradient
    if uses_fsdp:
        compute = FsdpGradient(model, loss_function, world, dtype)
    elif is_ordered or not world.is_shared:
        compute = OrderedGradient(model, loss_function, world, num_shards)
    else:
        compute = DdpGradient(model, loss_function, world)
    matrices = None
    if world.size > 1:
        matrices = MatrixSharing(world.rank, world.size, world.exchange, world.all_to_all)
    stepper = MiniBatchStep(model, loss_function, config, dtype, compute, matrices)
    shards = ShardedBatches(
        batches,
        world,
        num_shards,
        is_even=uses_fsdp,
        drops_by_row=by_row,
        is_joined=by_row and not is_ordered,
    )
    return stepper, shards
