"""The choice of what takes a run's training steps, on one process or on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from regard.training.distribution import World
from regard.training.full_batch_step import (
    RepeatableBatches,
    Sharing,
    build_full_batch,
    build_mini_batch,
)
from regard.training.loop import Batches
from regard.training.train_step import LossFunction, TrainStep
from regard.training.training_config import FULL_BATCH, OptimizerConfig, TrainingConfig


def build_stepper(
    model: nn.Module,
    loss_function: LossFunction,
    training: TrainingConfig,
    optimizer: OptimizerConfig,
    batches: RepeatableBatches,
    seed_dropout: Callable[[int], None],
    world: World,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[TrainStep, Batches]:
    """Build the steps of a run, and the loop's batches.

    Args:
        model: To be trained, in training mode.
        loss_function: Computes the loss of a batch.
        training: How several processes share a batch.
        optimizer: Names the method.
        batches: Of the training data, of all processes together.
        seed_dropout: Determines the dropout masks.
        world: The processes.
        dtype: Type of products that the optimizer computes.

    Returns:
        What takes the steps, and the batches that the loop goes through.
    """
    sharing = None
    if is_sharded(training, world):
        sharing = Sharing(world, training.shards, training.deterministic)
    if optimizer.name in FULL_BATCH:
        return build_full_batch(model, loss_function, optimizer, batches, seed_dropout, sharing)
    return build_mini_batch(model, loss_function, optimizer, batches, sharing, dtype)


def is_sharded(training: TrainingConfig, world: World) -> bool:
    """Return whether batches are computed in shards."""
    return world.is_shared or training.deterministic


@contextmanager
def threads_of(training: TrainingConfig) -> Iterator[None]:
    """Take one thread of a CPU within ``with`` where results may not depend on their number."""
    num_threads = torch.get_num_threads()
    if training.deterministic:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
