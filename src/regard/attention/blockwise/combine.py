"""Attention over any mask pattern, by its terms: each is computed blockwise, then combined.

For parts with outputs o_t and log-sum-exps l_t over disjoint sets of keys the whole is
``sum_t exp(l_t) o_t / sum_t exp(l_t)``. Cost: linear in the allowed pairs, memory linear in the
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from regard.attention.backends.cpu_kernels import Fused
from regard.attention.backends.sdpa import SdpaBackend
from regard.attention.backends.tiled_flash import FlashBackend
from regard.attention.blockwise.any_order import Operation, Shortcut
from regard.attention.blockwise.block_attention import NOTHING, BlockAttention
from regard.attention.blockwise.closed_form import DotProductBlock
from regard.attention.blockwise.schedule import BlockGroup, plan_blocks
from regard.attention.blockwise.tiling import (
    AttentionShape,
    BlockInputs,
    PerHead,
    PerKey,
    PerPair,
    PerQuery,
    PerRow,
    TileSpec,
)
from regard.attention.dispatch import FirstOrder, choose_first_order
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern, Pattern, resolve
from regard.attention.scores import DotProduct


def blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, *, pattern: Pattern, options: AttentionOptions
) -> Tensor:
    """Compute attention in memory linear in the length.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: A mask pattern.
        options: All else; keys are at positions 0, 1, ... A pattern that depends on the length
            takes that of all keys, padded ones included.

    Returns:
        ``[batch, heads, queries, value_dim]``.
    """
    plan = _plan(q, k, v, pattern, options)
    return _combine(plan.inputs, [operation(*plan.tensors) for operation in plan.operations])[0]


def blockwise_attention_with_lse(
    q: Tensor, k: Tensor, v: Tensor, *, pattern: Pattern, options: AttentionOptions
) -> tuple[Tensor, Tensor]:
    """Compute attention and its log-sum-exp, differentiable in both.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: A mask pattern.
        options: All else.

    Returns:
        ``[batch, heads, queries, value_dim]`` and ``[batch, heads, queries]``, float32 at least,
        minus infinity where nothing is allowed.
    """
    plan = _plan(q, k, v, pattern, options, returns_lse=True)
    out, lse = _combine(plan.inputs, [operation(*plan.tensors) for operation in plan.operations])
    lse = lse.squeeze(-1)
    return out, lse.masked_fill(lse < NOTHING / 2, -torch.inf)


def blockwise_gradient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    *,
    pattern: Pattern,
    options: AttentionOptions,
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
    plan = _plan(q, k, v, pattern, options)
    shortcuts = [operation.fast for operation in plan.operations if operation.fast is not None]
    if not plan.operations or len(shortcuts) < len(plan.operations):
        compute = partial(blockwise_attention, pattern=pattern, options=options)
        return torch.func.vjp(compute, q, k, v)[1](grad)
    pairs = list(zip(shortcuts, plan.operations, strict=True))
    with torch.autocast(q.device.type, enabled=False):
        parts = [fast.forward(operation, plan.tensors) for fast, operation in pairs]

        def combine(*parts: tuple[Tensor, ...]) -> Tensor:
            return _combine(plan.inputs, parts)[0]

        cotangents = torch.func.vjp(combine, *parts)[1](grad)
        gradients = [
            fast.backward(operation, plan.tensors, outputs, of_outputs)
            for (fast, operation), outputs, of_outputs in zip(pairs, parts, cotangents, strict=True)
        ]
    totals = list(gradients[0])
    for more in gradients[1:]:
        totals = [total + added for total, added in zip(totals, more, strict=True)]
    dq, dk, dv = totals
    return dq, dk, dv


def prepare_blocks(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> tuple[BlockAttention, BlockInputs[Tensor]]:
    """Build the block function, which says how its inputs are cut, and name these."""
    shape = AttentionShape(q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2])
    options = options.fold_key_mask(q, k)
    bias = options.bias
    of_score = options.score.tensors()
    of_bias = (bias,) if isinstance(bias, Tensor) else () if bias is None else bias.tensors()
    of_queries = of_keys = None
    if options.segments is not None:
        of_queries, of_keys = (ids[:, None, :, None] for ids in options.segments)

    def per_head(tensors: Sequence[Tensor]) -> tuple[TileSpec, ...]:
        return tuple(PerHead(tensor.shape[0]) for tensor in tensors)

    inputs = BlockInputs(
        q=q,
        k=k,
        v=v,
        score=of_score,
        bias=of_bias,
        mask=options.mask,
        lengths=options.lengths,
        query_segments=of_queries,
        key_segments=of_keys,
        seed=options.seed,
    )
    specs: BlockInputs[TileSpec] = BlockInputs(
        q=PerQuery(shape, 0.0),
        k=PerKey(shape),
        v=PerKey(shape),
        score=per_head(of_score),
        bias=(PerPair(tuple(bias.shape)),) if isinstance(bias, Tensor) else per_head(of_bias),
        mask=None if options.mask is None else PerPair(tuple(options.mask.shape)),
        lengths=None if options.lengths is None else PerRow(),
        query_segments=None if of_queries is None else PerQuery(shape, 0.0),
        key_segments=None if of_keys is None else PerKey(shape),
        seed=None if options.seed is None else PerHead(1),
    )
    return BlockAttention(shape, options.score, bias, options.dropout, specs), inputs


@dataclass(frozen=True, eq=False)
class _Plan:
    """The inputs of a call, and an operation on them for each term that allows a pair."""

    inputs: BlockInputs[Tensor]
    operations: list[Operation]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.inputs.flatten()


def _plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    *,
    returns_lse: bool = False,
) -> _Plan:
    options = options.fold_key_mask(q, k)
    function, inputs = prepare_blocks(q, k, v, options)
    pattern = resolve(pattern, options.query_offset + q.shape[2], k.shape[2])
    assert isinstance(pattern, MaskPattern)
    shape = function.shape
    terms = tuple(sorted(pattern.terms(), key=lambda term: not term.is_band))
    plan = plan_blocks(terms, shape.queries, shape.keys, options.query_offset)
    scale = 1.0
    if options.is_plain and isinstance(options.score, DotProduct):
        scale = q.shape[-1] ** -0.5 if options.score.scale is None else options.score.scale
    block = DotProductBlock(function, scale) if options.is_plain else function
    operations = []
    for groups in filter(None, plan):
        covered = sum(g.queries.num_blocks * g.queries.width for g in groups) == shape.queries
        out, lse = (PerQuery(shape, None if covered else fill) for fill in (0.0, NOTHING))
        specs = function.specs._replace(q=PerQuery(shape, None if covered else 0.0))
        first_order = choose_first_order(
            groups[0].term,
            q,
            k,
            v,
            options,
            is_first=not groups[0].earlier,
            is_alone=len(plan) == 1,
            returns_lse=returns_lse,
        )
        fast = _build_shortcut(first_order, function, scale, groups)
        operations.append(Operation(shape, groups, block, specs.flatten(), (out, lse), fast))
    return _Plan(inputs, operations)


def _build_shortcut(
    first_order: FirstOrder, function: BlockAttention, scale: float, groups: Sequence[BlockGroup]
) -> Shortcut | None:
    term = groups[0].term
    if first_order is FirstOrder.CPU_KERNELS:
        return Fused(
            scale=scale,
            before=term.before,
            after=term.after,
            offset=groups[0].offset,
            specs=function.specs,
        )
    if first_order is FirstOrder.SDPA:
        return SdpaBackend(is_causal=term.after == 0, scale=scale)
    return FlashBackend(function, scale) if first_order is FirstOrder.FLASH else None


def _combine(
    inputs: BlockInputs[Tensor], parts: Sequence[tuple[Tensor, ...]]
) -> tuple[Tensor, Tensor]:
    """Make output and log-sum-exp ``[..., 1]`` of those of the parts."""
    if not parts:
        return _nothing(inputs)
    if len(parts) == 1:
        out, lse = parts[0]
        return out, lse
    return combine_partial_softmax(parts)


def _nothing(inputs: BlockInputs[Tensor]) -> tuple[Tensor, Tensor]:
    """Return zeros with zero derivatives: no query sees a key."""
    q, k, v = inputs.q, inputs.k, inputs.v
    zero = (q * 0).sum() + (k * 0).sum() + (v * 0).sum()
    everywhere = torch.ones((), dtype=torch.bool, device=q.device)
    for tensor in (*inputs.score, *inputs.bias):
        if tensor.is_floating_point():  # a bias may hold -inf
            zero = zero + tensor.masked_fill(everywhere, 0.0).sum()
    out = v.new_zeros((*q.shape[:3], v.shape[-1])) + zero.to(v.dtype)
    wide = torch.promote_types(q.dtype, torch.float32)
    return out, q.new_full((*q.shape[:3], 1), NOTHING, dtype=wide) + zero.to(wide)


def combine_partial_softmax(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """Combine outputs ``[..., value_dim]`` by their log-sum-exps ``[..., 1]``; return both."""
    highest = torch.stack([lse.detach() for _, lse in parts]).amax(0)
    shares = [(lse - highest).exp() for _, lse in parts]
    total = torch.stack(shares).sum(0)
    weighted = [out * (share / total) for (out, _), share in zip(parts, shares, strict=True)]
    out = torch.stack(weighted).sum(0).to(parts[0][0].dtype)
    return out, highest + total.log()
