"""Attention over any mask pattern: each of its terms is computed blockwise, then combined.

For parts with outputs o_t and log-sum-exps l_t over disjoint sets of keys the whole is
``sum_t exp(l_t) o_t / sum_t exp(l_t)``. Cost: linear in the allowed pairs, memory linear in the
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from regard.attention.backends.cpu_kernels import Fused
from regard.attention.backends.gpu_kernels import BandKernels
from regard.attention.backends.sdpa import SdpaBackend
from regard.attention.backends.tiled_flash import FlashBackend
from regard.attention.blockwise.any_order import Operation, Shortcut
from regard.attention.blockwise.block_attention import BlockAttention
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
from regard.attention.dense import AttentionOutput
from regard.attention.dispatch import FirstOrder, choose_first_order
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import Pattern, ScoreDependentPattern
from regard.attention.scores import DotProduct, dim_scale
from regard.errors import ConfigError


def blockwise_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: Pattern,
    options: AttentionOptions,
    return_lse: bool = False,
) -> AttentionOutput:
    """Compute attention in memory linear in the length.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``; `kv_heads` divides `heads`.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend. A pattern that depends on the length takes that of all
            keys, padded ones included.
        options: All else; keys are at positions 0, 1, ...
        return_lse: Compute the log-sum-exp too, differentiable like the output.

    Returns:
        The output, and the log-sum-exp where it is asked for.

    Raises:
        ConfigError: The pattern depends on scores.
    """
    plan = _plan(q, k, v, pattern, options, return_lse=return_lse)
    out, lse = _combine(plan.inputs, [operation(*plan.tensors) for operation in plan.operations])
    if not return_lse:
        return AttentionOutput(out)
    return AttentionOutput(out, lse=lse.squeeze(-1))


def blockwise_gradient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    *,
    pattern: Pattern,
    options: AttentionOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the value again and the cotangents of q, k, v ``[batch, heads, length, dim]``."""
    plan = _plan(q, k, v, pattern, options)
    pairs = [(o.fast, o) for o in plan.operations if o.fast is not None]
    if len(pairs) < max(1, len(plan.operations)):

        def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return blockwise_attention(q, k, v, pattern=pattern, options=options).out

        return torch.func.vjp(compute, q, k, v)[1](grad)
    with torch.autocast(q.device.type, enabled=False):
        parts = [fast.forward(operation, plan.tensors) for fast, operation in pairs]

        def combine(*parts: tuple[Tensor, ...]) -> Tensor:
            return _combine(plan.inputs, parts)[0]

        cotangents = torch.func.vjp(combine, *parts)[1](grad)
        gradients = [
            fast.backward(operation, plan.tensors, outputs, of_outputs)
            for (fast, operation), outputs, of_outputs in zip(pairs, parts, cotangents, strict=True)
        ]
    dq, dk, dv = (reduce(torch.add, parts) for parts in zip(*gradients, strict=True))
    return dq, dk, dv


def prepare_blocks(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> tuple[BlockAttention, BlockInputs[Tensor]]:
    """Build the block function, and name its inputs, q ``[batch, heads, queries, dim]`` first."""
    shape = AttentionShape(q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2])
    bias, mask = options.bias, options.mask
    query_segments = key_segments = None
    if options.segments is not None:
        query_segments, key_segments = (ids[:, None, :, None] for ids in options.segments)
    inputs = BlockInputs(
        q=q,
        k=k,
        v=v,
        score=options.score.tensors(),
        bias=(bias,) if isinstance(bias, Tensor) else () if bias is None else bias.tensors(),
        mask=mask,
        lengths=options.lengths,
        query_segments=query_segments,
        key_segments=key_segments,
        seed=options.seed,
    )

    def per_head(tensors: Sequence[Tensor]) -> tuple[TileSpec, ...]:
        return tuple(PerHead(tensor.shape[0]) for tensor in tensors)

    specs: BlockInputs[TileSpec] = BlockInputs(
        q=PerQuery(shape, 0.0),
        k=PerKey(shape),
        v=PerKey(shape),
        score=per_head(inputs.score),
        bias=(PerPair(tuple(bias.shape)),) if isinstance(bias, Tensor) else per_head(inputs.bias),
        mask=None if mask is None else PerPair(tuple(mask.shape)),
        lengths=None if options.lengths is None else PerRow(),
        query_segments=None if query_segments is None else PerQuery(shape, 0.0),
        key_segments=None if key_segments is None else PerKey(shape),
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
    return_lse: bool = False,
) -> _Plan:
    """Plan a call: q is ``[batch, heads, queries, dim]``, k, v ``[batch, kv_heads, keys, dim]``."""
    options = options.fold_key_mask(q, k)
    function, inputs = prepare_blocks(q, k, v, options)
    shape, score = function.shape, options.score
    resolved = pattern.resolve(options.query_offset + shape.queries, shape.keys)
    if isinstance(resolved, ScoreDependentPattern):
        raise ConfigError(f"{resolved!r} {resolved.reason} and is not computed block by block.")
    terms = tuple(sorted(resolved.terms(), key=lambda term: not term.is_band))
    plan = plan_blocks(terms, shape.queries, shape.keys, options.query_offset)
    block, scale = function, 1.0
    if options.is_plain and isinstance(score, DotProduct):
        scale = dim_scale(q) if score.scale is None else score.scale
        block = DotProductBlock(function, scale)
    operations = []
    for groups in filter(None, plan):
        covered = sum(g.queries.num_blocks * g.queries.width for g in groups) == shape.queries
        out, lse = (PerQuery(shape, None if covered else fill) for fill in (0.0, -torch.inf))
        specs = function.specs._replace(q=PerQuery(shape, None if covered else 0.0))
        term = groups[0].term
        first_order = choose_first_order(
            term,
            q,
            k,
            v,
            options,
            is_first=not groups[0].earlier,
            is_alone=len(plan) == 1,
            returns_lse=return_lse,
        )
        fast = _shortcut(first_order, groups[0], function, scale)
        operations.append(Operation(shape, groups, block, specs.flatten(), (out, lse), fast))
    return _Plan(inputs, operations)


def _shortcut(
    first_order: FirstOrder, group: BlockGroup, function: BlockAttention, scale: float
) -> Shortcut | None:
    """Return what computes the first derivative of the term of a group; None for the recursion."""
    term = group.term
    match first_order:
        case FirstOrder.CPU_KERNELS:
            return Fused(scale, term.before, term.after, group.offset, function.specs)
        case FirstOrder.GPU_KERNELS:
            return BandKernels(scale, term.before, term.after, group.offset, function.specs)
        case FirstOrder.SDPA:
            return SdpaBackend(is_causal=term.after == 0, scale=scale)
        case FirstOrder.FLASH:
            return FlashBackend(function, scale)
        case FirstOrder.RECURSION:
            return None


def _combine(
    inputs: BlockInputs[Tensor], parts: Sequence[tuple[Tensor, ...]]
) -> tuple[Tensor, Tensor]:
    """Combine outputs ``[..., value_dim]`` by their log-sum-exps ``[..., 1]``; return both."""
    if not parts:
        return _nothing(inputs)
    if len(parts) == 1:
        out, lse = parts[0]
        return out, lse
    highest = torch.stack([lse.detach() for _, lse in parts]).amax(0)
    highest = highest.masked_fill(highest == -torch.inf, 0.0)  # of a query that sees nothing
    factors = [(lse - highest).exp() for _, lse in parts]
    total = torch.stack(factors).sum(0)
    sees = total != 0  # also where it is not a number
    total = torch.where(sees, total, 1.0)
    weighted = [out * (factor / total) for (out, _), factor in zip(parts, factors, strict=True)]
    out = torch.stack(weighted).sum(0).to(parts[0][0].dtype)  # [batch, heads, queries, dim]
    return out, torch.where(sees, highest + total.log(), -torch.inf)


def _nothing(inputs: BlockInputs[Tensor]) -> tuple[Tensor, Tensor]:
    """Return zeros ``[batch, heads, queries, value_dim]`` and their log-sum-exp ``[..., 1]``.

    No query sees a key; all derivatives exist and are zero.
    """
    q, k, v = inputs.q, inputs.k, inputs.v
    zero = (q * 0).sum() + (k * 0).sum() + (v * 0).sum()
    everywhere = torch.ones((), dtype=torch.bool, device=q.device)
    for tensor in (*inputs.score, *inputs.bias):
        if tensor.is_floating_point():  # a bias may hold -inf
            zero = zero + tensor.masked_fill(everywhere, 0.0).sum()
    out = v.new_zeros((*q.shape[:3], v.shape[-1])) + zero.to(v.dtype)
    wide = torch.promote_types(q.dtype, torch.float32)
    return out, q.new_full((*q.shape[:3], 1), -torch.inf, dtype=wide) + zero.to(wide)
