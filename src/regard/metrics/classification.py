"""Accuracy with its interval, macro-averaged F1, and the reliability of probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from regard.errors import DataError, ShapeError
from regard.metrics.bootstrap import require_aligned

_ROUNDING = 1e-5  # of a probability in float32


def accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the fraction of correct predictions, in percent.

    Args:
        predictions: Predicted labels.
        labels: The true ones.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.

    >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
    75.0
    """
    require_aligned(predictions, labels, "predictions")
    return 100.0 * float(np.mean(np.asarray(predictions) == np.asarray(labels)))


def wilson_interval(percent: float, num_rows: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a fraction (Wilson 1927), in percent; 95 % with the default z.

    Args:
        percent: The fraction, 0 to 100.
        num_rows: Rows that it was counted on, 1 or more.
        z: Half the width of the interval in standard deviations.

    Raises:
        DataError: The fraction or the number of rows is out of range.

    >>> [round(bound, 1) for bound in wilson_interval(75.0, 100)]
    [65.7, 82.5]
    >>> wilson_interval(100.0, 60)[1]
    100.0
    """
    if not 0 <= percent <= 100 or num_rows < 1:
        raise DataError(f"{percent} % of {num_rows} rows: 0 to 100 % of 1 or more was expected.")
    fraction, ratio = percent / 100, z * z / num_rows
    centre = (fraction + ratio / 2) / (1 + ratio)
    half = math.sqrt(fraction * (1 - fraction) * ratio + ratio * ratio / 4) / (1 + ratio)
    # Rounding must not leave the fraction outside: the bound of 0 is 0, that of 1 is 1.
    return min(percent, 100 * (centre - half)), max(percent, 100 * (centre + half))


def macro_f1(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the mean over the labels of the harmonic mean of precision and recall, in percent.

    Labels that occur in neither list are left out.

    Args:
        predictions: Predicted labels.
        labels: The true ones.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.

    >>> round(macro_f1([0, 1, 1, 1], [0, 1, 1, 0]), 2)
    73.33
    """
    require_aligned(predictions, labels, "predictions")
    scores = []
    for label in np.union1d(predictions, labels):
        is_predicted, is_true = np.asarray(predictions) == label, np.asarray(labels) == label
        num_hits = int((is_predicted & is_true).sum())
        scores.append(2 * num_hits / (int(is_predicted.sum()) + int(is_true.sum())))
    return 100.0 * float(np.mean(scores))


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """How often labels are correct, by the probability that a classifier gives them.

    Args:
        counts: Rows of each bin; the bins divide 0 to 1 evenly.
        confidence: Mean probability in each bin; 0 in an empty one.
        accuracy: Fraction of correct labels in each bin; 0 in an empty one.
    """

    counts: list[int]
    confidence: list[float]
    accuracy: list[float]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, 0 to 100 (Guo et al. 2017, equation 3)."""
        gaps = (abs(a - c) for a, c in zip(self.accuracy, self.confidence, strict=True))
        total = sum(count * gap for count, gap in zip(self.counts, gaps, strict=True))
        return 100 * total / max(1, sum(self.counts))


def reliability(
    probabilities: Sequence[float], is_correct: Sequence[bool], *, num_bins: int = 10
) -> Reliability:
    """Divide predicted labels into bins by their probability.

    Args:
        probabilities: Probability of each predicted label, 0 to 1.
        is_correct: Whether each is the true one.
        num_bins: Number of bins.

    Returns:
        The rows, mean probability and fraction of correct labels of each bin.

    Raises:
        DataError: A probability is not within 0 to 1.
        ShapeError: The lengths differ.

    >>> bins = reliability([0.95, 0.85, 0.81], [True, True, False])
    >>> bins.counts[8:], bins.accuracy[8:], round(bins.calibration_error, 1)
    ([2, 1], [0.5, 1.0], 23.7)
    """
    if len(probabilities) != len(is_correct):
        raise ShapeError(
            f"there are {len(probabilities):,} probabilities and {len(is_correct):,} answers of "
            "whether they are right.  Give one for each."
        )
    values = np.nan_to_num(np.asarray(probabilities, dtype=float))  # of weights that are not finite
    if len(values) and (values.min() < 0 or values.max() > 1 + _ROUNDING):
        raise DataError(f"probabilities are {values.min()} to {values.max()}; expected 0 to 1.")
    correct = np.asarray(is_correct, dtype=float)
    bins = np.minimum((values * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = (np.bincount(bins, weights, num_bins) for weights in (values, correct))
    confidence, accuracy = ((total / np.maximum(1, counts)).tolist() for total in sums)
    return Reliability(counts=counts.tolist(), confidence=confidence, accuracy=accuracy)


def confusion_matrix(
    predictions: Sequence[int], labels: Sequence[int], num_labels: int
) -> list[list[int]]:
    """Return how many rows have each label and prediction, ``[labels, labels]``.

    Args:
        predictions: Predicted labels, 0 to below `num_labels`.
        labels: The true ones.
        num_labels: Number of labels.

    Raises:
        DataError: There is nothing to count, or a label is not one of them.
        ShapeError: The lengths differ.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1], 2)
    [[1, 1], [0, 1]]
    """
    require_aligned(predictions, labels, "predictions")
    present = np.union1d(predictions, labels)
    if present[0] < 0 or present[-1] >= num_labels:
        raise DataError(
            f"labels are {present[0]} to {present[-1]}; expected 0 to {num_labels - 1}."
        )
    cells = np.asarray(labels, dtype=int) * num_labels + np.asarray(predictions, dtype=int)
    counts = np.bincount(cells, minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels).tolist()
