"""`attend`: one entry to every method of computing attention. Checks shapes, picks the method.

Below a few hundred keys the dense definition is also the fastest on a CPU (its batched matrix
products beat the fused kernel's backward pass several times); from there on, and on a GPU,
PyTorch's `scaled_dot_product_attention` takes over.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.dense import dense_attention
from regard.attention.pattern import Pattern, allowed_matrix
from regard.attention.patterns import Causal, Full
from regard.errors import ShapeError

_FUSED_FROM_KEYS = 512


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    lengths: Tensor | None = ...,
    query_offset: int = ...,
    return_weights: Literal[False] = ...,
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    lengths: Tensor | None = ...,
    query_offset: int = ...,
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = Full(),  # noqa: B008 - an immutable value
    lengths: Tensor | None = None,
    query_offset: int = 0,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute multi-head scaled dot-product attention (Vaswani et al. 2017, equation 1).

    Args:
        q: Queries, ``[batch, heads, queries, dim]``, floating point.
        k: Keys, ``[batch, heads, keys, dim]``.
        v: Values, ``[batch, heads, keys, value_dim]``.
        pattern: Which pairs may attend.
        lengths: Valid keys of each row, ``[batch]`` integers; keys are padded on the right.
        query_offset: Position of the first query (key j stands at position j), 0 or more.
        return_weights: Return the attention weights beside the output.

    Returns:
        ``[batch, heads, queries, value_dim]``; with `return_weights` also the weights,
        ``[batch, heads, queries, keys]``, whose rows sum to 1, or to 0 where nothing is allowed.

    Raises:
        ShapeError: An argument does not fit the others; the message names it.

    >>> q = torch.zeros(1, 1, 1, 2)
    >>> k = torch.zeros(1, 1, 3, 2)
    >>> attend(q, k, torch.tensor([[[[1.0], [2.0], [6.0]]]])).item()
    3.0
    """
    _check_shapes(q, k, v, lengths)
    scale = 1.0 / math.sqrt(q.shape[-1])
    fused = not return_weights and (q.is_cuda or k.shape[2] >= _FUSED_FROM_KEYS)
    square = q.shape[2] == k.shape[2] and query_offset == 0
    if fused and lengths is None and isinstance(pattern, Causal) and square:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    mask = _mask(q, k, pattern, lengths, query_offset)
    if fused and (mask is None or _every_query_sees_a_key(mask)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    output, weights = dense_attention(q, k, v, scale=scale, mask=mask)
    return (output, weights) if return_weights else output


def _mask(
    q: Tensor, k: Tensor, pattern: Pattern, lengths: Tensor | None, query_offset: int
) -> Tensor | None:
    """Join the pattern and the lengths, broadcastable to [batch, heads, queries, keys]."""
    num_queries, num_keys = q.shape[2], k.shape[2]
    mask = None
    # A single causal query at the end of its keys sees all of them: nothing to mask.
    sees_all = isinstance(pattern, Causal) and query_offset >= num_keys - 1
    if not isinstance(pattern, Full) and not sees_all:
        mask = allowed_matrix(
            pattern, num_queries, num_keys, query_offset=query_offset, device=q.device
        )
    if lengths is not None:
        valid = torch.arange(num_keys, device=q.device) < lengths[:, None]
        valid = valid[:, None, None, :]  # [batch, 1, 1, keys]
        mask = valid if mask is None else mask & valid
    return mask


def _every_query_sees_a_key(mask: Tensor) -> bool:
    return bool(mask.any(-1).all())  # of [batch, heads, queries, keys]


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 4:
            raise ShapeError(
                f"{name} has shape {list(tensor.shape)}; expected 4 axes, "
                "[batch, heads, length, dim]."
            )
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ShapeError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                f"expected {q.dtype} on {q.device}, as q."
            )
    if k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise ShapeError(
            f"k has shape {list(k.shape)}; expected "
            f"[{q.shape[0]}, {q.shape[1]}, keys, {q.shape[3]}] to fit q {list(q.shape)}."
        )
    if v.shape[:3] != k.shape[:3]:
        raise ShapeError(
            f"v has shape {list(v.shape)}; expected [{', '.join(map(str, k.shape[:3]))}, "
            f"value_dim] to fit k {list(k.shape)}."
        )
    if lengths is not None and lengths.shape != q.shape[:1]:
        raise ShapeError(
            f"lengths has shape {list(lengths.shape)}; expected [{q.shape[0]}], one a row."
        )
