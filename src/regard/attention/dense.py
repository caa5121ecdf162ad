"""Attention by its definition, all n x m scores at once; every other method is tested against it.

Vaswani et al. 2017, equation 1: ``softmax(q k^T / sqrt(d_k)) v``. Made of differentiable torch
operations only, so any derivative of any order exists. Cost: O(n m d) time, O(n m) memory.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute attention and its weights.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``.
        k: Keys, ``[batch, heads, keys, dim]``.
        v: Values, ``[batch, heads, keys, value_dim]``.
        scale: Factor on the scores, ``1 / sqrt(dim)`` in the paper.
        mask: Boolean, broadcastable to ``[batch, heads, queries, keys]``, True where allowed.
            None allows every pair.

    Returns:
        The output ``[batch, heads, queries, value_dim]`` and the weights
        ``[batch, heads, queries, keys]``. A query with nothing allowed gets zeros.
    """
    scores = torch.matmul(q * scale, k.transpose(-1, -2))  # [batch, heads, queries, keys]
    if mask is None:
        weights = scores.softmax(-1)
    else:
        # The lowest finite value, not -inf: a row of -inf would make NaN, in the gradient too.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~mask, lowest).softmax(-1)
        weights = weights.masked_fill(~mask.any(-1, keepdim=True), 0.0)
    return torch.matmul(weights, v), weights  # [batch, heads, queries, value_dim]
