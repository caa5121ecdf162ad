"""Scores of predictions of any number of labels for each row, and the threshold that gives them.

The micro-averaged F1 counts all labels of all rows together; the macro-averaged one is the mean of
the F1 of each label (Lewis et al. 2004, RCV1, section 6.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regard.errors import DataError, ShapeError
from regard.metrics.bootstrap import MetricWithInterval, Statistics, score_with_interval

_SIGNATURE = "micro F1|bootstrap of rows"


def micro_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> MetricWithInterval:
    """Return F1 over all labels of all rows, in percent, with its 95 % interval over rows.

    Args:
        predicted: Whether a row is given a label, ``[rows, labels]``.
        truth: Whether it has the label, ``[rows, labels]``.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The shapes differ.

    >>> predicted, truth = np.array([[1, 1], [0, 0]], bool), np.array([[1, 0], [0, 1]], bool)
    >>> micro_f1(predicted, truth).value
    50.0
    """
    _require_same_shape(predicted, truth)
    hits = (predicted & truth).sum(1)
    sums = np.stack([2 * hits, predicted.sum(1) + truth.sum(1)], axis=1)
    return score_with_interval(sums, _ratio_of_sums, _SIGNATURE)


def label_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the F1 of each label in percent, ``[labels]``; NaN of one that no row has or is given.

    Args:
        predicted: Whether a row is given a label, ``[rows, labels]``.
        truth: Whether it has the label, ``[rows, labels]``.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The shapes differ.

    >>> label_f1(np.array([[1, 0], [0, 0]], bool), np.array([[1, 0], [1, 0]], bool)).round(1)
    array([66.7,  nan])
    """
    _require_same_shape(predicted, truth)
    total = predicted.sum(0) + truth.sum(0)
    hits = (predicted & truth).sum(0)
    return np.where(total > 0, 200.0 * hits / np.maximum(1, total), np.nan)


def best_threshold(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the one threshold for all labels with the highest micro F1, and that F1 in percent.

    Args:
        probabilities: Of each label, ``[rows, labels]``.
        truth: Whether a row has the label, ``[rows, labels]``.

    Returns:
        Half way between the least probable label that is given and the most probable one that is
        not, and F1. It is 0.5 where no row has a label.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The shapes differ.

    >>> best_threshold(np.array([[0.4, 0.1], [0.3, 0.2]]), np.array([[1, 0], [1, 0]], bool))
    (0.25, 100.0)
    """
    _require_same_shape(probabilities, truth)
    values, labels = probabilities.ravel(), truth.ravel()
    if not labels.any():
        return 0.5, 0.0
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], labels[order].cumsum()
    scores = 2.0 * hits / (np.arange(1, 1 + len(values)) + hits[-1])
    scores[:-1][values[:-1] == values[1:]] = 0.0  # equal probabilities are given all, or none
    scores[values == 0] = 0.0  # which no threshold gives
    last = int(scores.argmax())
    below = float(values[last + 1]) if last + 1 < len(values) else 0.0
    return (float(values[last]) + below) / 2, 100.0 * float(scores[last])


def _require_same_shape(left: NDArray, right: NDArray) -> None:
    """Raise where there are no rows, or two arrays of shape ``[rows, labels]`` differ in shape."""
    if left.shape != right.shape or left.ndim != 2:
        raise ShapeError(
            f"shapes {list(left.shape)} and {list(right.shape)}: [rows, labels] was expected of "
            "both."
        )
    if not left.size:
        raise DataError("nothing to score: there are no rows, or no labels.")


def _ratio_of_sums(sums: Statistics) -> NDArray[np.float64]:
    """Return F1 in percent, ``[samples]``, from sums over rows, ``[samples, 2]``; 100 of 0 to 0."""
    hits, total = sums[:, 0], sums[:, 1]
    return np.where(total > 0, 100.0 * hits / np.maximum(1, total), 100.0)
