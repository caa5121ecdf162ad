"""Accuracy with its interval, and macro-averaged F1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the fraction of correct predictions, in percent.

    >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
    75.0
    """
    return 100.0 * float(np.mean(np.asarray(predictions) == np.asarray(labels)))


def wilson_interval(percent: float, num_rows: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a fraction (Wilson 1927), in percent; 95 % with the default z.

    >>> [round(bound, 1) for bound in wilson_interval(75.0, 100)]
    [65.7, 82.5]
    >>> wilson_interval(100.0, 60)[1]
    100.0
    """
    fraction, ratio = percent / 100, z * z / num_rows
    centre = (fraction + ratio / 2) / (1 + ratio)
    half = math.sqrt(fraction * (1 - fraction) * ratio + ratio * ratio / 4) / (1 + ratio)
    # Rounding must not leave the fraction outside: the bound of 0 is 0, that of 1 is 1.
    return min(percent, 100 * (centre - half)), max(percent, 100 * (centre + half))


def macro_f1(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the mean over the labels of the harmonic mean of precision and recall, in percent.

    Labels that occur in neither list are left out.

    >>> round(macro_f1([0, 1, 1, 1], [0, 1, 1, 0]), 2)
    73.33
    """
    scores = []
    for label in np.union1d(predictions, labels):
        is_predicted, is_true = np.asarray(predictions) == label, np.asarray(labels) == label
        num_hits = int((is_predicted & is_true).sum())
        scores.append(2 * num_hits / (int(is_predicted.sum()) + int(is_true.sum())))
    return 100.0 * float(np.mean(scores))
