"""Cumulative sums that repeat their bits on a GPU where that is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cumulative_sum(x: Tensor, dim: int) -> Tensor:
    """Sum the numbers up to each one, along an axis.

    PyTorch has no method in a fixed order for `torch.cumsum` of fractions on a GPU, and refuses it
    under `torch.use_deterministic_algorithms`. There the sums of 2, 4, 8 ... numbers up to each
    one are added, one pass after the other (Hillis & Steele 1986).

    Args:
        x: Fractions of any shape.
        dim: The axis, negative ones from the end.

    Returns:
        The shape of `x`.
    """
    if x.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return x.cumsum(dim)
    sums, width = x.movedim(dim, -1), 1
    while width < sums.shape[-1]:
        sums = sums + F.pad(sums[..., :-width], (width, 0))
        width *= 2
    return sums.movedim(-1, dim)
