"""Evaluation on held-out data: averaged weights in a copy of the model, and the mean loss."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard.models.base.model import Model
from regard.training.device import finish_work
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import OutputExample
from regard.training.loop import Evaluation
from regard.training.train_step import LossFunction

_TIMED_BATCHES = 2


class SequentialBatches(Protocol):
    """Batches that cover the data once, the same ones whenever asked."""

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the rows of every batch, always the same."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of some rows."""
        ...


class AveragedModel:
    """A copy of a model for averaged weights.

    Args:
        model: To be copied; the copy has its compute type throughout.
    """

    def __init__(self, model: Model) -> None:
        self.model: Any = copy.deepcopy(model).to(model.compute_dtype).eval()

    @torch.no_grad()
    def load(self, average: ExponentialMovingAverage) -> None:
        """Copy the averaged weights into the model."""
        parameters = dict(self.model.named_parameters())
        for name, tensor in average.whole_tensors():
            parameters[name].copy_(tensor)


class LossEvaluator:
    """Evaluates averaged weights; a lower loss is better.

    Args:
        model: To be evaluated.
        measure: Computes figures of a model in evaluation mode, ``loss`` among them.
        show: Returns what the model makes of a few rows of the validation data.
    """

    def __init__(
        self,
        model: Model,
        measure: Callable[[Any], dict[str, float]],
        show: Callable[[Any], list[OutputExample]] = lambda _: [],
    ) -> None:
        self._averaged = AveragedModel(model)
        self._measure, self._show = measure, show

    def __call__(self, average: ExponentialMovingAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        self._averaged.load(average)
        model = self._averaged.model
        measures = self._measure(model)
        with torch.no_grad():  # a model that gives no numbers has nothing to show
            examples = self._show(model) if math.isfinite(measures["loss"]) else []
        return Evaluation(measures=measures, score_name="loss", is_loss=True, examples=examples)


@torch.no_grad()
def total_loss(
    loss_function: LossFunction,
    model: nn.Module,
    batches: SequentialBatches,
    world: World = ALONE,
) -> tuple[float, int]:
    """Sum the cross-entropy over all batches.

    Args:
        loss_function: Computes the loss of a batch.
        model: In evaluation mode.
        batches: Of the data.
        world: The processes that share the batches; the sum is the same for any number of them.

    Returns:
        The sum in nats, and the number of tokens in it.
    """

    def batch_sum(rows: NDArray[np.int64]) -> tuple[float, int]:
        loss = loss_function(model, batches.batch(rows))
        return float(loss.nll) * loss.num_tokens, loss.num_tokens

    total, num_tokens = 0.0, 0
    for batch_total, number in world.map(batch_sum, batches.in_sequence()):
        total += batch_total
        num_tokens += number
    return total, num_tokens


@torch.no_grad()
def time_evaluation(
    loss_function: LossFunction,
    model: Model,
    batches: SequentialBatches,
    world: World = ALONE,
) -> float:
    """Time the loss of a few batches with a copy of a model, and scale up to all.

    Args:
        loss_function: Computes the loss of a batch.
        model: The model; its copy is timed in its compute type.
        batches: All batches of the evaluation.
        world: The processes that share them.

    Returns:
        Seconds that one evaluation takes.
    """
    evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
    all_rows = batches.in_sequence()
    sample = all_rows[:: max(1, len(all_rows) // _TIMED_BATCHES)]
    device = next(evaluated.parameters()).device
    loss_function(evaluated, batches.batch(sample[0]))  # the first pass is slower
    finish_work(device)
    start = time.perf_counter()
    for rows in sample:
        loss_function(evaluated, batches.batch(rows))
    finish_work(device)
    num_batches = -(-len(all_rows) // world.size)  # of the rank that has most
    return (time.perf_counter() - start) / len(sample) * num_batches
