"""Occlusion: what the output loses without a feature (leave-one-out).

Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.1; of text
Li, Monroe & Jurafsky 2016, "Understanding Neural Networks through Representation Erasure". The
feature's embedding is replaced by that of the reference token, so no other token moves.

Cost: a forward pass for each feature, for all outputs together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.prediction import Prediction


def occlusion(prediction: Prediction, budget: Budget) -> Attribution:
    """Compute what the score of each output loses without a feature.

    Args:
        prediction: What is explained.
        budget: Limit of memory, with the callback of progress.

    Returns:
        Scores; 0 for special tokens, which are never replaced.
    """
    with torch.no_grad():
        (full,) = prediction.scores(prediction.full_weights()).double()
    losses = full - leave_one_out(prediction, budget)
    losses = losses.masked_fill(prediction.is_special[:, None], 0.0).T
    return Attribution(losses.masked_fill(~prediction.reads, torch.nan))


def leave_one_out(prediction: Prediction, budget: Budget) -> Tensor:
    """Compute all scores without each feature in turn.

    Args:
        prediction: What is explained.
        budget: Limit of memory, with the callback of progress.

    Returns:
        ``[features, outputs]``, float64; NaN for special tokens.
    """
    features = (~prediction.is_special).nonzero()[:, 0]
    shape = len(prediction.features), len(prediction.outputs)
    scores = torch.full(shape, torch.nan, dtype=torch.float64)
    for rows in budget.chunks(prediction, len(features), has_gradient=False):
        weights = prediction.full_weights(rows.stop - rows.start)
        weights[torch.arange(len(weights)), features[rows]] = 0.0
        with torch.no_grad():
            scores[features[rows]] = prediction.scores(weights).double()
    return scores


OCCLUSION = Method("Occlusion", True, occlusion)
