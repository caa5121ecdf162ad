"""Gradient times input: what the output would lose if it were linear in the embeddings.

Denil, Demiraj & de Freitas 2014, "Extraction of Salient Sentences from Labelled Documents",
section 4; the sum over a token's embedding of gradient times embedding. The gradient says what a
very small change does, so the scores do not sum to anything.

Cost: a forward and a backward pass for each output.
"""

from __future__ import annotations

import torch

from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.attribution.weight_gradients import weight_gradients
from regard.explain.prediction import Prediction


def gradient_input(prediction: Prediction, budget: Budget) -> Attribution:
    """Compute gradient times input of each output.

    Args:
        prediction: What is explained.
        budget: Limit of memory, with the callback of progress.

    Returns:
        Scores; those of special tokens too, whose embeddings are not zeros.
    """
    num_outputs = len(prediction.outputs)
    scores = torch.zeros(num_outputs, len(prediction.features), dtype=torch.float64)
    for rows in budget.chunks(prediction, num_outputs):
        outputs = torch.arange(rows.start, rows.stop)
        points = torch.ones(len(outputs))
        scores[rows] = weight_gradients(prediction, points, outputs, baseline="zero")
    return Attribution(scores.masked_fill(~prediction.reads, torch.nan))


GRADIENT_INPUT = Method("Gradient x input", True, gradient_input)
