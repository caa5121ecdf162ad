"""`attend`: one entry to every method of computing attention. Checks arguments, computes.

Which method computes a call is chosen by `dispatch.py`. Derivatives of any order exist whichever
is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, overload

import torch
from torch import Tensor

from regard.attention.backends.compiled_operator import compiled_attention
from regard.attention.biases import Bias
from regard.attention.blockwise.combine import blockwise_attention, blockwise_attention_with_lse
from regard.attention.dense import AttentionOutput, dense_attention, dense_lse
from regard.attention.dispatch import DENSE_BELOW, Method, choose_method, collect_facts, warn_once
from regard.attention.hashed_dropout import draw_seed
from regard.attention.nan_propagation import (
    hide_nonfinite,
    is_finite,
    may_look,
    propagate_nan,
    queries_that_see,
)
from regard.attention.options import (
    AttentionOptions,
    Lengths,
    broadcast_pairs,
    check_options,
    check_tensors,
    split_lengths,
)
from regard.attention.patterns import Causal, Full, Hierarchical, TopK
from regard.attention.patterns.base import (
    MaskPattern,
    Pattern,
    ResolvedPattern,
    ScoreDependentPattern,
)
from regard.attention.patterns.score_dependent import attend_hierarchical, attend_top_k
from regard.attention.resolve_lengths import resolve_by_length
from regard.attention.scores import DotProduct, ScoreFunction
from regard.attention.weights import sparse_weights, without_rows
from regard.errors import ConfigError


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    segments: tuple[Tensor, Tensor] | None = ...,
    query_offset: int = ...,
    key_positions: Tensor | None = ...,
    dropout: float = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[False] = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    segments: tuple[Tensor, Tensor] | None = ...,
    query_offset: int = ...,
    key_positions: Tensor | None = ...,
    dropout: float = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[True],
    return_lse: Literal[False] = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    segments: tuple[Tensor, Tensor] | None = ...,
    query_offset: int = ...,
    key_positions: Tensor | None = ...,
    dropout: float = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[False] = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern = Full(),  # noqa: B008 - an immutable value
    score: ScoreFunction = DotProduct(),  # noqa: B008 - an immutable value
    mask: Tensor | None = None,
    bias: Bias | Tensor | None = None,
    lengths: Lengths = None,
    segments: tuple[Tensor, Tensor] | None = None,
    query_offset: int = 0,
    key_positions: Tensor | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute multi-head attention (Vaswani et al. 2017, equation 1), differentiable to any order.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``, floating point.
        k: Keys, ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads` (grouped queries).
        v: Values, ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend. One that depends on the length is resolved for each row by
            its valid keys.
        score: Of a query and a key; scaled dot product by default.
        mask: Boolean, True where attention is allowed, of any shape that broadcasts to ``[batch,
            heads, queries, keys]``. What the pattern and the other options forbid stays forbidden.
        bias: Added to the scores: by position, or numbers of any shape that broadcasts likewise.
            Minus infinity forbids a pair.
        lengths: Valid keys of each row, ``[batch]`` integers; padding is on the right. Where
            there are as many queries as keys and no offset, this is self-attention and padded
            queries give zeros. A pair ``(query_lengths or None, key_lengths)`` says it outright,
            as cross-attention should.
        segments: Segment numbers of the queries ``[batch, queries]`` and of the keys
            ``[batch, keys]``; only equal ones see each other.
        query_offset: Position of the first query (key j is at position j), 0 or more.
        key_positions: Positions of the keys, ``[keys]`` or ``[batch, keys]``, such as those of a
            ring buffer; a negative one marks an empty place. Computed densely.
        dropout: Rate on the weights, 0 to below 1. The choice is a hash of a seed and the pair.
        generator: Draws that seed; None takes PyTorch's default.
        return_weights: Return the attention weights too.
        return_lse: Return the log-sum-exp of the allowed scores too; not with `return_weights`,
            `TopK` and `Hierarchical`.

    Returns:
        ``[batch, heads, queries, value_dim]``. A query with nothing allowed gets zeros.

        With `return_lse` also the logarithm of the sum of the exponentials of its allowed scores,
        before dropout, ``[batch, heads, queries]``, float32 at least, minus infinity where nothing
        is allowed: by it, attention over parts of the keys can be combined. Both are
        differentiable.

        With `return_weights` also the weights, ``[batch, heads, queries, keys]``, whose rows sum to
        1 (before dropout), or to 0 where nothing is allowed. From 512 x 512 pairs on the weights of
        a sparse pattern are a sparse tensor without gradient; ``.to_dense()`` works on either. The
        weights of one row are those of ``attend(q[:, :, i:i+1], ..., query_offset=i)``.

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
        bias=broadcast_pairs("bias", bias, q, k) if isinstance(bias, Tensor) else bias,
        mask=None if mask is None else broadcast_pairs("mask", mask, q, k),
        lengths=key_lengths,
        segments=segments,
        query_offset=query_offset,
        key_positions=key_positions,
        dropout=dropout,
        seed=draw_seed(generator, q.device) if dropout > 0 else None,
    )
    check_options(options, q, k, lengths)
    _refuse_returns(pattern, return_weights, return_lse)
    compute = partial(_compute, return_weights=return_weights, return_lse=return_lse)
    result = _attend_finite(q, k, v, pattern, options, partial(resolve_by_length, compute))
    if query_lengths is not None:
        padded = torch.arange(q.shape[2], device=q.device) >= query_lengths[:, None]
        result = _without_queries(result, padded)
    if return_lse:
        assert result.lse is not None
        return result.out, result.lse
    if return_weights:
        assert result.weights is not None
        return result.out, result.weights
    return result.out


def _attend_finite(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    compute: Callable[[Tensor, Tensor, Tensor, Pattern, AttentionOptions], AttentionOutput],
) -> AttentionOutput:
    """Compute attention of finite numbers; the queries that see others get what is no number."""
    if not may_look(q):
        q, k, v = propagate_nan(q, k, v, options)
        return compute(q, k, v, pattern, options)
    if is_finite(q, k, v):
        return compute(q, k, v, pattern, options)
    (q, bad_q), (k, bad_k), (v, bad_v) = (hide_nonfinite(x) for x in (q, k, v))
    result = compute(q, k, v, pattern, options)
    candidates = pattern
    if isinstance(pattern, ScoreDependentPattern):
        candidates = Causal() if pattern.causal else Full()
    mean = partial(_compute, return_weights=False, return_lse=False)
    seen = queries_that_see(
        (bad_q, bad_k, bad_v),
        options,
        lambda q, k, v, options: resolve_by_length(mean, q, k, v, candidates, options).out,
    )
    weights, lse = result.weights, result.lse
    if weights is not None:
        weights = weights.to_dense().masked_fill(seen, torch.nan)
    return AttentionOutput(
        out=result.out.masked_fill(seen, torch.nan),
        weights=weights,
        lse=None if lse is None else lse.masked_fill(seen.squeeze(-1), torch.nan),
    )


def _compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: ResolvedPattern,
    options: AttentionOptions,
    *,
    return_weights: bool,
    return_lse: bool,
) -> AttentionOutput:
    """Compute attention by the method that `choose_method` names."""
    facts = collect_facts(q, k, v, options, returns_weights=return_weights, returns_lse=return_lse)
    method = choose_method(pattern, facts)
    if isinstance(pattern, TopK):
        return attend_top_k(q, k, v, pattern, options)
    if isinstance(pattern, Hierarchical):
        if method is Method.HIERARCHICAL_DENSE and facts.num_pairs >= DENSE_BELOW:
            warn_once(
                f"{pattern!r} with a mask of pairs takes time and memory quadratic in the length; "
                "with a mask of keys alone, [batch, heads, 1, keys], it does not."
            )
        return attend_hierarchical(q, k, v, pattern, options)
    assert isinstance(pattern, MaskPattern)
    if method is Method.COMPILED:
        return AttentionOutput(compiled_attention(q, k, v, pattern, options))
    if method is Method.BLOCKWISE and return_lse:
        out, lse = blockwise_attention_with_lse(q, k, v, pattern=pattern, options=options)
        return AttentionOutput(out, lse=lse)
    if method is not Method.DENSE:
        out = blockwise_attention(q, k, v, pattern=pattern, options=options)
        if method is Method.BLOCKWISE:
            return AttentionOutput(out)
        return AttentionOutput(out, sparse_weights(q, k, pattern=pattern, options=options))
    if facts.has_key_positions and facts.num_pairs >= DENSE_BELOW:
        warn_once(
            "attention with key_positions takes time and memory in proportion to all pairs of "
            "queries and keys, whatever the pattern."
        )
    mask = _mask(q, k, pattern, options)
    out, weights = dense_attention(q, k, v, mask=mask, options=options)
    lse = dense_lse(q, k, mask=mask, options=options) if return_lse else None
    return AttentionOutput(out, weights, lse)


def _refuse_returns(pattern: Pattern, return_weights: bool, return_lse: bool) -> None:
    if isinstance(pattern, Hierarchical) and return_weights:
        raise ConfigError(
            f"{pattern!r} averages keys and does not go with return_weights.  "
            "Every mask pattern does, such as Local(...)."
        )
    if return_lse and return_weights:
        raise ConfigError(
            "return_lse does not go with return_weights: the weights are "
            "exp(scores - lse).  Ask for one of them."
        )
    if return_lse and isinstance(pattern, ScoreDependentPattern):
        raise ConfigError(
            f"{pattern!r} {pattern.reason} and does not go with return_lse.  "
            "Every mask pattern does, such as Local(...)."
        )


def _without_queries(result: AttentionOutput, padded: Tensor) -> AttentionOutput:
    """Leave nothing of padded queries, ``[batch, queries]`` True."""
    weights, lse = result.weights, result.lse
    return AttentionOutput(
        out=result.out.masked_fill(padded[:, None, :, None], 0.0),
        weights=None if weights is None else without_rows(weights, padded),
        lse=None if lse is None else lse.masked_fill(padded[:, None, :], -torch.inf),
    )


def _mask(q: Tensor, k: Tensor, pattern: MaskPattern, options: AttentionOptions) -> Tensor | None:
    """Join the pattern and the options, broadcastable to [batch, heads, queries, keys]."""
    queries, keys = options.positions(q, k)
    # A single causal query at the end of its keys sees all of them: nothing to mask.
    last_sees_all = options.key_positions is None and options.query_offset >= k.shape[2] - 1
    if isinstance(pattern, Full) or (isinstance(pattern, Causal) and last_sees_all):
        return options.allowed(None, q, k)
    return options.allowed(pattern.allowed(queries[:, None], keys[..., None, None, :]), q, k)


def _cast_to_autocast(tensor: Tensor) -> Tensor:
    """Cast to the type of an autocast region, as PyTorch's own attention does."""
    kind = tensor.device.type
    if tensor.is_floating_point() and torch.is_autocast_enabled(kind):
        return tensor.to(torch.get_autocast_dtype(kind))
    return tensor
