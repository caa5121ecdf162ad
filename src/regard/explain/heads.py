"""What each head of attention does for a prediction (Michel, Levy & Neubig 2019).

A head is removed by a mask of 0 on its part of the input of the output map (their variable xi), and
its effect is the change of the outputs' mean score, such as a log-probability. Its importance is
the derivative by that mask, ``|d score / d mask|`` (their equation 2, for one input). It takes one
pass for all heads together and is a first-order guess of the effect. Cost of effects: a row of a
pass for every head, from its block of a Transformer on (the blocks before it give the same as
without the mask), divided to stay within a memory budget; of importance: a pass and its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from regard.explain.attribution.method import Budget
from regard.explain.capture import find_block
from regard.explain.head_outputs import Mixing, head_layers, replace_head_outputs
from regard.explain.prediction import Prediction, record_outputs
from regard.layers import DecoderBlock, TransformerBlock


def head_effects(
    prediction: Prediction,
    budget: Budget = Budget(),  # noqa: B008 - an immutable value
) -> dict[str, list[float]]:
    """Compute the change of the outputs' mean score when each head is removed.

    Args:
        prediction: That is explained.
        budget: Memory, and what hears of the progress, head by head.

    Returns:
        For each layer with heads, by its path, a number for each head; below 0 where the head helps
        the outputs. Empty without such layers.
    """
    layers = head_layers(prediction)
    if not layers:
        return {}
    num_heads, num_done = sum(layer.num_heads for layer in layers.values()), 0
    chunks = Budget(budget.memory)
    effects: dict[str, list[float]] = {path: [] for path in layers}
    with torch.no_grad():
        whole, outputs = _run_whole(prediction)
        for path, layer in layers.items():
            before = _blocks_before(prediction, layer)
            reused = {block: output for block, output in outputs.items() if block in before}
            for part in chunks.chunks(prediction, layer.num_heads, has_gradient=False):
                mask = 1 - torch.eye(layer.num_heads)[part]  # [rows, heads]
                replacements: dict[Mixing, Callable[[Tensor], Tensor]] = {
                    layer: partial(_weigh, mask=mask)
                }
                with replace_head_outputs(replacements), _reuse(reused, rows=len(mask)):
                    scores = prediction.scores(prediction.full_weights(len(mask)))
                effects[path] += (scores.mean(-1) - whole).tolist()
                num_done += len(mask)
                if budget.on_progress is not None:
                    budget.on_progress(num_done, num_heads)
    return effects


def head_importance(prediction: Prediction) -> dict[str, list[float]]:
    """Compute the derivative of the outputs' mean score by the mask of each head.

    Args:
        prediction: That is explained.

    Returns:
        For each layer with heads, by its path, the size of the derivative for each head.
    """
    layers = head_layers(prediction)
    masks = {path: torch.ones(1, layer.num_heads) for path, layer in layers.items()}
    if not masks:
        return {}
    for mask in masks.values():
        mask.requires_grad_()
    replacements: dict[Mixing, Callable[[Tensor], Tensor]] = {
        layers[path]: partial(_weigh, mask=mask) for path, mask in masks.items()
    }
    with torch.enable_grad(), replace_head_outputs(replacements):
        score = prediction.scores(prediction.full_weights()).mean()
        gradients = torch.autograd.grad(score, list(masks.values()), materialize_grads=True)
    return {
        path: gradient[0].abs().tolist() for path, gradient in zip(masks, gradients, strict=True)
    }


def _weigh(output: Tensor, *, mask: Tensor) -> Tensor:
    """Multiply the heads of ``[rows, queries, heads, value_dim]`` by a mask, ``[rows, heads]``."""
    return output * mask.to(output)[:, None, :, None]


def _run_whole(prediction: Prediction) -> tuple[Tensor, dict[nn.Module, Tensor]]:
    """Return the mean score, and the outputs of a Transformer's blocks, ``[1, length, dim]``."""
    blocks = {
        f"{stack.name}.{depth}": block
        for stack in prediction.stacks
        for depth, block in enumerate(stack.layers)
        if isinstance(block, TransformerBlock | DecoderBlock)
    }
    scores: list[Tensor] = []
    outputs = record_outputs(
        blocks, lambda: scores.append(prediction.scores(prediction.full_weights()))
    )
    return scores[0].mean(), {blocks[name]: output for name, output in outputs.items()}


def _blocks_before(prediction: Prediction, layer: Mixing) -> set[nn.Module]:
    """Return the blocks that do not read what a layer computes."""
    number, depth = find_block(prediction.stacks, layer)
    blocks: set[nn.Module] = set(prediction.stacks[number].layers[:depth])
    for other, stack in enumerate(prediction.stacks):
        reads_layer = number == 0 and prediction.has_encoder
        if other != number and not reads_layer:
            blocks.update(stack.layers)
    return blocks


@contextmanager
def _reuse(outputs: dict[nn.Module, Tensor], *, rows: int) -> Iterator[None]:
    """Let blocks give an output of before, in every row, while a block of code runs."""
    with ExitStack() as stack:
        for block, output in outputs.items():
            repeated = output.expand(rows, -1, -1)  # [rows, length, dim]
            stack.callback(delattr, block, "forward")  # that of the class is back
            block.forward = lambda *_, repeated=repeated, **__: repeated
        yield
