"""How faithful the attributions of one prediction are, next to random ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.explain.attribution import Attribution, Budget
from regard.explain.attribution.occlusion import leave_one_out
from regard.explain.document import Faithfulness
from regard.explain.faithfulness.aopc import aopc
from regard.explain.faithfulness.rank_correlation import kendall_tau
from regard.explain.faithfulness.removal import (
    rank_features,
    removable,
    remove_in_order,
)
from regard.explain.faithfulness.removal_curves import removal_curves
from regard.explain.faithfulness.soft_erasure import mean_erasure, soft_erasure
from regard.explain.prediction import Prediction
from regard.explain.selected_outputs import SelectedOutputs, spread_indices

MOST_OUTPUTS = 8  # that are measured, evenly spread over all
_RANDOM_RANKINGS = 8  # at least, over all measured outputs
_SEED = 0


class Measures(NamedTuple):
    """What is measured of an attribution, means over outputs; NaN where it is not defined.

    Args:
        comprehensiveness: Probability lost without the highest scores; higher is better.
        sufficiency: Probability lost with the highest scores alone; lower is better.
        tau: Rank correlation with leave-one-out, -1 to 1.
        soft_comprehensiveness: Soft-NC, 0 to 1; higher is better.
        soft_sufficiency: Soft-NS, 0 to 1; higher is better.
        deletion_area: Under the curve of deletion; lower is better.
        insertion_area: Under the curve of insertion; higher is better.
        deletion: The curve at 0, 10, ... 100 % of the features.
        insertion: The other curve.
    """

    comprehensiveness: float
    sufficiency: float
    tau: float
    soft_comprehensiveness: float
    soft_sufficiency: float
    deletion_area: float
    insertion_area: float
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


class FaithfulnessMeter:
    """Measures attributions of one prediction; what they share is computed once.

    Args:
        prediction: What is explained.
        budget: Limit of memory; its `on_progress` is not called.
        most_outputs: Outputs that are measured, 1 or more; see `measurable_outputs`.
        positive_only: Whether features whose score is not above 0 are never removed.
        is_soft: Whether the soft measures are computed, which take as long as the others.
        occlusion: Scores of all outputs by occlusion, where they are known: passes of leave-one-out
            are then not needed again.
    """

    def __init__(
        self,
        prediction: Prediction,
        budget: Budget | None = None,
        *,
        most_outputs: int = MOST_OUTPUTS,
        positive_only: bool = False,
        is_soft: bool = True,
        occlusion: Attribution | None = None,
    ) -> None:
        self._budget = Budget() if budget is None else Budget(budget.memory)
        self._positive_only, self._is_soft = positive_only, is_soft
        self._indices = measurable_outputs(prediction, most_outputs)
        self._prediction = SelectedOutputs(prediction, self._indices)
        self._occlusion = occlusion

    @property
    def outputs(self) -> list[int]:
        """Indices of the outputs that are measured; none where nothing can be removed."""
        return self._indices.tolist()

    def measure(self, attribution: Attribution) -> Measures | None:
        """Measure an attribution of the prediction.

        Args:
            attribution: Attribution of all outputs.

        Returns:
            Means over the measured outputs; None where there are none.
        """
        outputs = range(len(self._indices))
        return self._measure([attribution.scores[index] for index in self.outputs], outputs)

    @cached_property
    def random(self) -> Measures | None:
        """The same of random scores, each output with enough of them for a mean of eight."""
        num_outputs = len(self._indices)
        if not num_outputs:
            return None
        outputs = list(range(num_outputs)) * math.ceil(_RANDOM_RANKINGS / num_outputs)
        generator = torch.Generator().manual_seed(_SEED)
        shape = len(outputs), len(self._prediction.features)
        return self._measure(torch.rand(shape, generator=generator, dtype=torch.float64), outputs)

    @cached_property
    def _losses(self) -> Tensor:
        """What each output loses without each feature, ``[outputs, features]``."""
        prediction = self._prediction
        with torch.no_grad():
            full = prediction.scores(prediction.full_weights()).double()[0][:, None]
        if self._occlusion is None:
            without = leave_one_out(prediction, self._budget).T
        else:
            without = full - self._occlusion.scores[self._indices]
        return prediction.effect_scale(full) - prediction.effect_scale(without)

    def _measure(self, rows: Sequence[Tensor] | Tensor, outputs: Sequence[int]) -> Measures | None:
        if not len(outputs):
            return None
        prediction, budget = self._prediction, self._budget
        pairs = [*zip(rows, outputs, strict=True)]
        rankings = [
            rank_features(prediction, *pair, positive_only=self._positive_only) for pair in pairs
        ]
        effects = remove_in_order(prediction, rankings, budget)
        comprehensiveness, sufficiency = zip(*map(aopc, effects), strict=True)
        curves = zip(*map(removal_curves, effects), strict=True)
        deletion, insertion, deletion_area, insertion_area = curves
        soft_pairs = pairs if self._is_soft else []
        soft = mean_erasure([soft_erasure(prediction, *pair, budget) for pair in soft_pairs])
        return Measures(
            comprehensiveness=statistics.fmean(comprehensiveness),
            sufficiency=statistics.fmean(sufficiency),
            tau=_mean_defined([self._tau(*pair) for pair in pairs]),
            soft_comprehensiveness=soft.comprehensiveness,
            soft_sufficiency=soft.sufficiency,
            deletion_area=statistics.fmean(deletion_area),
            insertion_area=statistics.fmean(insertion_area),
            deletion=np.mean(deletion, axis=0),
            insertion=np.mean(insertion, axis=0),
        )

    def _tau(self, scores: Tensor, output: int) -> float:
        """Return the rank correlation of the scores of an output with what it loses."""
        is_compared = removable(self._prediction)[output] & ~scores.isnan()
        losses = self._losses[output]
        return kendall_tau(scores[is_compared].numpy(), losses[is_compared].numpy())


def measurable_outputs(prediction: Prediction, most: int) -> Tensor:
    """Return outputs that read a feature that can be removed, evenly spread.

    Args:
        prediction: What is explained.
        most: Most of them, 1 or more.

    Returns:
        Their indices, ``[n]``.
    """
    indices = removable(prediction).any(-1).nonzero()[:, 0]
    return indices[spread_indices(len(indices), most)]


def measure_faithfulness(
    prediction: Prediction,
    attribution: Attribution,
    budget: Budget | None = None,
    *,
    meter: FaithfulnessMeter | None = None,
) -> Faithfulness | None:
    """Measure how faithful an attribution is, next to random scores.

    Args:
        prediction: What is explained.
        attribution: Attribution of all outputs.
        budget: Limit of memory, with the callback of progress.
        meter: Meter of the same prediction, to share what all attributions need; None makes one.

    Returns:
        Means over the outputs; None where no output reads a feature that can be removed.
    """
    meter = meter or FaithfulnessMeter(prediction, budget)
    measures, floor = meter.measure(attribution), meter.random
    if measures is None or floor is None:
        return None
    return Faithfulness(
        comprehensiveness=measures.comprehensiveness,
        sufficiency=measures.sufficiency,
        tau=_or_none(measures.tau),
        soft_comprehensiveness=_or_none(measures.soft_comprehensiveness),
        soft_sufficiency=_or_none(measures.soft_sufficiency),
        deletion=measures.deletion.tolist(),
        insertion=measures.insertion.tolist(),
        random={
            name: value
            for name in ("comprehensiveness", "sufficiency", "tau")
            if not math.isnan(value := getattr(floor, name))
        },
    )


def _mean_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
