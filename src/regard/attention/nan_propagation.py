"""Numbers that are not finite reach the queries that may see them, and no others.

Zero times infinity is NaN, so what a mask hides would still spread through the products of
attention, and an infinite key whose weight is 0 would not be noticed. So such vectors are replaced
by zeros, attention is computed, and the output of every query that may see one becomes NaN
(`attend_hidden`). Where the numbers may be read (`is_finite`) that is done only if one is not
finite; tracing and `torch.func` transforms do not allow a decision, and it is done always.

On a GPU, which would have to be waited for or do twice the work, `hide_unseen` hides what no query
may see, and a key that is not finite reaches the queries of its head: all by `mark_queries`, or
those that see it where a kernel looks at its scores (`backends/flex`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from regard.attention.biases import ALWAYS_FINITE
from regard.attention.dense import AttentionOutput, repeat_heads
from regard.attention.exporting import is_recording
from regard.attention.options import AttentionOptions
from regard.attention.patterns import Causal, Full
from regard.attention.patterns.base import Pattern, ScoreDependentPattern
from regard.attention.scores import DotProduct


class Nonfinite(NamedTuple):
    """Which vectors have numbers that are not finite, boolean.

    Args:
        queries: ``[batch, heads, queries, 1]``.
        keys: Of the keys and values, ``[batch, kv_heads, keys, 1]``.
    """

    queries: Tensor
    keys: Tensor


Compute = Callable[[Tensor, Tensor, Tensor, Any, AttentionOptions], AttentionOutput]
"""Maps queries, keys, values ``[batch, heads, length, dim]``, a pattern and options to a result."""


def is_asynchronous(q: Tensor) -> bool:
    """Return whether a tensor of any shape is on a device that would have to be waited for."""
    return q.device.type != "cpu" or isinstance(q, FakeTensor)


def may_read(q: Tensor) -> bool:
    """Return whether the numbers of a tensor, of any shape, may be read without cost or error."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or is_recording()
        or is_asynchronous(q)
    )


def is_finite(*tensors: Tensor) -> bool:
    """Return whether all numbers, in any shape, are finite; False also if a sum overflows."""
    total = 0.0
    for tensor in tensors:
        wide = torch.promote_types(tensor.dtype, torch.float32)
        total += tensor.detach().sum(dtype=wide).item()  # opposite infinities make NaN
    return math.isfinite(total)


def hide_nonfinite(x: Tensor) -> tuple[Tensor, Tensor]:
    """Replace numbers that are not finite by zeros.

    Args:
        x: ``[batch, heads, length, dim]``.

    Returns:
        The same numbers and derivatives where finite, and which vectors had others, boolean
        ``[batch, heads, length, 1]``.
    """
    is_bad = x.detach() * 0 != 0  # infinity times 0 is NaN; compiled, isfinite() is 8 times slower
    return x.masked_fill(is_bad, 0.0), is_bad.any(-1, keepdim=True)


def attend_hidden(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    compute: Callable[[Tensor, Tensor, Tensor], AttentionOutput],
    queries_that_see: Callable[[Nonfinite], Tensor],
) -> AttentionOutput:
    """Compute attention with what is not finite hidden; queries that may see it get NaN.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        compute: Computes attention of q, k and v.
        queries_that_see: Returns which queries may see a vector that is not finite, boolean
            ``[batch, heads, queries, 1]``.

    Returns:
        The output, with the weights, dense, and the log-sum-exp where `compute` returns them.
    """
    (q, bad_q), (k, bad_k), (v, bad_v) = (hide_nonfinite(x) for x in (q, k, v))
    out, weights, lse, _ = compute(q, k, v)
    if weights is not None and weights.is_sparse:
        weights = weights.to_dense()
    seen = queries_that_see(Nonfinite(bad_q, bad_k | bad_v))
    return AttentionOutput(
        out=out.masked_fill(seen, torch.nan),
        weights=None if weights is None else weights.masked_fill(seen, torch.nan),
        lse=None if lse is None else lse.masked_fill(seen.squeeze(-1), torch.nan),
    )


def seen_through_mask(nonfinite: Nonfinite, mask: Tensor | None) -> Tensor:
    """Return the queries whose output depends on a vector that is not finite, by a mask of pairs.

    Args:
        nonfinite: Which vectors are not finite.
        mask: Boolean, broadcastable to ``[batch, heads, queries, keys]``; None allows all.

    Returns:
        Boolean, ``[batch, heads, queries, 1]``.
    """
    queries, keys = nonfinite
    keys = repeat_heads(keys, queries.shape[1]).transpose(2, 3)
    if mask is None:
        return queries | keys.any(-1, keepdim=True)
    return (keys & mask).any(-1, keepdim=True) | (queries & mask.any(-1, keepdim=True))


def seen_through_attention(
    nonfinite: Nonfinite, pattern: Pattern, options: AttentionOptions, compute: Compute
) -> Tensor:
    """Return the queries whose output depends on a vector that is not finite, in linear memory.

    With scores of zero the weights of all that a query may see are equal and above zero, so a mean
    of marks is above zero where it sees one.

    Args:
        nonfinite: Which vectors are not finite.
        pattern: Of the call.
        options: Of the call.
        compute: Computes attention.

    Returns:
        Boolean, ``[batch, heads, queries, 1]``.
    """
    if isinstance(pattern, ScoreDependentPattern):
        pattern = Causal() if pattern.causal else Full()
    bias = options.bias
    if isinstance(bias, Tensor):  # what it forbids stays forbidden
        bias = torch.zeros_like(bias).masked_fill(bias.detach() == -torch.inf, -torch.inf)
    elif isinstance(bias, ALWAYS_FINITE):
        bias = None
    with torch.no_grad():
        marks = nonfinite.keys.float()
        zeros = torch.zeros_like(nonfinite.queries, dtype=torch.float32)
        options = replace(options, score=DotProduct(), bias=bias, dropout=0.0, seed=None)
        columns = torch.cat([marks, torch.ones_like(marks)], dim=-1)
        seen = compute(zeros, torch.zeros_like(marks), columns, pattern, options).out
    return (seen[..., :1] > 0) | (nonfinite.queries & (seen[..., 1:] > 0))


def hide_unseen(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace by zeros the queries that see nothing, and the keys and values that none may see.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: Options of the call; those that are read are mask and lengths.

    Returns:
        q, k and v.
    """
    # With the call's score, as torch.compile cannot trace the default one.
    by_rows = AttentionOptions(score=options.score, mask=options.mask, lengths=options.lengths)
    is_seen = by_rows.allowed(None, q, k)
    if is_seen is None:
        return q, k, v
    sees = is_seen.any(-1, keepdim=True)  # [batch, heads, queries, 1], or as it broadcasts
    seen = is_seen.any(2).unsqueeze(-1)  # [batch, heads, keys, 1]
    if seen.shape[1] > 1:
        seen = seen.unflatten(1, (k.shape[1], -1)).any(2)
    return q.masked_fill(~sees, 0.0), k.masked_fill(~seen, 0.0), v.masked_fill(~seen, 0.0)


def mark_queries(q: Tensor, k: Tensor) -> Tensor:
    """Set the queries of a head to NaN where one of its keys is not finite.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.

    Returns:
        The queries; where all is finite the same numbers with the same derivatives.
    """
    if k.numel() == 0:
        return q
    # The largest absolute number of each head: as a sum it could overflow.
    nonfinite = torch.linalg.vector_norm(k.detach(), torch.inf, (2, 3), keepdim=True) * 0
    repeats = q.shape[1] // k.shape[1]
    nonfinite = nonfinite if repeats == 1 else nonfinite.repeat_interleave(repeats, dim=1)
    return torch.addcmul(q, q.detach(), nonfinite)
