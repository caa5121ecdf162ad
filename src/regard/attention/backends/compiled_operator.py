"""Blockwise attention as one operator of a graph that ``torch.compile`` builds.

Dynamo does not look into an autograd Function that has a jvp, so while it traces, the function is
exchanged for an opaque operator with a first derivative. What that does not take (block tables,
learned scores, see `dispatch.py`) breaks the graph instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.attention.blockwise.combine import blockwise_attention, blockwise_gradient
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.text import format_pattern, parse_pattern
from regard.attention.scores import DotProduct


def compiled_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: MaskPattern, options: AttentionOptions
) -> Tensor:
    """Compute what `blockwise_attention` does, as one operator with a first derivative."""
    options = options.fold_key_mask(q, k)
    assert isinstance(options.score, DotProduct)
    of_queries, of_keys = options.segments or (None, None)
    return _attend(
        q,
        k,
        v,
        format_pattern(pattern),
        options.query_offset,
        options.score.scale,
        options.score.soft_cap,
        options.lengths,
        of_queries,
        of_keys,
    )


def _options(
    offset: int,
    scale: float | None,
    soft_cap: float | None,
    lengths: Tensor | None,
    of_queries: Tensor | None,
    of_keys: Tensor | None,
) -> AttentionOptions:
    segments = None
    if of_queries is not None and of_keys is not None:
        segments = (of_queries, of_keys)
    return AttentionOptions(
        score=DotProduct(scale, soft_cap), lengths=lengths, segments=segments, query_offset=offset
    )


@torch.library.custom_op("regard::blockwise_attention", mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: str,
    offset: int,
    scale: float | None,
    soft_cap: float | None,
    lengths: Tensor | None,
    of_queries: Tensor | None,
    of_keys: Tensor | None,
) -> Tensor:
    options = _options(offset, scale, soft_cap, lengths, of_queries, of_keys)
    return blockwise_attention(
        q, k, v, pattern=parse_pattern(pattern), options=options
    ).contiguous()


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:  # noqa: ARG001
    return v.new_empty((*q.shape[:3], v.shape[-1]))


@torch.library.custom_op("regard::blockwise_attention_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: str,
    offset: int,
    scale: float | None,
    soft_cap: float | None,
    lengths: Tensor | None,
    of_queries: Tensor | None,
    of_keys: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    options = _options(offset, scale, soft_cap, lengths, of_queries, of_keys)
    dq, dk, dv = blockwise_gradient(q, k, v, grad, pattern=parse_pattern(pattern), options=options)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


@_attend_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    q, k, v, *ctx.plain, lengths, of_queries, of_keys = inputs
    ctx.save_for_backward(q, k, v, lengths, of_queries, of_keys)


def _pull_back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, *others = ctx.saved_tensors
    return (*_attend_backward(grad, q, k, v, *ctx.plain, *others), *([None] * 7))


_attend.register_autograd(_pull_back, setup_context=_save)
