"""Where a loss or a gradient ceased to be finite: the first layer, by running the batch again.

Nothing is watched while a run is sound; the cost, one forward pass, falls on the step that failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from regard.training.stability_monitor import norms_of, sublayer_of
from regard.training.training_config import OptimizerConfig

_NAMED = 3  # layers in a message; the others are counted


def find_non_finite_weights(model: nn.Module) -> list[str]:
    """Name the parts of a model whose weights are not all finite, first to last."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return find_non_finite(names, torch.stack(norms_of(parameters)))


def find_non_finite(names: Iterable[str], norms: Tensor) -> list[str]:
    """Name the parts whose norms are not finite.

    Args:
        names: Of the parameters.
        norms: Of them or of their gradients, ``[parameters]``.

    Returns:
        Each part once, in the order of the parameters.
    """
    norms_and_names = zip(names, norms.tolist(), strict=True)
    return list(
        dict.fromkeys(sublayer_of(n) for n, norm in norms_and_names if not math.isfinite(norm))
    )


def find_non_finite_output(model: nn.Module, compute: Callable[[], Tensor]) -> str:
    """Run a batch again and tell where its numbers cease to be finite.

    Args:
        model: Whose modules are watched meanwhile.
        compute: Computes the loss as the failed step did.

    Returns:
        One sentence.
    """
    with _watched(model) as found:
        loss = float(compute().detach())
    if found:
        return f"First not finite: the output of {found[0]}."
    if math.isfinite(loss):
        return "The same batch gives a finite loss when run again: is the memory sound?"
    return "First not finite: the loss itself, every layer's output is finite."


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Collect the modules with an output that is not finite, in the order they come to their end.

    A module ends after those within it, so that the first one is the innermost.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def check(module: nn.Module, given: object, output: object) -> None:  # noqa: ARG001
            parts = output if isinstance(output, tuple | list) else [output]
            if not all(bool(x.isfinite().all()) for x in parts if isinstance(x, Tensor)):
                found.append(sublayer_of(f"{name}.output"))

        return check

    handles = [
        module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def name_some(names: Sequence[str]) -> str:
    """Name a few of many.

    >>> name_some(["decoder.0.ffn", "encoder.0.ffn"])
    'decoder.0.ffn, encoder.0.ffn'
    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def advise(config: OptimizerConfig) -> str:
    """Suggest settings under which a run that has failed is more likely to stay finite.

    >>> advise(OptimizerConfig(learning_rate=0.02))
    'Try, with another `output`: `optimizer.learning_rate=0.0067` `optimizer.clip=0.5`'
    """
    rate = config.learning_rate
    slower = "" if rate is None else f" `optimizer.learning_rate={rate / 3:.2g}`"
    return f"Try, with another `output`:{slower} `optimizer.clip={config.clip / 2:.2g}`"
