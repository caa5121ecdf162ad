"""Numbers that are not finite reach the queries that may see them, and no others.

Zero times infinity is NaN, so what a mask hides would still spread through the products of
attention, and an infinite key whose weight is 0 would not be noticed. So such vectors are replaced
by zeros, attention is computed, and the output of every query that may see one becomes NaN.

That needs a decision by the numbers (`is_finite`), which tracing, `torch.func` transforms and an
asynchronous GPU do not allow. There `propagate_nan` hides what no query may see, and a key that is
not finite reaches all queries of its head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from regard.attention.biases import ALWAYS_FINITE
from regard.attention.options import AttentionOptions
from regard.attention.scores import DotProduct


def may_read(q: Tensor) -> bool:
    """Return whether the numbers of a tensor, of any shape, may be read without cost or error."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or q.device.type != "cpu"
        or isinstance(q, FakeTensor)
    )


def has_data(x: Tensor) -> bool:
    """Return whether a tensor of any shape has numbers, not its shape alone."""
    return x.device.type != "meta" and not isinstance(x, FakeTensor)


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
    is_bad = ~torch.isfinite(x.detach())
    return x.masked_fill(is_bad, 0.0), is_bad.any(-1, keepdim=True)


def queries_that_see(
    is_bad: tuple[Tensor, Tensor, Tensor],
    options: AttentionOptions,
    attend: Callable[[Tensor, Tensor, Tensor, AttentionOptions], Tensor],
) -> Tensor:
    """Return the queries whose output depends on a vector that is not finite.

    With scores of zero the weights of all that a query may see are equal and above zero, so a mean
    of marks is above zero where it sees one.

    Args:
        is_bad: Which vectors of q, k and v are not finite, ``[batch, heads, length, 1]`` each.
        options: Options of the call.
        attend: Computes attention with the call's pattern.

    Returns:
        Boolean, ``[batch, heads, queries, 1]``.
    """
    bad_q, bad_k, bad_v = is_bad
    bias = options.bias
    if isinstance(bias, Tensor):  # what it forbids stays forbidden
        bias = torch.zeros_like(bias).masked_fill(bias.detach() == -torch.inf, -torch.inf)
    elif isinstance(bias, ALWAYS_FINITE):
        bias = None
    with torch.no_grad():
        marks = (bad_k | bad_v).float()
        zeros = torch.zeros_like(bad_q, dtype=torch.float32)
        options = replace(options, score=DotProduct(), bias=bias, dropout=0.0, seed=None)
        columns = torch.cat([marks, torch.ones_like(marks)], dim=-1)
        seen = attend(zeros, torch.zeros_like(marks), columns, options)
    return (seen[..., :1] > 0) | (bad_q & (seen[..., 1:] > 0))


def propagate_nan(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Hide what no query may see, and set queries to NaN where a key of theirs is not finite.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: Options of the call.

    Returns:
        q, k and v; where all is finite the same numbers with the same derivatives.
    """
    # With the call's score, as torch.compile cannot trace the default one.
    by_rows = AttentionOptions(score=options.score, mask=options.mask, lengths=options.lengths)
    is_seen = by_rows.allowed(None, q, k)
    if is_seen is not None:
        sees = is_seen.any(-1, keepdim=True)  # [batch, heads, queries, 1], or as it broadcasts
        seen = is_seen.any(2).unsqueeze(-1)  # [batch, heads, keys, 1]
        if seen.shape[1] > 1:
            seen = seen.unflatten(1, (k.shape[1], -1)).any(2)
        q, k, v = q.masked_fill(~sees, 0.0), k.masked_fill(~seen, 0.0), v.masked_fill(~seen, 0.0)
    if k.numel() == 0:
        return q, k, v
    keys = k.detach()
    # One after the other: their sum could overflow.
    nonfinite = keys.amax((2, 3), keepdim=True) * 0 + keys.amin((2, 3), keepdim=True) * 0
    repeats = q.shape[1] // k.shape[1]
    nonfinite = nonfinite if repeats == 1 else nonfinite.repeat_interleave(repeats, dim=1)
    return torch.addcmul(q, q.detach(), nonfinite), k, v
