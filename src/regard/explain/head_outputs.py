"""What the heads of attention give to the rest of a model, read and replaced head by head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from regard.explain.prediction import Prediction, require_prediction
from regard.layers import MesaMixer, MultiHeadAttention, Seq2SeqAttention

Mixing = MultiHeadAttention | MesaMixer | Seq2SeqAttention
"""A layer whose positions read each other, in one head or several."""


def head_layers(prediction: Prediction) -> dict[str, Mixing]:
    """Return the layers with heads of a prediction's model by path, encoder first."""
    require_prediction(prediction)
    return {
        path: module
        for path, module in prediction.model.named_modules()
        if isinstance(module, Mixing)
    }


@contextmanager
def replace_head_outputs(
    replacements: Mapping[Mixing, Callable[[Tensor], Tensor]],
) -> Iterator[None]:
    """Replace what heads give while a block of code runs.

    Args:
        replacements: For each layer, a function from the outputs of its heads, before the output
            map, ``[batch, queries, heads, value_dim]``, to what replaces them.
    """
    with ExitStack() as stack:
        for layer, replace in replacements.items():
            stack.callback(_hook(layer, replace).remove)
        yield


def _hook(layer: Mixing, replace: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Replace the outputs of the heads of one layer until the handle is removed."""
    if isinstance(layer, Seq2SeqAttention):  # one head, and no output map

        def replace_output(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return replace(output[:, :, None])[:, :, 0]  # [batch, length, 1, dim] within

        return layer.register_forward_hook(replace_output)
    heads = layer.num_heads

    def replace_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        by_head = inputs[0].unflatten(-1, (heads, -1))  # [batch, length, heads, head_dim]
        return (replace(by_head).flatten(-2),)

    return layer.output.register_forward_pre_hook(replace_input)
