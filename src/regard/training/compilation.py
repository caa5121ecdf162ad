"""The model of a training step, compiled by ``torch.compile``, block by block.

Most of a step is in a model's blocks, and those of one kind run the same code: it is compiled once,
for batches of any size and length, not again for every layer and every length. Blocks are compiled
in place, so that weights keep their names, and copies of the model, such as that of evaluations,
are not compiled. What is computed is equal but for rounding; masks of dropout are others.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from regard.errors import ConfigError
from regard.layers.layer import Layer
from regard.training.device import finish_work
from regard.training.optimizers import needs_full_batch
from regard.training.train_step import LossFunction
from regard.training.training_config import OptimizerConfig, TrainingConfig

_WORTHWHILE_SECONDS = 600.0  # of a run: compilation takes about a minute


def compiles_blocks(
    training: TrainingConfig,
    optimizer: OptimizerConfig,
    device: torch.device,
    *,
    in_shards: bool,
    seconds: float,
) -> bool:
    """Return whether a run compiles its model.

    Args:
        training: With `compile`; ``auto`` compiles on CUDA, where a run is long enough.
        optimizer: Of the run.
        device: That computes.
        in_shards: Whether batches are computed in shards.
        seconds: That the run is expected to take.

    Raises:
        ConfigError: The settings ask for it, and the run cannot.
    """
    cause = ""
    if needs_full_batch(optimizer.name):
        cause = (
            f"`optimizer.name={optimizer.name}` compares values of one point that must be equal, "
            "and may need second derivatives, which compiled code does not have"
        )
    elif in_shards:
        cause = (
            "this run computes its batches in shards, whose masks of dropout may not depend on the "
            "number of processes"
        )
    if training.compile == "auto":
        return not cause and device.type == "cuda" and seconds >= _WORTHWHILE_SECONDS
    if training.compile and cause:
        raise ConfigError(f"training.compile=true: {cause}.  Take `training.compile=false`.")
    return training.compile


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model that are compiled.

    They are what its lists hold, of lists within each other the inner, but for those that a
    compiler would write again for every length.
    """
    return [
        block
        for blocks in model.modules()
        if isinstance(blocks, nn.ModuleList)
        for block in blocks
        if not any(map(_is_left_out, block.modules()))
    ]


def _is_left_out(part: nn.Module) -> bool:
    """Return whether a block with this part is not compiled."""
    return isinstance(part, nn.ModuleList) or (isinstance(part, Layer) and not part.has_one_graph)


def compile_blocks(model: nn.Module, loss_function: LossFunction, batches: Iterable[Any]) -> float:
    """Compile the blocks of a model, and compute gradients, which are dropped.

    Args:
        model: In training mode.
        loss_function: Computes the loss of a batch.
        batches: Of the training data, such as one with padding and one without.

    Returns:
        The seconds that it took.

    Raises:
        ConfigError: The model cannot be compiled here; it is as before.
    """
    from torch._dynamo.exc import TorchDynamoException  # it takes seconds to load

    start, blocks, batches = time.perf_counter(), blocks_of(model), list(batches)
    if not blocks:
        raise ConfigError(
            "training.compile: torch.compile would compile the blocks of this model again for "
            "every length, since they go from position to position.  Take "
            "`training.compile=false`."
        )
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            # The compiler looks at what blocks read, of which no gradient is asked.
            warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor")
            expected = _names_with_gradient(model, loss_function, batches[:1])
            _compile(blocks)
            names = _names_with_gradient(model, loss_function, batches)
        finish_work(device)
    except TorchDynamoException as error:
        _undo(blocks)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:300]  # the compiler's name, and what it says
        raise ConfigError(
            f"training.compile: torch.compile cannot compile this model here: {reason}.  Take "
            "`training.compile=false`."
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
    if missing := sorted(set(expected) - set(names)):
        _undo(blocks)
        raise ConfigError(
            f"training.compile: compiled by this torch.compile ({torch.__version__}), {missing[0]} "
            "has no gradient.  Take `training.compile=false`."
        )
    return time.perf_counter() - start


def _compile(blocks: Iterable[nn.Module]) -> None:
    """Compile blocks, each when it is first computed."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        for block in blocks:
            block.compile(dynamic=True)
    except RuntimeError as error:  # not for this version of Python, or without its lock
        raise TorchDynamoException(str(error)) from error


def _undo(blocks: Iterable[nn.Module]) -> None:
    """Let blocks be computed as they are."""
    for block in blocks:
        block._compiled_call_impl = None


def _names_with_gradient(
    model: nn.Module, loss_function: LossFunction, batches: Iterable[Any]
) -> list[str]:
    """Compute the gradients of some batches; return the names of the parameters that have one."""
    model.zero_grad(set_to_none=True)
    for batch in batches:
        loss = loss_function(model, batch).loss
        if loss.requires_grad:
            loss.backward()
    return [name for name, parameter in model.named_parameters() if parameter.grad is not None]
