"""Blockwise attention as one operator of a graph that ``torch.compile`` builds.

Dynamo does not trace an autograd Function that has a jvp, so while it traces, the function is
exchanged for an opaque operator with a first derivative. What that does not take (other
scores and biases, see `dispatch.py`) breaks the graph instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.attention.biases import Alibi, Bias, T5Relative
from regard.attention.blockwise.combine import blockwise_attention, blockwise_gradient
from regard.attention.dense import AttentionOutput
from regard.attention.nan_propagation import (
    attend_hidden,
    is_asynchronous,
    is_finite,
    seen_through_attention,
)
from regard.attention.options import AttentionOptions
from regard.attention.patterns import Blocks
from regard.attention.patterns.base import MaskPattern, Pattern
from regard.attention.patterns.text import format_pattern, parse_pattern
from regard.attention.scores import Cosine, DotProduct, ScoreFunction


class _Arguments(NamedTuple):
    """What both operators take after q, k and v: tensors and plain values, in this order."""

    tensors: list[Tensor]  # of the score, then of the bias, or the bias itself
    pattern: str
    offset: int
    score: str
    scale: float | None  # of dot products; of cosines the temperature, where it is a number
    soft_cap: float | None
    bias: str
    bidirectional: bool  # of T5's bias, as the next
    max_distance: int
    dropout: float
    lengths: Tensor | None  # [batch]
    query_segments: Tensor | None  # [batch, queries]
    key_segments: Tensor | None  # [batch, keys]
    seed: Tensor | None  # [1]

    def options(self, tensors: Sequence[Tensor]) -> AttentionOptions:
        """Return the options with these tensors of the score and the bias."""
        segments = None
        if self.query_segments is not None and self.key_segments is not None:
            segments = (self.query_segments, self.key_segments)
        rest = list(tensors)
        score: ScoreFunction = DotProduct(self.scale, self.soft_cap)
        if self.score == "cosine":
            score = Cosine(rest.pop(0) if self.scale is None else self.scale, self.soft_cap)
        bias: Bias | Tensor | None = rest.pop(0) if self.bias != "none" else None
        if self.bias == "alibi" and bias is not None:
            bias = Alibi(bias)
        elif self.bias == "t5" and bias is not None:
            bias = T5Relative(bias, self.bidirectional, self.max_distance)
        return AttentionOptions(
            score=score,
            bias=bias,
            lengths=self.lengths,
            segments=segments,
            query_offset=self.offset,
            dropout=self.dropout,
            seed=self.seed,
        )


_SCHEMA = (
    "Tensor q, Tensor k, Tensor v, Tensor[] tensors, str pattern, SymInt offset, str score, "
    "float? scale, float? soft_cap, str bias, bool bidirectional, int max_distance, "
    "float dropout, Tensor? lengths, Tensor? of_queries, Tensor? of_keys, Tensor? seed"
)


_BLOCKS = "blocks:"  # begins the text of a table, which has no text form elsewhere


@lru_cache(maxsize=64)
def _read_pattern(text: str) -> Pattern:
    """Read a pattern as the operator takes it."""
    is_table = text.startswith(_BLOCKS)
    return Blocks.unpack(text.removeprefix(_BLOCKS)) if is_table else parse_pattern(text)


def compiled_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: MaskPattern, options: AttentionOptions
) -> Tensor:
    """Compute ``[batch, heads, queries, value_dim]`` by one operator with a first derivative."""
    options = options.fold_key_mask(q, k)
    score, bias = options.score, options.bias
    scale = score.scale if isinstance(score, DotProduct) else None
    if isinstance(score, Cosine) and not isinstance(score.temperature, Tensor):
        scale = score.temperature
    kind = "none" if bias is None else "tensor"
    of_bias = [bias] if isinstance(bias, Tensor) else []
    bidirectional, max_distance = True, 0
    if isinstance(bias, Alibi):
        kind, of_bias = "alibi", [bias.slopes]
    elif isinstance(bias, T5Relative):
        kind, of_bias = "t5", [bias.table]
        bidirectional, max_distance = bias.bidirectional, bias.max_distance
    query_segments, key_segments = options.segments or (None, None)
    arguments = _Arguments(
        [*score.tensors(), *of_bias],
        _BLOCKS + pattern.packed if isinstance(pattern, Blocks) else format_pattern(pattern),
        options.query_offset,
        "cosine" if isinstance(score, Cosine) else "dot",
        scale,
        score.soft_cap if isinstance(score, (DotProduct, Cosine)) else None,
        kind,
        bidirectional,
        max_distance,
        float(options.dropout),
        options.lengths,
        query_segments,
        key_segments,
        options.seed,
    )
    return _attend(q, k, v, *arguments)


@torch.library.custom_op(
    "regard::blockwise_attention", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor"
)
def _attend(q: Tensor, k: Tensor, v: Tensor, *arguments: Any) -> Tensor:
    call = _Arguments(*arguments)
    pattern, options = _read_pattern(call.pattern), call.options(call.tensors)
    if is_asynchronous(q) or is_finite(q, k, v):
        result = _compute(q, k, v, pattern, options)
    else:
        result = _compute_hidden(q, k, v, pattern, options)
    return result.out.contiguous()  # [batch, heads, queries, value_dim]


def _compute(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, options: AttentionOptions
) -> AttentionOutput:
    """Compute attention of q, k, v ``[batch, heads, length, dim]``."""
    return blockwise_attention(q, k, v, pattern=pattern, options=options)


def _compute_hidden(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, options: AttentionOptions
) -> AttentionOutput:
    """Compute attention of q, k, v ``[batch, heads, length, dim]`` that are not all finite."""
    return attend_hidden(
        *(q, k, v),
        lambda q, k, v: _compute(q, k, v, pattern, options),
        lambda nonfinite: seen_through_attention(nonfinite, pattern, options, _compute),
    )


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:  # noqa: ARG001
    return v.new_empty((*q.shape[:3], v.shape[-1]))  # [batch, heads, queries, value_dim]


@torch.library.custom_op(
    "regard::blockwise_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_SCHEMA}) -> Tensor[]",
)
def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *arguments: Any
) -> list[Tensor]:
    """Compute the cotangents of q, k, v ``[batch, heads, length, dim]``, of score and bias."""
    call = _Arguments(*arguments)
    pattern = _read_pattern(call.pattern)
    if not (is_asynchronous(q) or is_finite(q, k, v)):
        return _gradient_of_hidden(grad, q, k, v, call)
    if not call.tensors:
        options = call.options([])
        gradients = blockwise_gradient(q, k, v, grad, pattern=pattern, options=options)
    else:

        def compute(q: Tensor, k: Tensor, v: Tensor, *tensors: Tensor) -> Tensor:
            options = call.options(tensors)
            return blockwise_attention(q, k, v, pattern=pattern, options=options).out

        gradients = torch.func.vjp(compute, q, k, v, *call.tensors)[1](grad)
    return [gradient.contiguous() for gradient in gradients]


def _gradient_of_hidden(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: _Arguments
) -> list[Tensor]:
    """Compute the cotangents where q, k, v ``[batch, heads, length, dim]`` are not all finite."""
    pattern = _read_pattern(call.pattern)

    def compute(q: Tensor, k: Tensor, v: Tensor, *tensors: Tensor) -> Tensor:
        return _compute_hidden(q, k, v, pattern, call.options(tensors)).out

    gradients = torch.func.vjp(compute, q, k, v, *call.tensors)[1](grad)
    return [gradient.contiguous() for gradient in gradients]


@_attend_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tensors: list[Tensor],
    *_: Any,
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in (q, k, v, *tensors)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    q, k, v, tensors, *ctx.plain, lengths, query_segments, key_segments, seed = inputs
    ctx.num_tensors = len(tensors)
    ctx.save_for_backward(q, k, v, lengths, query_segments, key_segments, seed, *tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    q, k, v, *rest = ctx.saved_tensors  # q, k, v are [batch, heads, length, dim]
    optional, tensors = rest[:4], rest[4:]
    dq, dk, dv, *tensor_grads = _attend_backward(grad, q, k, v, tensors, *ctx.plain, *optional)
    return (dq, dk, dv, tensor_grads, *([None] * 13))


_attend.register_autograd(_backward, setup_context=_setup_context)
