"""The first layer with a loss or a gradient that is not finite, by running the batch again.

Nothing is recorded while a run is sound; the cost, one forward pass, is paid by the step that
failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from regard.training.stability_monitor import sublayer_of
from regard.training.tensor_norms import norms_of
from regard.training.training_config import OptimizerConfig

ALL_FINITE = "The same batch gives a finite loss when run again: is the memory sound?"
"""What is reported where no layer's output is found."""
_NUM_NAMED = 3  # layers in a message; the others are counted


def find_non_finite_weights(model: nn.Module) -> list[str]:
    """Return the parts of a model whose weights are not all finite, first to last."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return find_non_finite(names, torch.stack(norms_of(parameters)))


def find_non_finite(names: Iterable[str], norms: Tensor) -> list[str]:
    """Return the parts whose norms are not finite.

    Args:
        names: Of the parameters.
        norms: Of them or of their gradients, ``[parameters]``.

    Returns:
        Each part once, in the order of the parameters.
    """
    named_norms = zip(names, norms.tolist(), strict=True)
    return list(
        dict.fromkeys(sublayer_of(name) for name, norm in named_norms if not math.isfinite(norm))
    )


def find_non_finite_output(model: nn.Module, compute: Callable[[], Tensor]) -> str:
    """Run a batch again and report the first layer whose output is not finite.

    Args:
        model: Its modules are watched meanwhile.
        compute: Computes the loss as the failed step did.

    Returns:
        One sentence.
    """
    # A module ends after those within it, so that the first one is the innermost.
    damaged: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def check(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001
            parts = output if isinstance(output, tuple | list) else [output]
            if not all(bool(x.isfinite().all()) for x in parts if isinstance(x, Tensor)):
                damaged.append(sublayer_of(f"{name}.output"))

        return check

    named_modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(watch(name)) for name, module in named_modules]
    try:
        loss = float(compute().detach())
    finally:
        for handle in handles:
            handle.remove()
    if damaged:
        return f"First not finite: the output of {damaged[0]}."
    if math.isfinite(loss):
        return ALL_FINITE
    return "First not finite: the loss itself, every layer's output is finite."


def shorten_list(names: Sequence[str]) -> str:
    """Return the first names of a list, and the number of the others.

    >>> shorten_list(["decoder.0.ffn", "encoder.0.ffn"])
    'decoder.0.ffn, encoder.0.ffn'
    >>> shorten_list(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    num_more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {num_more} more" if num_more > 0 else "")


def suggest_settings(config: OptimizerConfig) -> str:
    """Return settings under which a run that has failed is more likely to stay finite.

    >>> suggest_settings(OptimizerConfig(learning_rate=0.02))
    'Try, with another `output`: `optimizer.learning_rate=0.0067` `optimizer.clip=0.5`'
    >>> suggest_settings(OptimizerConfig(clip=math.inf))
    'Try, with another `output`: `optimizer.clip=1`'
    """
    rate, clip = config.learning_rate, config.clip / 2 if math.isfinite(config.clip) else 1.0
    lower_rate = "" if rate is None else f" `optimizer.learning_rate={rate / 3:.2g}`"
    return f"Try, with another `output`:{lower_rate} `optimizer.clip={clip:.2g}`"
