"""The control of an explanation: the same prediction by a model with shuffled weights.

An attribution that hardly changes when the weights are shuffled says something about the input, and
little about what the model has learned (Adebayo et al. 2018, "Sanity Checks for Saliency Maps").
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from regard.explain.prediction import Prediction

P = TypeVar("P", bound=Prediction)
_SEED = 0


def shuffle_weights(prediction: P, seed: int = _SEED) -> P:
    """Return the same prediction by a copy of its model whose weights are shuffled.

    The numbers of every weight are permuted, so that their distribution stays; biases and norms are
    permuted, too. The outputs that are explained stay those of the trained model.

    Args:
        prediction: Prediction of the trained model, which is not changed.
        seed: Seed of the permutations.
    """
    shuffled = copy.deepcopy(prediction)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in shuffled.model.parameters():  # tied ones once
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    shuffled.refresh()
    return shuffled
