"""Scores, biases and masks of a call as FlexAttention takes them.

It computes ``q . k / sqrt(dim)`` and lets a function change the score of a pair. What can be done
to queries and keys before is done there, once for each and not once for each pair.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TypeGuard

import torch
from torch import Tensor

from regard.attention.backends.flex.block_mask import MaskSizes, PairMask
from regard.attention.biases import Alibi, Bias, T5Relative
from regard.attention.options import AttentionOptions
from regard.attention.scores import (
    Cosine,
    DotProduct,
    ScoreFunction,
    TransformerXL,
    dim_scale,
    unit,
)

ScoreChange = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Returns a score from ``q . k / sqrt(dim)`` and the indices of row, head, query and key."""


def is_score(score: ScoreFunction) -> TypeGuard[DotProduct | Cosine | TransformerXL]:
    """Return whether a score is a change of dot products."""
    return isinstance(score, (DotProduct, Cosine, TransformerXL))


def is_bias(bias: Bias | Tensor | None) -> TypeGuard[Tensor | Alibi | T5Relative | None]:
    """Return whether a bias is of the pair, or of its distance."""
    return bias is None or isinstance(bias, (Tensor, Alibi, T5Relative))


def change_score(
    q: Tensor, k: Tensor, options: AttentionOptions
) -> tuple[Tensor, Tensor, ScoreChange]:
    """Express the score and the bias of a call.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        options: Of the call, with a score and a bias for which `is_score` and `is_bias` hold.

    Returns:
        Queries and keys of the same shapes, and what changes their scaled dot products.
    """
    score, bias = options.score, options.bias
    sizes = MaskSizes(q.shape[2], k.shape[2], options.query_offset)
    changes: list[ScoreChange] = [_infinity_to_nan]
    if isinstance(score, TransformerXL):
        changes.append(_by_table_of_distances(q, score, options.query_offset))
        q = q + score.content_bias.to(q.dtype)[:, None, :]
    elif isinstance(score, Cosine):
        q, k = _cosine(q, k, score)
    elif isinstance(score, DotProduct) and score.scale is not None:
        q = q * (score.scale / dim_scale(q))
    changes += _soft_cap(score, q) + _bias(bias, q.shape[1], sizes)
    return q, k, reduce(_then, changes)


def _infinity_to_nan(
    s: Tensor,
    b: Tensor,  # noqa: ARG001
    h: Tensor,  # noqa: ARG001
    i: Tensor,  # noqa: ARG001
    j: Tensor,  # noqa: ARG001
) -> Tensor:
    """Show an infinite key to the queries that see it: minus infinity would be a weight of 0."""
    return s.masked_fill(s.isinf(), torch.nan)  # a product with 0 is dropped by the compiler


def _cosine(q: Tensor, k: Tensor, score: Cosine) -> tuple[Tensor, Tensor]:
    """Return q and k, ``[batch, heads, length, dim]``, whose scaled dot products are the scores."""
    temperature = score.temperature
    if isinstance(temperature, Tensor):
        temperature = temperature[:, None, None]  # [heads, 1, 1]
    return (unit(q) * (temperature / dim_scale(q))).to(q.dtype), unit(k)


def _by_table_of_distances(q: Tensor, score: TransformerXL, query_offset: int) -> ScoreChange:
    """Return what adds ``(q + v) . r_{i-j} / sqrt(dim)``: rows of the whole table, by query."""
    position_bias, relative = score.position_bias.to(q.dtype), score.relative.to(q.dtype)
    rows = torch.matmul(q + position_bias[:, None, :], relative.transpose(-1, -2)) * dim_scale(q)
    last, first = _number(relative.shape[1] - 1, q), _number(query_offset + score.offset, q)

    def change(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = torch.minimum((i - j + first).clamp(min=0), last)
        return s + rows[b, h, i, row]

    return change


def _soft_cap(score: ScoreFunction, q: Tensor) -> list[ScoreChange]:
    """Return what bounds a score, where anything does."""
    soft_cap = score.soft_cap if isinstance(score, (DotProduct, Cosine)) else None
    if soft_cap is None:
        return []
    cap = q.new_full((), soft_cap, dtype=torch.float32)
    return [lambda s, b, h, i, j: cap * torch.tanh(s / cap)]  # noqa: ARG005


def _bias(bias: Bias | Tensor | None, num_heads: int, sizes: MaskSizes) -> list[ScoreChange]:
    """Return what adds a bias to a score, where there is one."""
    if bias is None:
        return []
    if isinstance(bias, Tensor):
        of_pair = _indexed(bias)

        def add_pair(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return s + of_pair(b, h, i, j)

        return [add_pair]
    tensors = bias.tensors()
    least = -(sizes.offset + sizes.queries - 1)  # from the last query to key 0
    distances = torch.arange(least, sizes.keys, device=tensors[0].device)
    by_distance = bias(torch.zeros_like(distances[:1, None]), distances[None], tensors)[:, 0]
    # [heads, distances]; a copy, as PyTorch 2.13 computes no gradient of a view that is read here.
    by_distance = by_distance.expand(num_heads, -1).clone()
    shift = _number(sizes.queries - 1, distances)

    def add(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:  # noqa: ARG001
        return s + by_distance[h, j - i + shift]

    return [add]


def _then(first: ScoreChange, second: ScoreChange) -> ScoreChange:
    def change(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return second(first(s, b, h, i, j), b, h, i, j)

    return change


def masks_of(options: AttentionOptions) -> list[PairMask]:
    """Return what lengths, segments, mask and a bias of minus infinity allow."""
    masks: list[PairMask] = []
    if (lengths := options.lengths) is not None:
        masks.append(lambda b, h, i, j: j < lengths[b])  # noqa: ARG005
    if options.segments is not None:
        of_queries, of_keys = options.segments
        masks.append(lambda b, h, i, j: of_queries[b, i] == of_keys[b, j])  # noqa: ARG005
    if options.mask is not None:
        masks.append(_indexed(options.mask))
    if isinstance(options.bias, Tensor):
        of_pair = _indexed(options.bias.detach())
        masks.append(lambda b, h, i, j: of_pair(b, h, i, j) != -torch.inf)
    return masks


def _indexed(tensor: Tensor) -> PairMask:
    """Return what reads ``[batch, heads, queries, keys]``, or 1 each, at a pair."""
    rows, heads, queries, keys = (int(size > 1) for size in tensor.shape)

    def read(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return tensor[b * rows, h * heads, i * queries, j * keys]

    return read


def _number(value: int, like: Tensor) -> Tensor:
    """Return a number as a tensor: another one needs no other compiled kernel."""
    return like.new_full((), value, dtype=torch.int32)  # a copy would wait for the device
