"""Blockwise attention as one operator of a graph that ``torch.compile`` builds.

Dynamo does not trace an autograd Function that has a jvp, so while it traces, the function is
exchanged for an opaque operator with a first derivative. What that does not take (block tables,
learned scores, see `dispatch.py`) breaks the graph instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.attention.blockwise.combine import blockwise_attention, blockwise_gradient
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.text import format_pattern, parse_pattern
from regard.attention.scores import DotProduct


class _Arguments(NamedTuple):
    """What both operators take after q, k and v: tensors and plain values, in this order."""

    pattern: str
    offset: int
    scale: float | None
    soft_cap: float | None
    lengths: Tensor | None  # [batch]
    query_segments: Tensor | None  # [batch, queries]
    key_segments: Tensor | None  # [batch, keys]

    def options(self) -> AttentionOptions:
        segments = None
        if self.query_segments is not None and self.key_segments is not None:
            segments = (self.query_segments, self.key_segments)
        return AttentionOptions(
            score=DotProduct(self.scale, self.soft_cap),
            lengths=self.lengths,
            segments=segments,
            query_offset=self.offset,
        )


_SCHEMA = (
    "Tensor q, Tensor k, Tensor v, str pattern, SymInt offset, float? scale, float? soft_cap, "
    "Tensor? lengths, Tensor? of_queries, Tensor? of_keys"
)


def compiled_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: MaskPattern, options: AttentionOptions
) -> Tensor:
    """Compute ``[batch, heads, queries, value_dim]`` by one operator with a first derivative."""
    options = options.fold_key_mask(q, k)
    score = options.score
    is_dot_product = isinstance(score, DotProduct)
    query_segments, key_segments = options.segments or (None, None)
    arguments = _Arguments(
        format_pattern(pattern),
        options.query_offset,
        score.scale if is_dot_product else None,
        score.soft_cap if is_dot_product else None,
        options.lengths,
        query_segments,
        key_segments,
    )
    return _attend(q, k, v, *arguments)


@torch.library.custom_op(
    "regard::blockwise_attention", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor"
)
def _attend(q: Tensor, k: Tensor, v: Tensor, *arguments: Any) -> Tensor:
    call = _Arguments(*arguments)
    out = blockwise_attention(
        q, k, v, pattern=parse_pattern(call.pattern), options=call.options()
    ).out
    return out.contiguous()  # [batch, heads, queries, value_dim]


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:  # noqa: ARG001
    return v.new_empty((*q.shape[:3], v.shape[-1]))


@torch.library.custom_op(
    "regard::blockwise_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    call = _Arguments(*arguments)
    pattern, options = parse_pattern(call.pattern), call.options()
    dq, dk, dv = blockwise_gradient(q, k, v, grad, pattern=pattern, options=options)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()  # [batch, heads, length, dim]


@_attend_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    q, k, v, *ctx.plain, lengths, query_segments, key_segments = inputs
    ctx.save_for_backward(q, k, v, lengths, query_segments, key_segments)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, *optional = ctx.saved_tensors  # q, k, v are [batch, heads, length, dim]
    return (*_attend_backward(grad, q, k, v, *ctx.plain, *optional), *([None] * 7))


_attend.register_autograd(_backward, setup_context=_setup_context)
