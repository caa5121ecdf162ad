"""Kendall's rank correlation of two rows of scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def kendall_tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Compute tau-b, which allows for ties (Kendall 1945, "The treatment of ties in ranking").

    Args:
        first: ``[n]``.
        second: ``[n]``.

    Returns:
        Between -1 and 1; NaN where all numbers of a row are equal, or there are fewer than two.

    >>> kendall_tau(np.array([1.0, 2, 3]), np.array([10.0, 30, 20]))
    0.3333333333333333
    """
    upper = np.triu_indices(len(first), 1)
    signs = [np.sign(row[upper[0]] - row[upper[1]]) for row in (first, second)]
    num_untied = [int(np.count_nonzero(sign)) for sign in signs]
    if not all(num_untied):
        return math.nan
    return float((signs[0] * signs[1]).sum() / math.sqrt(num_untied[0] * num_untied[1]))
