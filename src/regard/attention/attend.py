"""`attend`: one entry to every method of computing attention. Checks arguments, picks the method.

For few keys the dense definition is also the fastest. From there on attention is computed block by
block (`joined.py`), in memory linear in the length; value and first derivative of a band of dot
products by fused kernels. Derivatives of any order exist whichever is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, overload

import torch
from torch import Tensor

from regard.attention.backends.compiled_operator import compiled_attention, is_compilable
from regard.attention.biases import Bias
from regard.attention.blockwise.combine import blockwise_attention, is_fused
from regard.attention.dense import dense_attention
from regard.attention.hashed_dropout import draw_seed
from regard.attention.options import (
    AttentionOptions,
    Lengths,
    check_options,
    check_tensors,
    split_lengths,
)
from regard.attention.patterns import Causal, Full
from regard.attention.patterns.base import Pattern, ScoreDependentPattern
from regard.attention.patterns.cost import count_pairs
from regard.attention.patterns.score_dependent import attend_unmasked
from regard.attention.resolve_lengths import resolve_by_length
from regard.attention.scores import DotProduct, ScoreFunction
from regard.attention.weights import sparse_weights, without_rows

DENSE_BELOW = 512 * 512
"""Pairs of a query and a key below which the definition is the fastest method."""
DENSE_BELOW_FUSED = 128 * 128
"""The same where the fused kernels apply; the second derivative is no slower from there, either."""


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    score: ScoreFunction = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    segments: tuple[Tensor, Tensor] | None = ...,
    query_offset: int = ...,
    key_positions: Tensor | None = ...,
    dropout: float = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[False] = ...,
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    score: ScoreFunction = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    segments: tuple[Tensor, Tensor] | None = ...,
    query_offset: int = ...,
    key_positions: Tensor | None = ...,
    dropout: float = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = Full(),  # noqa: B008 - an immutable value
    score: ScoreFunction = DotProduct(),  # noqa: B008 - an immutable value
    bias: Bias | Tensor | None = None,
    lengths: Lengths = None,
    segments: tuple[Tensor, Tensor] | None = None,
    query_offset: int = 0,
    key_positions: Tensor | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute multi-head attention (Vaswani et al. 2017, equation 1), differentiable to any order.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``, floating point.
        k: Keys, ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads` (grouped queries).
        v: Values, ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend. One that depends on the length is settled for each row by
            its valid keys.
        score: Of a query and a key; scaled dot product by default.
        bias: Added to the scores: by position, or ``[batch or 1, heads or 1, queries, keys]``.
        lengths: Valid keys of each row, ``[batch]`` integers; padding stands on the right. Where
            there are as many queries as keys and no offset, this is self-attention and padded
            queries give zeros. A pair ``(query_lengths or None, key_lengths)`` says it outright,
            as cross-attention should.
        segments: Segment numbers of the queries ``[batch, queries]`` and of the keys
            ``[batch, keys]``; only equal ones see each other.
        query_offset: Position of the first query (key j stands at position j), 0 or more.
        key_positions: Where the keys stand, ``[keys]`` or ``[batch, keys]``, such as those of a
            ring buffer; a negative one marks an empty place. Computed densely.
        dropout: Rate on the weights, 0 to below 1. The choice is a hash of a seed and the pair.
        generator: Draws that seed; None takes PyTorch's default.
        return_weights: Return the attention weights beside the output.

    Returns:
        ``[batch, heads, queries, value_dim]``; with `return_weights` also the weights,
        ``[batch, heads, queries, keys]``, whose rows sum to 1 (before dropout), or to 0 where
        nothing is allowed. From 512 x 512 pairs on the weights of a sparse pattern are a sparse
        tensor without gradient; ``.to_dense()`` works on either. The weights of one row are those
        of ``attend(q[:, :, i:i+1], ..., query_offset=i)``.

    Raises:
        ShapeError: An argument does not fit the others; the message names it.
        ConfigError: A number is out of range, or two arguments do not go together.

    >>> q = torch.zeros(1, 1, 1, 2)
    >>> k = torch.zeros(1, 1, 3, 2)
    >>> attend(q, k, torch.tensor([[[[1.0], [2.0], [6.0]]]])).item()
    3.0
    """
    q, k, v = (_cast_to_autocast(tensor) for tensor in (q, k, v))
    check_tensors(q, k, v)
    query_lengths, key_lengths = split_lengths(lengths, q, k, query_offset)
    options = AttentionOptions(
        score=score,
        bias=bias,
        lengths=key_lengths,
        segments=segments,
        query_offset=query_offset,
        key_positions=key_positions,
        dropout=dropout,
        seed=draw_seed(generator, q.device) if dropout > 0 else None,
    )
    check_options(options, q, k, lengths)
    compute = partial(_compute, return_weights=return_weights)
    out, weights = resolve_by_length(compute, q, k, v, pattern, options)
    if query_lengths is not None:
        padded = torch.arange(q.shape[2], device=q.device) >= query_lengths[:, None]
        out = out.masked_fill(padded[:, None, :, None], 0.0)
        weights = None if weights is None else without_rows(weights, padded)
    if return_weights:
        assert weights is not None
        return out, weights
    return out


def _compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    return_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """Choose the method."""
    if isinstance(pattern, ScoreDependentPattern):
        return attend_unmasked(q, k, v, pattern, options, return_weights=return_weights)
    if options.key_positions is not None or _is_small(q, k, v, pattern, options, return_weights):
        return dense_attention(q, k, v, mask=_mask(q, k, pattern, options), options=options)
    if torch.compiler.is_compiling() and not return_weights and is_compilable(pattern, options):
        return compiled_attention(q, k, v, pattern, options), None
    if not return_weights:
        return blockwise_attention(q, k, v, pattern=pattern, options=options), None
    if _is_sparse(pattern, q.shape[2], k.shape[2]):
        out = blockwise_attention(q, k, v, pattern=pattern, options=options)
        return out, sparse_weights(q, k, pattern=pattern, options=options)
    return dense_attention(q, k, v, mask=_mask(q, k, pattern, options), options=options)


def _is_small(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    return_weights: bool,
) -> bool:
    """Tell whether the definition is the fastest."""
    pairs = q.shape[2] * k.shape[2]
    if not DENSE_BELOW_FUSED <= pairs < DENSE_BELOW or return_weights:
        return pairs < DENSE_BELOW
    return torch.compiler.is_compiling() or not is_fused(q, k, v, pattern, options)


def _is_sparse(pattern: Pattern, num_queries: int, num_keys: int) -> bool:
    return count_pairs(pattern.terms(), num_queries, num_keys) < num_queries * num_keys // 4


def _mask(q: Tensor, k: Tensor, pattern: Pattern, options: AttentionOptions) -> Tensor | None:
    """Join the pattern and the options, broadcastable to [batch, heads, queries, keys]."""
    queries, keys = options.positions(q, k)
    # A single causal query at the end of its keys sees all of them: nothing to mask.
    last_sees_all = options.key_positions is None and options.query_offset >= k.shape[2] - 1
    if isinstance(pattern, Full) or (isinstance(pattern, Causal) and last_sees_all):
        return options.mask(None, k)
    return options.mask(pattern.allowed(queries[:, None], keys[..., None, None, :]), k)


def _cast_to_autocast(tensor: Tensor) -> Tensor:
    """Cast to the type of an autocast region, as PyTorch's own attention does."""
    kind = tensor.device.type
    if tensor.is_floating_point() and torch.is_autocast_enabled(kind):
        return tensor.to(torch.get_autocast_dtype(kind))
    return tensor
