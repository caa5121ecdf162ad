"""Blockwise attention as one operator of a graph that ``torch.compile`` builds.

Dynamo does not trace an autograd Function that has a jvp, so while it traces, the function is
exchanged for an opaque operator with a first derivative. What that does not take (scores and biases
of one's own, see `dispatch.py`) breaks the graph instead (`uncompiled.py`).
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
from regard.attention.scores import Additive, Cosine, DotProduct, ScoreFunction, TransformerXL


class _Arguments(NamedTuple):
    """What both operators take after q, k and v: tensors and plain values, in this order."""

    tensors: list[Tensor]  # of the score, then of the bias, or the bias itself
    pattern: str
    offset: int
    score: str
    scale: float | None  # of dot products; of cosines the temperature, where it is a number
    soft_cap: float | None
    distance_offset: int  # of Transformer-XL
    bias: str
    bidirectional: bool  # of T5's bias, as the next
    max_distance: int
    dropout: float
    lengths: Tensor | None  # [batch]
    query_segments: Tensor | None  # [batch, queries]
    key_segments: Tensor | None  # [batch, keys]
    mask: Tensor | None  # [batch, heads, queries, keys], or 1 each
    seed: Tensor | None  # [1]

    def options(self, tensors: Sequence[Tensor]) -> AttentionOptions:
        """Return the options with these tensors of the score and the bias."""
        segments = None
        if self.query_segments is not None and self.key_segments is not None:
            segments = (self.query_segments, self.key_segments)
        *of_score, bias = (*tensors, None) if self.bias == "none" else tensors
        return AttentionOptions(
            score=self._score(of_score),
            bias=self._bias(bias),
            mask=self.mask,
            lengths=self.lengths,
            segments=segments,
            query_offset=self.offset,
            dropout=self.dropout,
            seed=self.seed,
        )

    def _score(self, tensors: Sequence[Tensor]) -> ScoreFunction:
        """Return the score with its tensors, each ``[heads or 1, ...]``."""
        if self.score == "cosine":
            return Cosine(tensors[0] if self.scale is None else self.scale, self.soft_cap)
        if self.score == "transformer_xl":
            return TransformerXL(*tensors, offset=self.distance_offset)
        if self.score in _ADDITIVE:
            weight, *maps = tensors
            return Additive(weight, **dict(zip(_ADDITIVE[self.score], maps, strict=True)))
        return DotProduct(self.scale, self.soft_cap)

    def _bias(self, tensor: Tensor | None) -> Bias | Tensor | None:
        """Return the bias of a tensor, ``[heads or 1, ...]`` or itself of all four axes."""
        if tensor is not None and self.bias == "alibi":
            return Alibi(tensor)
        if tensor is not None and self.bias == "t5":
            return T5Relative(tensor, self.bidirectional, self.max_distance)
        return tensor


_ADDITIVE = {
    "additive": (),
    "additive, query_map": ("query_map",),
    "additive, key_map": ("key_map",),
    "additive, query_map, key_map": ("query_map", "key_map"),
}
"""Which maps an additive score has, by the operator's name of the score."""

_SCHEMA = (
    "Tensor q, Tensor k, Tensor v, Tensor[] tensors, str pattern, SymInt offset, str score, "
    "float? scale, float? soft_cap, SymInt distance_offset, str bias, bool bidirectional, "
    "int max_distance, float dropout, Tensor? lengths, Tensor? of_queries, Tensor? of_keys, "
    "Tensor? mask, Tensor? seed"
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
    query_segments, key_segments = options.segments or (None, None)
    arguments = _Arguments(
        tensors=list(options.tensors()),
        pattern=_write_pattern(pattern),
        offset=options.query_offset,
        score=_name_score(score),
        scale=_scale(score),
        soft_cap=score.soft_cap if isinstance(score, DotProduct | Cosine) else None,
        distance_offset=score.offset if isinstance(score, TransformerXL) else 0,
        bias=_name_bias(bias),
        bidirectional=bias.bidirectional if isinstance(bias, T5Relative) else True,
        max_distance=bias.max_distance if isinstance(bias, T5Relative) else 0,
        dropout=float(options.dropout),
        lengths=options.lengths,
        query_segments=query_segments,
        key_segments=key_segments,
        mask=options.mask,
        seed=options.seed,
    )
    return _attend(q, k, v, *arguments)


def _write_pattern(pattern: MaskPattern) -> str:
    """Write a pattern as the operator takes it."""
    return _BLOCKS + pattern.packed if type(pattern) is Blocks else format_pattern(pattern)


def _name_score(score: ScoreFunction) -> str:
    """Return the operator's name of a score of this package."""
    if isinstance(score, Additive):
        maps = {"query_map": score.query_map, "key_map": score.key_map}
        return ", ".join(["additive", *(name for name in maps if maps[name] is not None)])
    if isinstance(score, TransformerXL):
        return "transformer_xl"
    if isinstance(score, Cosine):
        return "cosine"
    assert isinstance(score, DotProduct)
    return "dot"


def _scale(score: ScoreFunction) -> float | None:
    """Return the number that a score is multiplied by; None where it has none, or a tensor."""
    if isinstance(score, Cosine) and not isinstance(score.temperature, Tensor):
        return score.temperature
    return score.scale if isinstance(score, DotProduct) else None


def _name_bias(bias: Bias | Tensor | None) -> str:
    """Return the operator's name of a bias of this package."""
    if isinstance(bias, Alibi):
        return "alibi"
    if isinstance(bias, T5Relative):
        return "t5"
    return "none" if bias is None else "tensor"


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
    q, k, v, tensors, *ctx.plain, lengths, query_segments, key_segments, mask, seed = inputs
    ctx.save_for_backward(q, k, v, lengths, query_segments, key_segments, mask, seed, *tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    q, k, v, *rest = ctx.saved_tensors  # q, k, v are [batch, heads, length, dim]
    optional, tensors = rest[:5], rest[5:]
    dq, dk, dv, *tensor_grads = _attend_backward(grad, q, k, v, tensors, *ctx.plain, *optional)
    return (dq, dk, dv, tensor_grads, *([None] * (len(_Arguments._fields) - 1)))


_attend.register_autograd(_backward, setup_context=_setup_context)
