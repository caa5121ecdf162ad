"""Attention of one step of decoding, whose queries all see the same keys.

`attend` computes it too. Here are its scores and sums alone, without the checks, masks and
derivatives of every order, which cost more than they do where there is one query for each row.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from regard.attention import DotProduct, MaskPattern, Pattern
from regard.attention.backends.sdpa import attend_without_plan


def may_attend_directly() -> bool:
    """Return whether nothing needs derivatives or a graph of the computation."""
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    )


@lru_cache(maxsize=256)
def band_reach(pattern: Pattern) -> int | None:
    """Return how many keys before itself a query sees without a gap, the last keys.

    Args:
        pattern: Pattern of self-attention.

    Returns:
        A number of keys; -1 where there may be gaps, None where it sees all.
    """
    if not isinstance(pattern, MaskPattern):
        return -1
    reaches = [
        term.before
        for term in pattern.terms()
        if term.is_band and (term.after is None or term.after >= 0)
    ]
    if None in reaches:
        return None
    return max((reach for reach in reaches if reach is not None), default=-1)


def attend_everything(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None = None,
    *,
    score: DotProduct = DotProduct(),  # noqa: B008 - an immutable value
) -> Tensor:
    """Compute scaled dot-product attention of queries that see all keys.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, dim]``.
        lengths: Valid keys of each row, ``[batch]``; None means all. A row without keys gets zeros.
        score: Of a query and a key.

    Returns:
        ``[batch, heads, queries, dim]``.
    """
    if lengths is None:
        return attend_allowed(q, k, v, None, score=score)
    is_valid = torch.arange(k.shape[2], device=k.device) < lengths[:, None]
    out = attend_allowed(q, k, v, is_valid[:, None, None, :], score=score)
    return out.masked_fill((lengths == 0)[:, None, None, None], 0.0)


def attend_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, score: DotProduct) -> Tensor:
    """Compute dot-product attention with a number added to each score.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, heads, keys, dim]``: each head has keys of its own.
        v: ``[batch, heads, keys, dim]``.
        bias: ``[batch or 1, heads, queries, keys]``, minus infinity where a key is not allowed.
        score: Of a query and a key, without a soft cap.

    Returns:
        ``[batch, heads, queries, dim]``.
    """
    return attend_without_plan(q, k, v, attn_mask=bias.to(q.dtype), scale=score.scale)


def attend_allowed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    score: DotProduct = DotProduct(),  # noqa: B008 - an immutable value
) -> Tensor:
    """Compute scaled dot-product attention of queries over the keys that a mask allows.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, dim]``.
        mask: True where a key is allowed, ``[batch, 1, queries or 1, keys]``, one or more of each
            query; None allows all.
        score: Of a query and a key.

    Returns:
        ``[batch, heads, queries, dim]``.
    """
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads == kv_heads:
        return _attend_heads(q, k, v, mask, score)
    # The heads of a group are queries of the same keys: no copies of these.
    q = q.unflatten(1, (kv_heads, -1)).flatten(2, 3)
    if mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, heads // kv_heads, 1)
    out = _attend_heads(q, k, v, mask, score)
    return out.unflatten(2, (heads // kv_heads, -1)).flatten(1, 2)


def _attend_heads(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, score: DotProduct
) -> Tensor:
    """Attend with as many heads of keys as of queries, ``[batch, heads, queries, dim]``."""
    if score.soft_cap is None:
        return attend_without_plan(q, k, v, attn_mask=mask, scale=score.scale)
    scores = score.multiply(q, k).to(torch.promote_types(q.dtype, torch.float32))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(-1).to(v.dtype), v)
