"""Attention over any mask pattern, by terms: each is computed blockwise, the results are joined.

For parts with outputs o_t and log-sum-exps l_t over disjoint sets of keys the whole is
``sum_t exp(l_t) o_t / sum_t exp(l_t)``. Cost: linear in the allowed pairs, memory linear in the
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from regard.attention.backends.cpu_kernels import Fused
from regard.attention.backends.sdpa import SdpaBackend
from regard.attention.backends.tiled_flash import FlashBackend
from regard.attention.biases import Bias
from regard.attention.blockwise.any_order import Operation, Shortcut
from regard.attention.blockwise.block_attention import NOTHING, BlockAttention
from regard.attention.blockwise.closed_form import DotProductBlock
from regard.attention.blockwise.schedule import BlockGroup, plan_blocks
from regard.attention.blockwise.tiling import (
    AttentionShape,
    PerHead,
    PerKey,
    PerPair,
    PerQuery,
    PerRow,
    TileSpec,
)
from regard.attention.nan_propagation import propagate_nan
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import Pattern, resolve
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.attention.scores import DotProduct, ScoreFunction


def blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, *, pattern: Pattern, options: AttentionOptions
) -> Tensor:
    """Compute attention in memory linear in the length.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: A mask pattern.
        options: All else; keys stand at positions 0, 1, ... A pattern that depends on the length
            takes that of all keys, padded ones included.

    Returns:
        ``[batch, heads, queries, value_dim]``.
    """
    tensors, operations = _plan(q, k, v, pattern, options)
    return _sum(tensors, [operation(*tensors) for operation in operations])


def blockwise_gradient(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, *, pattern: Pattern, options: AttentionOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the cotangents of q, k and v where autograd does not record, the value once again.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        grad: Cotangent of the output, ``[batch, heads, queries, value_dim]``.
        pattern: A mask pattern.
        options: All else.
    """
    tensors, operations = _plan(q, k, v, pattern, options)
    shortcuts = [operation.fast for operation in operations if operation.fast is not None]
    if not operations or len(shortcuts) < len(operations):
        compute = partial(blockwise_attention, pattern=pattern, options=options)
        return torch.func.vjp(compute, q, k, v)[1](grad)
    pairs = list(zip(shortcuts, operations, strict=True))
    with torch.autocast(q.device.type, enabled=False):
        parts = [fast.forward(operation, tensors) for fast, operation in pairs]
        cotangents = torch.func.vjp(lambda *parts: _sum(tensors, parts), *parts)[1](grad)
        found = [
            fast.backward(operation, tensors, outputs, given)
            for (fast, operation), outputs, given in zip(pairs, parts, cotangents, strict=True)
        ]
    totals = list(found[0])
    for more in found[1:]:
        totals = [total + added for total, added in zip(totals, more, strict=True)]
    dq, dk, dv = totals
    return dq, dk, dv


def is_fused(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, options: AttentionOptions) -> bool:
    """Tell whether the compiled kernels compute value and first derivative.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: A mask pattern that does not depend on the length.
        options: All else.
    """
    if _closed_form_scale(options.score, options.bias, options.dropout, q) is None:
        return False
    return all(term.is_band for term in pattern.terms()) and Fused.takes((q, k, v))


def prepare_blocks(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> tuple[BlockAttention, list[Tensor], tuple[TileSpec, ...]]:
    """Build the block function, and list its inputs with their roles."""
    sizes = AttentionShape(q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2])
    function = BlockAttention(
        sizes=sizes,
        score=options.score,
        bias=options.bias,
        has_lengths=options.lengths is not None,
        has_segments=options.segments is not None,
        dropout=options.dropout,
    )
    inputs: list[tuple[Tensor, TileSpec]] = [(q, PerQuery(sizes, 0.0))]
    inputs += [(tensor, PerKey(sizes)) for tensor in (k, v)]
    inputs += [(tensor, PerHead(tensor.shape[0])) for tensor in options.score.tensors()]
    bias = options.bias
    if isinstance(bias, Tensor):
        inputs.append((bias, PerPair(tuple(bias.shape))))
    elif bias is not None:
        inputs += [(tensor, PerHead(tensor.shape[0])) for tensor in bias.tensors()]
    if options.lengths is not None:
        inputs.append((options.lengths, PerRow()))
    if options.segments is not None:
        of_queries, of_keys = (ids[:, None, :, None] for ids in options.segments)
        inputs += [(of_queries, PerQuery(sizes, 0.0)), (of_keys, PerKey(sizes))]
    if options.seed is not None:
        inputs.append((options.seed, PerHead(1)))
    return function, [tensor for tensor, _ in inputs], tuple(role for _, role in inputs)


def _plan(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, options: AttentionOptions
) -> tuple[Sequence[Tensor], list[Operation]]:
    """List the tensors, and an operation on them for each term that allows a pair."""
    function, tensors, roles = prepare_blocks(q, k, v, options)
    pattern = resolve(pattern, options.query_offset + q.shape[2], k.shape[2])
    sizes = function.sizes
    terms = tuple(sorted(pattern.terms(), key=lambda term: not term.is_band))
    plan = plan_blocks(terms, sizes.queries, sizes.keys, options.query_offset)
    scale = _closed_form_scale(options.score, options.bias, options.dropout, q)
    plain = None if scale is None else FlashBackend(function, scale)
    if scale is None:
        tensors[0] = propagate_nan(q, k)
    block = function if scale is None else DotProductBlock(function, scale)
    operations = []
    for groups in filter(None, plan):
        covered = sum(g.queries.num_blocks * g.queries.width for g in groups) == sizes.queries
        out, lse = (PerQuery(sizes, None if covered else fill) for fill in (0.0, NOTHING))
        inputs = (PerQuery(sizes, None if covered else 0.0), *roles[1:])
        fast = None if plain is None else _shortcut(plain, plan, groups, tensors)
        operations.append(Operation(sizes, groups, block, inputs, (out, lse), fast))
    return tensors, operations


def _sum(tensors: Sequence[Tensor], parts: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """Make the output of those of the parts."""
    if not parts:
        return _nothing(tensors)
    return parts[0][0] if len(parts) == 1 else combine_partial_softmax(parts)


def _nothing(tensors: Sequence[Tensor]) -> Tensor:
    """Give zeros with zero derivatives: no query sees a key."""
    q, k, v, *others = tensors
    zero = (q * 0).sum() + (k * 0).sum() + (v * 0).sum()
    everywhere = torch.ones((), dtype=torch.bool, device=q.device)
    for tensor in others:
        if tensor.is_floating_point():  # a bias may hold -inf
            zero = zero + tensor.masked_fill(everywhere, 0.0).sum()
    return v.new_zeros((*q.shape[:3], v.shape[-1])) + zero.to(v.dtype)


def combine_partial_softmax(parts: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """Join outputs ``[..., value_dim]`` by their log-sum-exps ``[..., 1]``."""
    highest = torch.stack([lse.detach() for _, lse in parts]).amax(0)
    shares = [(lse - highest).exp() for _, lse in parts]
    total = torch.stack(shares).sum(0)
    weighted = [out * (share / total) for (out, _), share in zip(parts, shares, strict=True)]
    return torch.stack(weighted).sum(0).to(parts[0][0].dtype)


def _closed_form_scale(
    score: ScoreFunction, bias: Bias | Tensor | None, dropout: float, q: Tensor
) -> float | None:
    """Tell the factor on the dot products where there is nothing but these, else None."""
    if not isinstance(score, DotProduct) or score.soft_cap is not None:
        return None
    if bias is not None or dropout > 0:
        return None
    return q.shape[-1] ** -0.5 if score.scale is None else score.scale


def _shortcut(
    plain: FlashBackend,
    plan: Sequence[Sequence[BlockGroup]],
    groups: Sequence[BlockGroup],
    tensors: Sequence[Tensor],
) -> Shortcut:
    """Choose the fastest way to value and first derivative of one term of the plan."""
    function, term, offset = plain.function, groups[0].term, groups[0].offset
    if term.is_band and not groups[0].earlier and Fused.takes(tensors):
        return Fused(
            scale=plain.scale,
            before=term.before,
            after=term.after,
            offset=offset,
            has_lengths=function.has_lengths,
            has_segments=function.has_segments,
        )
    return _library(plain, plan, term, tensors) or plain


def _library(
    plain: FlashBackend,
    plan: Sequence[Sequence[BlockGroup]],
    term: MaskTerm,
    tensors: Sequence[Tensor],
) -> SdpaBackend | None:
    """Take PyTorch's attention where it computes the same: one full or causal term, no more."""
    sizes, q, v = plain.function.sizes, tensors[0], tensors[2]
    if len(tensors) > 3 or len(plan) > 1:
        return None
    is_plain = q.shape[-1] == v.shape[-1] and (sizes.heads == sizes.kv_heads or q.is_cuda)
    if not is_plain or torch._C._are_functorch_transforms_active():  # it has no batching rule
        return None
    is_square = plan[0][0].offset == 0 and sizes.queries == sizes.keys
    if term == MaskTerm() or (term == MaskTerm(after=0) and is_square):
        return SdpaBackend(is_causal=term.after == 0, scale=plain.scale)
    return None
