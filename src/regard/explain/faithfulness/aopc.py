"""Comprehensiveness and sufficiency of a ranking of features (DeYoung et al. 2020, "ERASER").

    comprehensiveness = mean over k of p(x) - p(x without its k % most important features)
    sufficiency       = mean over k of p(x) - p(the k % most important features alone)

This mean over the sizes k is the area over the perturbation curve (AOPC), here over the sizes 10,
20, ... 100 % of ferret (Attanasio et al. 2023). Higher comprehensiveness and lower sufficiency are
better.
"""

from __future__ import annotations

from typing import NamedTuple

from regard.explain.faithfulness.removal import Effects


class Aopc(NamedTuple):
    """How much an output loses.

    Args:
        comprehensiveness: Without the most important features.
        sufficiency: With the most important features alone.
    """

    comprehensiveness: float
    sufficiency: float


def aopc(effects: Effects) -> Aopc:
    """Compute the mean losses over the numbers of features.

    Where no feature is important, nothing is lost without them, and all with them alone: 0 and 1,
    as ferret has it.

    Args:
        effects: Effects of removing features.

    Returns:
        The mean loss without the important features, and with them alone.
    """
    if not len(effects.counts):
        return Aopc(0.0, 1.0)
    return Aopc(
        float((effects.full - effects.without).mean()), float((effects.full - effects.only).mean())
    )
