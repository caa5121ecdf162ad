"""What the heads of attention give to the rest of a model, read and replaced head by head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from regard.layers import MesaMixer, MultiHeadAttention, Seq2SeqAttention

Mixing = MultiHeadAttention | MesaMixer | Seq2SeqAttention
"""A layer whose positions read each other, in one head or several."""


def mixing_layers(model: nn.Module) -> dict[str, Mixing]:
    """Return the layers with heads by path, first to last."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Mixing)}


def num_heads(layer: Mixing) -> int:
    """Return the number of heads of a layer."""
    return 1 if isinstance(layer, Seq2SeqAttention) else layer.num_heads


@contextmanager
def replace_head_outputs(
    replacements: Mapping[nn.Module, Callable[[Tensor], Tensor]],
) -> Iterator[None]:
    """Replace what heads give while a block of code runs.

    Args:
        replacements: For each layer, a function from the outputs of its heads, before the output
            map, ``[batch, queries, heads, value_dim]``, to what replaces them.
    """
    with ExitStack() as stack:
        for layer, replace in replacements.items():
            if isinstance(layer, Seq2SeqAttention):
                handle = layer.register_forward_hook(
                    lambda _module, _inputs, output, replace=replace: replace(output[:, :, None])[
                        :, :, 0
                    ]
                )
            elif isinstance(layer, MultiHeadAttention | MesaMixer):
                handle = layer.output.register_forward_pre_hook(
                    lambda _module, inputs, replace=replace, heads=layer.num_heads: (
                        replace(inputs[0].unflatten(-1, (heads, -1))).flatten(-2),
                    )
                )
            else:
                raise TypeError(f"{type(layer).__name__} has no heads")
            stack.callback(handle.remove)
        yield
