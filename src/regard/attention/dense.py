"""Attention by its definition, all n x m scores at once; every other method is tested against it.

Vaswani et al. 2017, equation 1: ``softmax(q k^T / sqrt(d_k)) v``. Made of differentiable torch
operations only, so any derivative of any order exists. Cost: O(n m d) time, O(n m) memory.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regard.attention.hashed_dropout import keep_pairs
from regard.attention.options import AttentionOptions
from regard.attention.scores import DotProduct


class AttentionOutput(NamedTuple):
    """What a call of attention computes.

    Args:
        out: ``[batch, heads, queries, value_dim]``.
        weights: ``[batch, heads, queries, keys]``; None where they were not asked for.
        lse: Logarithm of the sum of the exponentials of the allowed scores, ``[batch, heads,
            queries]``, float32 at least, minus infinity where nothing is allowed; None where it was
            not asked for.
        scores: ``[batch, heads, queries, keys]``, of the definition alone, for a check of them.
    """

    out: Tensor
    weights: Tensor | None = None
    lse: Tensor | None = None
    scores: Tensor | None = None


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    options: AttentionOptions | None = None,
    scores: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute attention and its weights.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``.
        k: Keys, ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: Values, ``[batch, kv_heads, keys, value_dim]``.
        mask: Boolean, broadcastable to ``[batch, heads, queries, keys]``, True where allowed, all
            things considered. None allows every pair.
        options: Score, bias, positions, dropout; None takes scaled dot products alone.
        scores: Scores of `dense_scores`, where they were computed before.

    Returns:
        The output ``[batch, heads, queries, value_dim]`` and the weights
        ``[batch, heads, queries, keys]``. A query with nothing allowed gets zeros.
    """
    options = AttentionOptions() if options is None else options
    scores = dense_scores(q, k, options) if scores is None else scores
    weights = drop_weights(masked_softmax(scores, mask), q, k, options)
    out = torch.matmul(group_heads(weights.to(v.dtype), v.shape[1]), v)
    return ungroup_heads(out, q.shape[1]), weights  # [batch, heads, queries, value_dim]


def dense_lse(q: Tensor, k: Tensor, *, mask: Tensor | None, options: AttentionOptions) -> Tensor:
    """Compute the logarithm of the sum of the exponentials of the allowed scores.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``.
        k: Keys, ``[batch, kv_heads, keys, dim]``.
        mask: Boolean, broadcastable to ``[batch, heads, queries, keys]``, True where allowed.
        options: Score, bias and positions; dropout does not matter.

    Returns:
        ``[batch, heads, queries]``, float32 at least; minus infinity where nothing is allowed.
    """
    scores = dense_scores(q, k, options)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask is None:
        return scores.logsumexp(-1)
    lse = mask_scores(scores, mask).logsumexp(-1)
    return lse.masked_fill(~mask.any(-1), -torch.inf)


def dense_scores(q: Tensor, k: Tensor, options: AttentionOptions) -> Tensor:
    """Compute scores plus bias, ``[batch, heads, queries, keys]``."""
    score, bias = options.score, options.bias
    if isinstance(score, DotProduct):  # no copy of the keys for each head
        scores = ungroup_heads(score.multiply(group_heads(q, k.shape[1]), k), q.shape[1])
    else:
        positions = options.positions(q, k)
        scores = score(q, repeat_heads(k, q.shape[1]), *positions, score.tensors())
    if bias is None:
        return scores
    if isinstance(bias, Tensor):
        return scores + bias
    return scores + bias(*options.positions(q, k), bias.tensors())


def drop_weights(weights: Tensor, q: Tensor, k: Tensor, options: AttentionOptions) -> Tensor:
    """Drop weights ``[batch, heads, queries, keys]`` at random, and scale up the others."""
    if options.dropout == 0:
        return weights
    assert options.seed is not None
    heads = torch.arange(q.shape[0] * q.shape[1], device=q.device).view(*q.shape[:2], 1, 1)
    is_kept = keep_pairs(options.seed, heads, *options.positions(q, k), options.dropout)
    return weights * is_kept / (1 - options.dropout)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the softmax over the allowed keys; rows without any are zeros.

    Args:
        scores: ``[batch, heads, queries, keys]``.
        mask: Boolean, broadcastable to the scores, True where allowed; None allows all.

    Returns:
        Weights, the shape of the scores.

    >>> weights = masked_softmax(torch.tensor([1.0, 2.0, 3.0]), None)
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.09, 0.2447, 0.6652]
    """
    if mask is None:
        return scores.softmax(-1)
    weights = mask_scores(scores, mask).softmax(-1)
    return weights.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def mask_scores(scores: Tensor, mask: Tensor) -> Tensor:
    """Replace the scores of forbidden pairs by minus infinity.

    A row with nothing allowed becomes zeros: minus infinity in all of it would make NaN, in the
    gradient too.

    Args:
        scores: ``[batch, heads, queries, keys]``.
        mask: Boolean, broadcastable to the scores, True where allowed.

    Returns:
        The shape of the scores.
    """
    fill = mask.new_zeros((), dtype=scores.dtype).masked_fill(
        mask.any(-1, keepdim=True), -torch.inf
    )
    return torch.where(mask, scores, fill)


def group_heads(x: Tensor, kv_heads: int) -> Tensor:
    """Join the rows of the query heads that share keys: ``[batch, kv_heads, rows, dim]``."""
    batch, heads, length, dim = x.shape
    if heads == kv_heads:
        return x
    return x.reshape(batch, kv_heads, heads // kv_heads * length, dim)


def ungroup_heads(x: Tensor, num_heads: int) -> Tensor:
    """Undo `group_heads`: ``[batch, heads, queries, dim]``."""
    batch, kv_heads, rows, dim = x.shape
    if kv_heads == num_heads:
        return x
    return x.reshape(batch, num_heads, rows // (num_heads // kv_heads), dim)


def repeat_heads(tensor: Tensor, num_heads: int) -> Tensor:
    """Repeat heads of keys or values for each query head, ``[batch, heads, keys, dim]``."""
    repeats = num_heads // max(tensor.shape[1], 1)
    return tensor if repeats == 1 else tensor.repeat_interleave(repeats, dim=1)
