"""The choice of what takes a run's training steps, on one process or on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from regard.errors import ConfigError
from regard.training.device import fix_work_memory
from regard.training.full_batch_step import (
    RepeatableBatches,
    Sharing,
    build_full_batch,
    build_mini_batch,
)
from regard.training.optimizers import needs_full_batch
from regard.training.training_config import OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    from regard.training.distribution import World
    from regard.training.loop import Batches
    from regard.training.train_step import LossFunction, TrainStep

_WORK_MEMORY = "CUBLAS_WORKSPACE_CONFIG"  # named in PyTorch's error where it was not set in time
_NO_FIXED_ORDER = " does not have a deterministic implementation"  # in PyTorch's errors


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
    uses_fsdp: bool = False,
    in_shards: bool = False,
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
        uses_fsdp: Whether each process holds a part of the model; its parameters become `DTensor`.
        in_shards: Whether one process alone computes a batch in shards too, since several have
            begun the run.

    Returns:
        What takes the steps, and the batches that the loop goes through.
    """
    sharing = sharing_of(training, world, uses_fsdp=uses_fsdp, in_shards=in_shards)
    if needs_full_batch(optimizer.name):
        return build_full_batch(model, loss_function, optimizer, batches, seed_dropout, sharing)
    return build_mini_batch(model, loss_function, optimizer, batches, sharing, dtype)


def sharing_of(
    training: TrainingConfig, world: World, *, uses_fsdp: bool = False, in_shards: bool = False
) -> Sharing | None:
    """Return how processes share a batch; None where one computes it at once."""
    if not (in_shards or computes_in_shards(training, world)):
        return None
    return Sharing(world, training.shards, training.deterministic, uses_fsdp)


def computes_in_shards(training: TrainingConfig, world: World) -> bool:
    """Return whether batches are computed in shards."""
    return world.is_shared or training.deterministic


def refuse_fsdp(training: TrainingConfig, optimizer: OptimizerConfig) -> None:
    """Check that a run may hold a part of the model in each process.

    Raises:
        ConfigError: Its optimizer or a setting needs the whole model.
    """
    cause = ""
    if needs_full_batch(optimizer.name):
        cause = f"`optimizer.name={optimizer.name}` searches along directions of all weights"
    elif training.deterministic:
        cause = "`training.deterministic=true` adds whole gradients in a fixed order"
    if cause:
        raise ConfigError(
            f"training.parallel=fsdp: {cause}, so that each process needs the whole model.  Take "
            "`training.parallel=ddp`."
        )


@contextmanager
def reproducible(training: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Compute the same bits again within ``with`` where a run asks for that.

    Args:
        training: With `deterministic`, under which a CPU computes on one thread, and a GPU by
            methods that add in a fixed order.
        device: That computes.

    Raises:
        ConfigError: PyTorch has no such method for what the GPU is asked for.
    """
    if not training.deterministic:
        yield
        return
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _in_a_fixed_order() if device.type != "cpu" else nullcontext():
            yield
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def _in_a_fixed_order() -> Iterator[None]:
    """Let a GPU add in a fixed order, or raise ConfigError where PyTorch cannot."""
    fix_work_memory()
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if _WORK_MEMORY in str(error):
            raise ConfigError(
                "training.deterministic=true: this process used a GPU before it was said that "
                f"products are to repeat their bits.  Start Python with {_WORK_MEMORY}=:4096:8 in "
                "its environment."
            ) from error
        operation, missing, _ = str(error).partition(_NO_FIXED_ORDER)
        if not missing:
            raise
        raise ConfigError(
            f"training.deterministic=true: PyTorch has no method for {operation} that gives the "
            "same bits on each run of a GPU.  Take `training.deterministic=false`, or "
            "`device=cpu`."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
