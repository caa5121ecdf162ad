"""Soft, normalized comprehensiveness and sufficiency (Zhao & Aletras 2023).

"Incorporating Attribution Importance for Improving Faithfulness Metrics", section 3: in place of
whole tokens, each number of a token's embedding is set to 0 with a probability that the token's
score gives, so that the sizes of scores count and not their order alone. With scores a in 0 to 1,
x' kept with probability a, x'' with probability 1 - a, and 0 the input with all embeddings 0:

    S(z)    = 1 - max(0, p(x) - p(z))
    Soft-NS = (S(x') - S(0)) / (1 - S(0))
    Soft-NC = (1 - S(x'')) / (1 - S(0))

Both are between 0 and 1, and higher is better for both: "sufficiency" is here how much the
important part keeps. Special tokens stay as they are.
"""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

import torch
from torch import Tensor

from regard.explain.attribution import Budget
from regard.explain.faithfulness.removal import removable
from regard.explain.prediction import Prediction

NUM_DRAWS = 4
_SEED = 0


class SoftErasure(NamedTuple):
    """The two measures; NaN where erasing all features does not lower the output.

    Args:
        comprehensiveness: Soft-NC, 0 to 1; higher is better.
        sufficiency: Soft-NS, 0 to 1; higher is better.
    """

    comprehensiveness: float
    sufficiency: float


def soft_erasure(
    prediction: Prediction,
    scores: Tensor,
    output: int,
    budget: Budget,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = _SEED,
) -> SoftErasure:
    """Compute both measures of the scores of an output.

    Args:
        prediction: What is explained.
        scores: ``[features]``; they are scaled so that the smallest is 0 and the largest 1.
        output: Index of the output.
        budget: Limit of memory, with the callback of progress.
        num_draws: Random inputs x' and x'' over which p is averaged, 1 or more.
        seed: Seed of the draws.

    Returns:
        Both measures, 0 to 1; NaN where removing all features does not lower the output.
    """
    is_removable = removable(prediction)[output]
    importance = _scale(scores, is_removable)  # [features]
    dim = prediction.model.dim
    generator = torch.Generator().manual_seed(seed)
    num_rows = 2 + 2 * num_draws
    values = torch.zeros(num_rows, dtype=torch.float64)
    draws = torch.rand(num_draws, len(importance), dim, generator=generator)
    keeps = draws < importance[:, None]  # [draws, features, dim]
    stays = ~is_removable[:, None]
    rows = torch.cat(
        [
            torch.ones(1, *keeps.shape[1:], dtype=torch.bool),
            stays.expand(1, *keeps.shape[1:]),
            keeps | stays,
            ~keeps | stays,
        ]
    )
    for part in budget.chunks(prediction, num_rows, has_gradient=False):
        index = torch.full((part.stop - part.start,), output)
        with torch.no_grad():
            result = prediction.scores(rows[part].float(), baseline="zero", outputs=index)
        values[part] = prediction.effect_scale(result.double())
    full, empty = float(values[0]), float(values[1])
    with_important = float(values[2 : 2 + num_draws].mean())
    without_important = float(values[2 + num_draws :].mean())
    largest_drop = full - empty
    if not largest_drop > 0:
        return SoftErasure(math.nan, math.nan)
    return SoftErasure(
        comprehensiveness=min(max(0.0, full - without_important) / largest_drop, 1.0),
        sufficiency=max(0.0, 1.0 - max(0.0, full - with_important) / largest_drop),
    )


def mean_erasure(results: list[SoftErasure]) -> SoftErasure:
    """Return the means over outputs where they are defined."""
    defined = [result for result in results if not math.isnan(result.comprehensiveness)]
    if not defined:
        return SoftErasure(math.nan, math.nan)
    return SoftErasure(*(statistics.fmean(column) for column in zip(*defined, strict=True)))


def _scale(scores: Tensor, is_removable: Tensor) -> Tensor:
    """Scale the scores of removable features to 0 to 1; those without a score are 0."""
    values = scores[is_removable].nan_to_num(torch.nan, posinf=torch.nan, neginf=torch.nan)
    finite = values[~values.isnan()]
    result = torch.zeros_like(scores)
    if len(finite):
        low, high = finite.min(), finite.max()
        scaled = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)
        result[is_removable] = scaled.nan_to_num(0.0)
    return result
