"""`attend`: one entry to every method of computing attention. Checks arguments, computes.

Which method computes a call is chosen by `dispatch.py`. Derivatives of any order exist with all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Unpack, overload

import torch
from torch import Tensor

from regard.attention.argument_checks import (
    cast_to_autocast,
    check_names,
    check_score,
    read_bias,
    read_dropout,
    read_pattern,
    split_lengths,
)
from regard.attention.backends.compiled_operator import compiled_attention
from regard.attention.backends.gpu import attend_on_gpu
from regard.attention.biases import Bias
from regard.attention.blockwise.combine import blockwise_attention
from regard.attention.dense import AttentionOutput, dense_attention, dense_lse, dense_scores
from regard.attention.dispatch import (
    DENSE_BELOW,
    AttentionMethod,
    choose_method,
    collect_facts,
    has_few_scores,
    warn_once,
)
from regard.attention.documents import attend_documents
from regard.attention.hashed_dropout import draw_seed
from regard.attention.nan_propagation import (
    attend_hidden,
    hide_unseen,
    is_asynchronous,
    is_finite,
    mark_queries,
    may_read,
    seen_through_attention,
    seen_through_mask,
)
from regard.attention.options import (
    AttendOptions,
    AttentionOptions,
    Lengths,
    broadcast_pairs,
    check_tensors,
)
from regard.attention.patterns import Full, Hierarchical
from regard.attention.patterns.base import (
    MaskPattern,
    Pattern,
    ResolvedPattern,
    ScoreDependentPattern,
)
from regard.attention.reachable_keys import keep_reachable, sees_all
from regard.attention.resolve_lengths import resolve_by_length
from regard.attention.scores import DotProduct, ScoreFunction
from regard.attention.weights import sparse_weights, zero_rows
from regard.errors import ConfigError


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern | str = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[False] = ...,
    return_lse: Literal[False] = ...,
    **options: Unpack[AttendOptions],
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern | str = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[True],
    return_lse: Literal[False] = ...,
    **options: Unpack[AttendOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern | str = ...,
    score: ScoreFunction = ...,
    mask: Tensor | None = ...,
    bias: Bias | Tensor | None = ...,
    lengths: Lengths = ...,
    generator: torch.Generator | None = ...,
    return_weights: Literal[False] = ...,
    return_lse: Literal[True],
    **options: Unpack[AttendOptions],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern | str = Full(),  # noqa: B008 - an immutable value
    score: ScoreFunction = DotProduct(),  # noqa: B008 - an immutable value
    mask: Tensor | None = None,
    bias: Bias | Tensor | None = None,
    lengths: Lengths = None,
    generator: torch.Generator | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
    **options: Unpack[AttendOptions],
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute multi-head attention (Vaswani et al. 2017, equation 1), differentiable to any order.

    Args:
        q: Queries, ``[batch, heads, queries, dim]``, floating point.
        k: Keys, ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads` (grouped queries).
        v: Values, ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend, or its text form, such as ``"local:64"``. One that depends
            on the length is resolved for each row by its valid keys.
        score: Score of a query and a key; scaled dot product by default.
        mask: Boolean, True where attention is allowed, of any shape that broadcasts to ``[batch,
            heads, queries, keys]``. What the pattern and the other options forbid stays forbidden.
        bias: Added to the scores: by position, or numbers of any shape that broadcasts to ``[batch,
            heads, queries, keys]``. Minus infinity forbids a pair.
        lengths: Valid keys of each row, ``[batch]`` integers, 0 to the number of keys; padding is
            on the right. A pair ``(query_lengths or None, key_lengths or None)`` gives both, and
            padded queries give zeros; one tensor never means the queries.
        generator: Draws the seed of dropout; None takes PyTorch's default.
        return_weights: Return the attention weights too.
        return_lse: Return the log-sum-exp of the allowed scores too; not with `return_weights`,
            `TopK` and `Hierarchical`.
        **options: By name, any of

            - ``segments``: Segment numbers of the queries ``[batch, queries]`` and of the keys
              ``[batch, keys]``; only equal ones see each other.
            - ``segments_are_documents``: Whether each segment is a text of its own: pattern, score
              and bias count positions from its start, and pairs of two texts cost nothing. False
              counts from the start of the row.
            - ``query_offset``: Position of the first query (key j is at position j), 0 or more.
            - ``key_positions``: Positions of the keys, ``[keys]`` or ``[batch, keys]``, such as
              those of a ring buffer; a negative one marks an empty slot. Computed densely.
            - ``dropout``: Rate on the weights, 0 to below 1. The choice is a hash of a seed and the
              pair.

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
    q, k, v = cast_to_autocast(q, k, v)
    check_tensors(q, k, v)
    pattern = read_pattern(pattern)
    query_lengths, key_lengths = split_lengths(lengths, q, k)
    check_names(options)
    check_score(score)
    dropout = read_dropout(options.get("dropout", 0.0))
    checked = AttentionOptions(
        score=score,
        bias=read_bias(bias, q, k),
        mask=None if mask is None else broadcast_pairs("mask", mask, q, k),
        lengths=key_lengths,
        seed=draw_seed(generator, q.device) if dropout > 0 else None,
        **options,
    )
    checked.check(q, k)
    _refuse_returns(pattern, return_weights, return_lse)
    if not return_weights:
        k, v, checked = keep_reachable(k, v, pattern, checked, q.shape[2])
    result = _attend_finite(
        q, k, v, pattern, checked, return_weights=return_weights, return_lse=return_lse
    )
    out, extra = (
        result.out,
        result.lse if return_lse else result.weights if return_weights else None,
    )
    if query_lengths is not None:
        padded = torch.arange(q.shape[2], device=q.device) >= query_lengths[:, None]
        out = out.masked_fill(padded[:, None, :, None], 0.0)
        if return_lse and extra is not None:
            extra = extra.masked_fill(padded[:, None, :], -torch.inf)
        elif extra is not None:
            extra = zero_rows(extra, padded)
    return out if extra is None else (out, extra)


def _attend_finite(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    *,
    return_weights: bool,
    return_lse: bool,
) -> AttentionOutput:
    """Compute attention of q, k, v ``[batch, heads, length, dim]``; those not finite give NaN."""
    resolve = partial(_resolve, returns_weights=return_weights)
    compute = partial(_compute, return_weights=return_weights, return_lse=return_lse)
    if is_asynchronous(q):
        return resolve(compute, *hide_unseen(q, k, v, options), pattern, options)
    if not may_read(q):
        compute = partial(_compute_unread, return_weights=return_weights, return_lse=return_lse)
        return resolve(compute, q, k, v, pattern, options)
    is_one_text = not options.segments_are_documents
    if is_one_text and isinstance(pattern, MaskPattern) and has_few_scores(q, k):
        # The scores of one query over many keys are fewer numbers than the keys.
        result = _compute_dense(
            *(q, k, v, pattern, options), return_weights=return_weights, return_lse=return_lse
        )
        if result.scores is not None and is_finite(q, result.scores, result.out):
            return result
    if is_finite(q, k, v):
        return resolve(compute, q, k, v, pattern, options)
    mean = partial(_resolve, _compute_output, returns_weights=False)
    return attend_hidden(
        *(q, k, v),
        lambda q, k, v: resolve(compute, q, k, v, pattern, options),
        lambda nonfinite: seen_through_attention(nonfinite, pattern, options, mean),
    )


def _resolve(
    compute: Callable[[Tensor, Tensor, Tensor, ResolvedPattern, AttentionOptions], AttentionOutput],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    *,
    returns_weights: bool,
) -> AttentionOutput:
    """Compute q, k, v ``[batch, heads, length, dim]`` by document, and row by row's length."""
    if not options.segments_are_documents:
        return resolve_by_length(compute, q, k, v, pattern, options)
    return attend_documents(
        partial(resolve_by_length, compute),
        *(q, k, v, pattern, options),
        returns_weights=returns_weights,
    )


def _compute_unread(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: ResolvedPattern,
    options: AttentionOptions,
    *,
    return_weights: bool,
    return_lse: bool,
) -> AttentionOutput:
    """Compute q, k, v ``[batch, heads, length, dim]`` whose numbers may not be read."""
    compute = partial(_compute, return_weights=return_weights, return_lse=return_lse)
    facts = collect_facts(q, k, v, options, returns_weights=return_weights, returns_lse=return_lse)
    if choose_method(pattern, facts) in (AttentionMethod.DENSE, AttentionMethod.COMPILED):
        return compute(q, k, v, pattern, options)  # these see to it themselves
    return attend_hidden(
        *(q, k, v),
        lambda q, k, v: compute(q, k, v, pattern, options),
        lambda nonfinite: seen_through_attention(nonfinite, pattern, options, _compute_output),
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
    """Compute q, k, v ``[batch, heads, length, dim]`` by the method that is chosen."""
    facts = collect_facts(q, k, v, options, returns_weights=return_weights, returns_lse=return_lse)
    method = choose_method(pattern, facts)
    if is_asynchronous(q) and method is not AttentionMethod.FLEX:  # that one looks at its scores
        q = mark_queries(q, k)
    if isinstance(pattern, ScoreDependentPattern):
        if method is AttentionMethod.HIERARCHICAL_DENSE and facts.num_pairs >= DENSE_BELOW:
            warn_once(
                f"{pattern!r} with a mask of pairs takes time and memory quadratic in the length; "
                "with a mask of keys alone, [batch, heads, 1, keys], it does not."
            )
        return pattern.attend(q, k, v, options)
    if method in (AttentionMethod.SDPA, AttentionMethod.FLEX):
        return attend_on_gpu(
            *(q, k, v), pattern=pattern, options=options, method=method, returns_lse=return_lse
        )
    if method is AttentionMethod.COMPILED:
        return AttentionOutput(compiled_attention(q, k, v, pattern, options))
    if method is not AttentionMethod.DENSE:
        by_blocks = _uncompiled() if facts.is_compiling else blockwise_attention
        result = by_blocks(q, k, v, pattern=pattern, options=options, return_lse=return_lse)
        if method is AttentionMethod.BLOCKWISE:
            return result
        weights = sparse_weights(q, k, pattern=pattern, options=options)
        return result._replace(weights=weights)
    return _compute_dense(
        q, k, v, pattern, options, return_weights=return_weights, return_lse=return_lse
    )


def _uncompiled() -> Callable[..., AttentionOutput]:
    """Return blockwise attention as no graph holds it; its module imports the compiler."""
    from regard.attention.backends.uncompiled import blockwise_attention_uncompiled

    return blockwise_attention_uncompiled


_compute_output = partial(_compute, return_weights=False, return_lse=False)


def _compute_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: MaskPattern,
    options: AttentionOptions,
    *,
    return_weights: bool,
    return_lse: bool,
) -> AttentionOutput:
    """Compute q, k, v ``[batch, heads, length, dim]`` by the definition."""
    if options.key_positions is not None and q.shape[2] * k.shape[2] >= DENSE_BELOW:
        warn_once(
            "attention with key_positions takes time and memory in proportion to all pairs of "
            "queries and keys, whatever the pattern."
        )
    allowed = None
    if not isinstance(pattern, Full) and not sees_all(q, k, pattern, options):
        allowed = pattern.allowed(*options.positions(q, k))
    mask = options.allowed(allowed, q, k)  # broadcastable to [batch, heads, queries, keys]

    def compute(q: Tensor, k: Tensor, v: Tensor) -> AttentionOutput:
        scores = dense_scores(q, k, options)
        out, weights = dense_attention(q, k, v, mask=mask, options=options, scores=scores)
        lse = dense_lse(q, k, mask=mask, options=options) if return_lse else None
        return AttentionOutput(out, weights if return_weights else None, lse, scores)

    if may_read(q) or is_asynchronous(q):
        return compute(q, k, v)
    return attend_hidden(q, k, v, compute, partial(seen_through_mask, mask=mask))


def _refuse_returns(pattern: Pattern, return_weights: bool, return_lse: bool) -> None:
    if isinstance(pattern, Hierarchical) and return_weights:
        raise ConfigError(
            f"{pattern!r} averages keys and does not go with return_weights.  "
            "Every mask pattern does, such as Local(...)."
        )
    if not return_lse:
        return
    if return_weights:
        raise ConfigError(
            "return_lse does not go with return_weights: the weights are "
            "exp(scores - lse).  Ask for one of them."
        )
    if isinstance(pattern, ScoreDependentPattern):
        raise ConfigError(
            f"{pattern!r} {pattern.reason} and does not go with return_lse.  "
            "Every mask pattern does, such as Local(...)."
        )
