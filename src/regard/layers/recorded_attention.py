"""Layers of attention that hand out what they compute, for alignment and explanations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from regard import attention
from regard.attention import Bias, DotProduct, Lengths, Pattern, ScoreFunction
from regard.layers.layer import Layer


class AttentionRecord(NamedTuple):
    """What one call of attention read and computed.

    Args:
        queries: ``[batch, heads, queries, head_dim]``, as they are scored.
        keys: ``[batch, kv_heads, keys, head_dim]``; `kv_heads` divides `heads`.
        values: ``[batch, kv_heads, keys, value_dim]``.
        weights: ``[batch, heads, queries, keys]``; a sparse tensor where a sparse pattern meets
            long sequences (see `attend`), None where the pattern has none.
        output: Weights times values, ``[batch, heads, queries, value_dim]``.
        score: Score function of a query and a key.
        pattern: Which pairs may attend.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    weights: Tensor | None
    output: Tensor
    score: ScoreFunction
    pattern: Pattern


class RecordedAttention(Layer):
    """The base of the layers of attention.

    Args:
        pattern: Which positions may see which.
    """

    num_heads = 1

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self.pattern = pattern
        self.on_attention: Callable[[AttentionRecord], None] | None = None
        """Called with the record of every call of attention, where set.

        A layer may make several calls in one pass, each for the queries after those of the call
        before: a decoder that attends before it knows the next query makes one a position, and a
        layer with global tokens one for these and one for the others.
        """

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        pattern: Pattern | None = None,
        score: ScoreFunction = DotProduct(),  # noqa: B008 - an immutable value
        bias: Bias | None = None,
        lengths: Lengths = None,
        query_offset: int = 0,
        key_positions: Tensor | None = None,
        first_query: int = 0,
    ) -> Tensor:
        """Compute attention, and hand out its record where `on_attention` is set.

        Args:
            q: ``[batch, heads, queries, head_dim]``.
            k: ``[batch, kv_heads, keys, head_dim]``.
            v: ``[batch, kv_heads, keys, value_dim]``.
            pattern: Which pairs may attend; None is the layer's.
            score: Score function of a query and a key.
            bias: Added to the scores; None adds nothing.
            lengths: Valid keys of each row, or a pair with those of the queries, see `attend`.
            query_offset: Position of the first query.
            key_positions: Positions of the keys; None is 0, 1, ...
            first_query: Queries before this one are computed and left out; 0 where weights may be
                sparse.

        Returns:
            ``[batch, heads, queries - first_query, value_dim]``.
        """
        pattern = self.pattern if pattern is None else pattern
        compute = partial(
            attention.attend,
            q,
            k,
            v,
            pattern=pattern,
            score=score,
            bias=bias,
            lengths=lengths,
            query_offset=query_offset,
            key_positions=key_positions,
        )
        if self.on_attention is None:
            out = compute()
            return out[:, :, first_query:] if first_query else out
        weights = None
        if isinstance(pattern, attention.Hierarchical):
            out = compute()
        else:
            out, weights = compute(return_weights=True)
        if first_query:
            q, out = q[:, :, first_query:], out[:, :, first_query:]
            weights = None if weights is None else weights[:, :, first_query:]
        self.on_attention(AttentionRecord(q, k, v, weights, out, score, pattern))
        return out
