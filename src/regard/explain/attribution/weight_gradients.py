"""Gradients of scores by the weights of features, which gradient methods share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from regard.explain.prediction import Baseline, Prediction
from regard.models import Model


def weight_gradients(
    prediction: Prediction, points: Tensor, outputs: Tensor, *, baseline: Baseline = "reference"
) -> Tensor:
    """Compute the derivatives of scores by the weights of all features.

    Each is the sum over a feature's embedding of gradient times difference to the baseline.

    Args:
        prediction: What is explained.
        points: For each row the weight that all its features have, ``[rows]``.
        outputs: For each row the output that is derived, ``[rows]``.
        baseline: What a weight of 0 has in place of an embedding.

    Returns:
        ``[rows, features]``, float64.
    """
    with torch.inference_mode(False), torch.enable_grad(), _frozen(prediction.model):
        weights = points.double()[:, None].repeat(1, len(prediction.features)).requires_grad_()
        scores = prediction.scores(weights, baseline=baseline, outputs=outputs)
        (gradients,) = torch.autograd.grad(scores.sum(), weights)
    return gradients


def path_gradients(
    prediction: Prediction,
    points: Tensor,
    point_weights: Tensor,
    outputs: Tensor,
    *,
    baseline: Baseline = "reference",
) -> Tensor:
    """Compute weighted sums over points of the derivatives by the weights of all features.

    All outputs share the forward passes.

    Args:
        prediction: What is explained.
        points: Weight that all features have, of each point, ``[points]``.
        point_weights: Factor on the derivatives of each point, ``[points]``.
        outputs: Indices of the outputs that are derived, ``[n]``.
        baseline: What a weight of 0 has in place of an embedding.

    Returns:
        ``[n, features]``, float64.
    """
    # Copies below: a tensor of inference mode cannot be saved for the backward pass.
    with torch.inference_mode(False), torch.enable_grad(), _frozen(prediction.model):
        weights = points.double()[:, None].repeat(1, len(prediction.features)).requires_grad_()
        scores = prediction.scores(weights, baseline=baseline)[:, outputs.clone()]  # [points, n]
        totals = (scores * point_weights.clone().to(scores.dtype)[:, None]).sum(0)
        gradients = []
        for index, total in enumerate(totals):
            is_last = index == len(totals) - 1
            (gradient,) = torch.autograd.grad(total, weights, retain_graph=not is_last)
            gradients.append(gradient.sum(0))
    return torch.stack(gradients)


@contextmanager
def _frozen(model: Model) -> Iterator[None]:
    """Compute no gradients of parameters in a block of code: they would double the time."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_()
