"""Random scores: the floor that a method of attribution has to beat."""

from __future__ import annotations

import zlib

import torch

from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.prediction import Prediction


def random_scores(prediction: Prediction, budget: Budget) -> Attribution:  # noqa: ARG001
    """Draw scores between 0 and 1, by a seed that the texts of the features give.

    Args:
        prediction: What is explained.
        budget: Not needed.

    Returns:
        Scores, the same for the same prediction.
    """
    texts = "\0".join(feature.text for feature in prediction.features)
    generator = torch.Generator().manual_seed(zlib.crc32(texts.encode()))
    shape = len(prediction.outputs), len(prediction.features)
    scores = torch.rand(shape, generator=generator, dtype=torch.float64)
    return Attribution(scores.masked_fill(~prediction.reads, torch.nan))


RANDOM = Method("Random", False, random_scores, "0 to 1", is_default=False)
