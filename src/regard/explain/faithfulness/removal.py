"""What outputs become when features are removed, or kept alone, in order of importance.

This is what comprehensiveness, sufficiency and the curves of deletion and insertion are computed
from. A removed feature's embedding is replaced by that of the reference token, so no token moves.
Special tokens, and features that an output does not read, are neither removed nor counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from regard.explain.attribution import Budget
from regard.explain.prediction import Prediction

PERCENTS = tuple(range(10, 101, 10))
"""Of the features that are removed; those of ferret (Attanasio et al. 2023)."""


class Ranking(NamedTuple):
    """Features of one output in the order in which they are removed.

    Args:
        output: Index of the output.
        order: Indices of features, the most important first.
        num_features: Number of features that could be removed; `order` may hold fewer.
    """

    output: int
    order: Tensor
    num_features: int


class Effects(NamedTuple):
    """An output while features are removed, on the prediction's effect scale.

    Args:
        full: Output for the input as it is.
        counts: Numbers of removed or kept features, ``[n]``, rising, 1 or more.
        without: Without the most important features, ``[n]``.
        only: With the most important features alone, ``[n]``.
        none: Without any feature.
        num_features: Number of features that could be removed.
    """

    full: float
    counts: Tensor
    without: Tensor
    only: Tensor
    none: float
    num_features: int


def removable(prediction: Prediction) -> Tensor:
    """Return which features are removed and counted for each output, ``[outputs, features]``."""
    return prediction.reads & ~prediction.is_special


def rank_features(
    prediction: Prediction, scores: Tensor, output: int, *, positive_only: bool = False
) -> Ranking:
    """Order the features of an output by falling score; those without a score are last.

    Args:
        prediction: What is explained.
        scores: ``[features]``.
        output: Index of the output.
        positive_only: Whether features whose score is not above 0 are left out.

    Returns:
        The features in this order, with the number of those that can be removed.
    """
    features = removable(prediction)[output].nonzero()[:, 0]
    values = scores[features].nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = values.argsort(descending=True, stable=True)
    if positive_only:
        order = order[values[order] > 0]
    return Ranking(output, features[order], len(features))


def remove_in_order(
    prediction: Prediction, rankings: Sequence[Ranking], budget: Budget
) -> list[Effects]:
    """Compute outputs without the 10, 20, ... 100 % most important features, and with them alone.

    Percentages that amount to the same number of features count once.

    Args:
        prediction: What is explained.
        rankings: Features of outputs, in the order of removal.
        budget: Limit of memory, with the callback of progress.

    Returns:
        One for each ranking.
    """
    counts = [_counts(ranking) for ranking in rankings]
    weights: list[Tensor] = []
    outputs: list[int] = []
    is_removable = removable(prediction)
    for ranking, numbers in zip(rankings, counts, strict=True):
        empty = 1.0 - is_removable[ranking.output].float()
        rows = [torch.ones_like(empty), empty]
        for number in numbers:
            top = ranking.order[:number]
            rows += [torch.ones_like(empty).index_fill(0, top, 0.0), empty.index_fill(0, top, 1.0)]
        weights += rows
        outputs += [ranking.output] * len(rows)
    values = scores_of_rows(prediction, weights, outputs, budget)
    parts = values.split([2 + 2 * len(numbers) for numbers in counts])
    return [
        Effects(
            float(part[0]),
            torch.tensor(numbers, dtype=torch.long),
            part[2::2],
            part[3::2],
            float(part[1]),
            ranking.num_features,
        )
        for ranking, numbers, part in zip(rankings, counts, parts, strict=True)
    ]


def scores_of_rows(
    prediction: Prediction, weights: Sequence[Tensor], outputs: Sequence[int], budget: Budget
) -> Tensor:
    """Compute the output of each row on the effect scale; equal rows are computed once.

    Args:
        prediction: What is explained.
        weights: Weights of features, ``[features]`` each.
        outputs: Index of the output of each row.
        budget: Limit of memory, with the callback of progress.

    Returns:
        ``[rows]``, float64.
    """
    rows: dict[tuple[int, bytes], int] = {}
    index = [
        rows.setdefault((output, weight.numpy().tobytes()), len(rows))
        for weight, output in zip(weights, outputs, strict=True)
    ]
    first = torch.zeros(len(rows), dtype=torch.long)
    first[torch.tensor(index, dtype=torch.long)] = torch.arange(len(index))
    distinct = [weights[row] for row in first.tolist()]
    output = torch.tensor(outputs, dtype=torch.long)[first]
    values = torch.zeros(len(rows), dtype=torch.float64)
    for part in budget.chunks(prediction, len(rows), has_gradient=False):
        inputs = torch.stack(distinct[part])  # [rows, features]
        with torch.no_grad():
            scores = prediction.scores(inputs, outputs=output[part])
        values[part] = prediction.effect_scale(scores.double())
    return values[torch.tensor(index, dtype=torch.long)]


def _counts(ranking: Ranking) -> list[int]:
    """Return the distinct numbers of features that are removed, rising."""
    numbers = {
        min(ranking.num_features * percent // 100, len(ranking.order)) for percent in PERCENTS
    }
    return sorted(numbers - {0})
