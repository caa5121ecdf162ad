"""Input that is not finite gives output that is not: infinities are told before they vanish.

A score of -inf is a weight of 0, so an infinite key or query could go unnoticed. Here an infinity
becomes "not a number", which no softmax hides. Cost: two readings of the keys.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nonfinite_heads(k: Tensor, num_heads: int) -> Tensor:
    """Tell the rows and heads that hold a key which is not finite.

    Args:
        k: ``[batch, kv_heads, keys, dim]``, one key or more.
        num_heads: Heads wanted, a multiple of `kv_heads`.

    Returns:
        ``[batch, num_heads, 1, 1]``: 0 where all keys are finite, else not a number. Padded keys
        count. No derivative is taken of it.
    """
    k = k.detach()
    # One after the other: their sum could overflow.
    nonfinite = k.amax((2, 3), keepdim=True) * 0 + k.amin((2, 3), keepdim=True) * 0
    repeats = num_heads // k.shape[1]
    return nonfinite if repeats == 1 else nonfinite.repeat_interleave(repeats, dim=1)


def propagate_nan(q: Tensor, k: Tensor) -> Tensor:
    """Make queries not a number where they or the keys of their row and head are not finite.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.

    Returns:
        The queries; where all is finite the same numbers with the same derivatives.
    """
    if k.numel() == 0:
        return q
    return torch.addcmul(q, q.detach(), nonfinite_heads(k, q.shape[1]))
