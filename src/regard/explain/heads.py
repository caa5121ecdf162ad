"""What each head of attention does for a prediction (Michel, Levy & Neubig 2019).

A head is removed by a mask of 0 on its part of the input of the output map (their equation 1), and
its effect is the change of the outputs' mean score, such as a log-probability. Its importance is
the derivative by that mask, ``|d score / d mask|`` (equation 2, for one input), which takes one
pass for all heads together and is a first-order guess of the effect. Cost of effects: a row of a
pass for every head, divided to stay within a memory budget; of importance: a pass and its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from regard.explain.attribution.method import Budget
from regard.explain.head_outputs import Mixing, head_layers, replace_head_outputs
from regard.explain.prediction import Prediction


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
    heads = [(path, head) for path, count in layers.items() for head in range(count.num_heads)]
    if not heads:
        return {}
    with torch.no_grad():
        whole = prediction.scores(prediction.full_weights()).mean()
        changes = []
        for part in budget.chunks(prediction, len(heads), has_gradient=False):
            rows = heads[part]
            masks: dict[str, Tensor] = {}  # [rows, heads]
            for row, (path, head) in enumerate(rows):
                masks.setdefault(path, torch.ones(len(rows), layers[path].num_heads))
                masks[path][row, head] = 0.0
            replacements: dict[Mixing, Callable[[Tensor], Tensor]] = {
                layers[path]: partial(_weigh, mask=mask) for path, mask in masks.items()
            }
            with replace_head_outputs(replacements):
                scores = prediction.scores(prediction.full_weights(len(rows)))
            changes += (scores.mean(-1) - whole).tolist()
    effects: dict[str, list[float]] = {path: [] for path in layers}
    for (path, _), change in zip(heads, changes, strict=True):
        effects[path].append(change)
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
    return output * mask.to(output.dtype)[:, None, :, None]
