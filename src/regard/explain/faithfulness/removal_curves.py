"""Deletion and insertion curves: an output while features disappear, or appear.

Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
section 4.2. A faithful ranking makes the output fall early in deletion (a small area under the
curve is better), and rise early in insertion (a large area is better).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.explain.faithfulness.removal import Effects

NUM_POINTS = 11  # at 0, 10, ... 100 % of the features


class RemovalCurves(NamedTuple):
    """An output over the fraction of features removed or added, with areas under the curves.

    Args:
        deletion: Without the most important fraction, ``[11]``.
        insertion: With the most important fraction alone, ``[11]``.
        deletion_area: Mean height of the first curve; lower is better.
        insertion_area: Mean height of the second; higher is better.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion_area: float
    insertion_area: float


def removal_curves(effects: Effects) -> RemovalCurves:
    """Draw straight lines between the measured points, and compute the areas under them.

    Args:
        effects: Effects of removing features; all of them are removed in the end.

    Returns:
        Both curves at `NUM_POINTS` equidistant fractions from 0 to 1, and the areas under them.
    """
    inside = effects.counts < effects.num_features
    fractions = effects.counts[inside].numpy() / max(effects.num_features, 1)
    ends = np.array([0.0]), np.array([1.0])
    x = np.concatenate([ends[0], fractions, ends[1]])
    deletion = np.concatenate([[effects.full], effects.without[inside].numpy(), [effects.none]])
    insertion = np.concatenate([[effects.none], effects.only[inside].numpy(), [effects.full]])
    grid = np.linspace(0, 1, NUM_POINTS)
    return RemovalCurves(
        np.interp(grid, x, deletion),
        np.interp(grid, x, insertion),
        float(np.trapezoid(deletion, x)),
        float(np.trapezoid(insertion, x)),
    )
