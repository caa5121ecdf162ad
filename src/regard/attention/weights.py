"""The weights of blockwise attention as a sparse tensor: memory linear in the allowed pairs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from regard.attention.blockwise.combine import prepare_blocks
from regard.attention.blockwise.schedule import plan_blocks
from regard.attention.blockwise.tiling import BlockSlice, PerQuery
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern


@torch.no_grad()
def sparse_weights(
    q: Tensor, k: Tensor, *, pattern: MaskPattern, options: AttentionOptions
) -> Tensor:
    """Compute the weights that `blockwise_attention` mixes the values by.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        pattern: A mask pattern.
        options: All else; keys are at positions 0, 1, ...

    Returns:
        ``[batch, heads, queries, keys]``, sparse (COO, coalesced), without gradient.
    """
    options = options.fold_key_mask(q, k)
    values = k.new_zeros((*k.shape[:3], 1))
    function, inputs = prepare_blocks(q, k, values, options)
    shape = function.shape
    plan = plan_blocks(pattern.terms(), shape.queries, shape.keys, options.query_offset)
    without_dropout = replace(function, dropout=0.0)
    dtype = torch.promote_types(q.dtype, torch.float32)
    total = q.new_full((*q.shape[:3], 1), -torch.inf, dtype=dtype)  # log of the sum of exponentials
    indices, scores, factors = [], [], []  # of the pairs of each block
    per_query = PerQuery(shape, None)
    tensors, specs = inputs.flatten(), function.specs.flatten()
    for groups in plan:
        for block_slice in shape.slices(groups, q.device, fold_heads=False):
            blocks = tuple(s.gather(t, block_slice) for s, t in zip(specs, tensors, strict=True))
            lse = without_dropout(block_slice, blocks)[1]
            before = per_query.gather(total, block_slice)
            per_query.scatter(total, torch.logaddexp(before, lse), block_slice)
            of_block = function.pairs(block_slice, function.specs.unflatten(blocks))
            block_scores, mask, block_factors = of_block
            indices.append(_pair_indices(block_slice, mask))
            scores.append(block_scores[mask])
            factors.append(block_factors.expand_as(mask)[mask])
    size = (*q.shape[:3], k.shape[2])
    if not indices:
        return q.new_zeros(size).to_sparse()
    index = torch.cat(indices, dim=1)  # [4, pairs]
    lse = total[index[0], index[1], index[2], 0]
    weights = (torch.cat(scores) - lse).exp() * torch.cat(factors)
    sparse = torch.sparse_coo_tensor(index, weights, size, check_invariants=False)
    return sparse.coalesce().to(q.dtype)


def _pair_indices(block_slice: BlockSlice, mask: Tensor) -> Tensor:
    """Return batch, head, query and key of the True entries of [blocks, heads, queries, keys]."""
    block, head, query, key = mask.nonzero(as_tuple=True)
    rows = block_slice.group.queries.positions(mask.device)[block, query]
    columns = block_slice.group.keys.positions(mask.device)[block, key]
    row = torch.full_like(head, block_slice.row)
    return torch.stack([row, head + block_slice.heads.start, rows, columns])  # [4, pairs]


def zero_rows(weights: Tensor, padded: Tensor) -> Tensor:
    """Return the weights with the rows of padded queries set to zero.

    Args:
        weights: ``[batch, heads, queries, keys]``, dense or sparse.
        padded: ``[batch, queries]``, True where a query is padding.
    """
    if not weights.is_sparse:
        return weights.masked_fill(padded[:, None, :, None], 0.0)
    index, values = weights.indices(), weights.values()
    is_valid = ~padded[index[0], index[2]]
    return torch.sparse_coo_tensor(
        index[:, is_valid],
        values[is_valid],
        weights.shape,
        is_coalesced=True,
        check_invariants=False,
    )
