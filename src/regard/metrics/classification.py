"""Accuracy with its interval, and macro-averaged F1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def accuracy(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Compute the share of right answers, in percent.

    >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
    75.0
    """
    return 100.0 * float(np.mean(np.asarray(found) == np.asarray(wanted)))


def wilson_interval(percent: float, num_rows: int, z: float = 1.96) -> tuple[float, float]:
    """Compute the interval of a share (Wilson 1927), in percent; 95 % with the default z.

    >>> [round(bound, 1) for bound in wilson_interval(75.0, 100)]
    [65.7, 82.5]
    """
    share, ratio = percent / 100, z * z / num_rows
    centre = (share + ratio / 2) / (1 + ratio)
    half = math.sqrt(share * (1 - share) * ratio + ratio * ratio / 4) / (1 + ratio)
    return 100 * (centre - half), 100 * (centre + half)


def macro_f1(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Compute the mean over the labels of the harmonic mean of precision and recall, in percent.

    Labels that are neither wanted nor found are left out.

    >>> round(macro_f1([0, 1, 1, 1], [0, 1, 1, 0]), 2)
    73.33
    """
    answers, truth = np.asarray(found), np.asarray(wanted)
    scores = []
    for label in np.union1d(answers, truth):
        hits = int(((answers == label) & (truth == label)).sum())
        scores.append(2 * hits / (int((answers == label).sum()) + int((truth == label).sum())))
    return 100.0 * float(np.mean(scores))
