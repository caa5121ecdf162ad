"""Attention of one block of queries over one block of keys, as a differentiable function.

``s = score(q, k) + bias``, ``p = exp(s - max s)``, ``out = p v / sum p`` and
``lse = max s + log sum p`` (Vaswani et al. 2017, equation 1, over the pairs of the block). Scores
and sums are float32 at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.biases import ALWAYS_FINITE, Bias
from regard.attention.blockwise.tiling import AttentionShape, BlockInputs, BlockSlice, TileSpec
from regard.attention.hashed_dropout import keep_pairs
from regard.attention.scores import ScoreFunction


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The block function of `attend`.

    Args:
        shape: Sizes of the whole.
        score: Score of queries and keys.
        bias: Added to the score.
        dropout: Rate.
        specs: How each input is cut; names the blocks that `__call__` takes.
    """

    shape: AttentionShape
    score: ScoreFunction
    bias: Bias | Tensor | None
    dropout: float
    specs: BlockInputs[TileSpec]

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute ``out [blocks, heads, queries, value_dim]`` and ``lse [.., queries, 1]``."""
        inputs = self.specs.unflatten(blocks)
        scores = self._scores(block_slice, inputs)
        mask = self.mask(block_slice, inputs)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        highest = scores.amax(-1, keepdim=True).detach()
        if mask is not None:  # of a query that sees nothing: no difference of infinities
            highest = highest.masked_fill(highest == -torch.inf, 0.0)
        weights = (scores - highest).exp()
        total = weights.sum(-1, keepdim=True)
        sees = total != 0  # also where it is not a number
        total = torch.where(sees, total, 1.0)  # [blocks, heads, queries, 1]
        lse = torch.where(sees, highest + total.log(), -torch.inf)
        weights = weights / total
        if self.dropout > 0:
            is_kept = self._is_kept(block_slice, inputs, weights)
            weights = weights * is_kept / (1 - self.dropout)
        return torch.matmul(weights.to(inputs.v.dtype), inputs.v), lse

    def pairs(
        self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores, mask and dropout's factors, ``[blocks, heads, queries, keys]`` each."""
        scores = self._scores(block_slice, inputs)
        mask = self.mask(block_slice, inputs)
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        factors = scores.new_ones((1, 1, 1, 1))
        if self.dropout > 0:
            is_kept = self._is_kept(block_slice, inputs, scores)
            factors = is_kept.to(scores.dtype) / (1 - self.dropout)
        return scores, mask.expand_as(scores), factors

    def _scores(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor:
        """Compute scores plus bias, ``[blocks, heads, queries, keys]``, float32 at least."""
        positions = block_slice.group.positions(inputs.q.device)
        scores = self.score(inputs.q, inputs.k, *positions, inputs.score)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        bias = self._bias(block_slice, inputs)
        return scores if bias is None else scores + bias

    def _bias(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor | None:
        """Compute the bias, broadcastable to ``[blocks, heads, queries, keys]``."""
        if self.bias is None or isinstance(self.bias, Tensor):
            return None if self.bias is None else inputs.bias[0]
        return self.bias(*block_slice.group.positions(inputs.q.device), inputs.bias)

    def mask(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor | None:
        """Intersect the group's mask, the call's, lengths, segments and what the bias forbids.

        Returns:
            Boolean, broadcastable to ``[blocks, heads, queries, keys]``; None where all is allowed.
        """
        mask = _intersect(block_slice.mask, inputs.mask)
        if inputs.lengths is not None:
            positions = block_slice.group.keys.positions(inputs.q.device)
            mask = _intersect(mask, positions[:, None, None, :] < inputs.lengths)
        if inputs.query_segments is not None and inputs.key_segments is not None:
            same = inputs.query_segments == inputs.key_segments.transpose(-1, -2)
            mask = _intersect(mask, same)
        if not isinstance(self.bias, ALWAYS_FINITE):
            bias = self._bias(block_slice, inputs)
            mask = _intersect(mask, None if bias is None else bias != -torch.inf)
        return mask

    def _is_kept(
        self, block_slice: BlockSlice, inputs: BlockInputs[Tensor], weights: Tensor
    ) -> Tensor:
        """Return which weights ``[blocks, heads, queries, keys]`` dropout keeps, boolean."""
        assert inputs.seed is not None
        device = inputs.seed.device
        heads = torch.arange(block_slice.heads.start, block_slice.heads.stop, device=device)
        heads = (heads + block_slice.row * self.shape.heads).view(-1, weights.shape[1], 1, 1)
        return keep_pairs(inputs.seed, heads, *block_slice.group.positions(device), self.dropout)


def _intersect(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right  # [blocks, heads, queries, keys]
