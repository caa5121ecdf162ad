"""Attention of one block of queries over one block of keys, as a differentiable function.

``s = score(q, k) + bias``, ``p = exp(s - max s)``, ``out = p v / sum p`` and
``lse = max s + log sum p`` (Vaswani et al. 2017, equation 1, over the pairs of the block). Scores
and sums are float32 at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.biases import Bias
from regard.attention.blockwise.tiling import AttentionShape, BlockSlice
from regard.attention.hashed_dropout import keep_pairs
from regard.attention.scores import ScoreFunction

NOTHING = -1e30  # the lse of a query that sees no key: finite, so that no difference is NaN


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The block function of `attend`: inputs are q, k, v, then what the parts below need, in order.

    Args:
        sizes: Sizes of the whole.
        score: Of queries and keys; its tensors follow v.
        bias: Added to the score; its tensors, or the bias itself where it is one, follow.
        has_lengths: Whether valid keys a row follow.
        has_segments: Whether the segments of queries and of keys follow.
        dropout: Rate; a seed follows where it is above 0.
    """

    sizes: AttentionShape
    score: ScoreFunction
    bias: Bias | Tensor | None
    has_lengths: bool
    has_segments: bool
    dropout: float

    def __call__(self, place: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute ``out [blocks, heads, queries, value_dim]`` and ``lse [.., queries, 1]``."""
        q, k, v, *others = blocks
        scores, others = self._scores(place, q, k, others)
        mask = self.mask(place, others)
        if mask is not None:
            scores = scores.masked_fill(~mask, NOTHING)
        highest = scores.amax(-1, keepdim=True).detach()
        weights = (scores - highest).exp()
        if mask is not None:
            weights = weights * mask  # a query that sees nothing has highest = NOTHING
        total = weights.sum(-1, keepdim=True)
        sees = total != 0  # also where it is not a number
        total = torch.where(sees, total, 1.0)
        lse = torch.where(sees, highest + total.log(), NOTHING)
        weights = weights / total
        if self.dropout > 0:
            kept = self._kept(place, others[-1], weights.shape[1])
            weights = weights * kept / (1 - self.dropout)
        return torch.matmul(weights.to(v.dtype), v), lse

    def pairs(self, place: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores, mask and dropout's factors, ``[blocks, heads, queries, keys]`` each."""
        q, k, _, *others = blocks
        scores, others = self._scores(place, q, k, others)
        mask = self.mask(place, others)
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        factors = scores.new_ones((1, 1, 1, 1))
        if self.dropout > 0:
            kept = self._kept(place, others[-1], scores.shape[1])
            factors = kept.to(scores.dtype) / (1 - self.dropout)
        return scores, mask.expand_as(scores), factors

    def _scores(
        self, place: BlockSlice, q: Tensor, k: Tensor, others: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute ``[blocks, heads, queries, keys]``; return the inputs not used yet, too."""
        queries, keys = place.group.positions(q.device)
        count = len(self.score.tensors())
        scores = self.score(q, k, queries, keys, tuple(others[:count]))
        others = others[count:]
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if isinstance(self.bias, Tensor):
            scores, others = scores + others[0], others[1:]
        elif self.bias is not None:
            count = len(self.bias.tensors())
            scores = scores + self.bias(queries, keys, tuple(others[:count]))
            others = others[count:]
        return scores, others

    def mask(self, place: BlockSlice, others: list[Tensor]) -> Tensor | None:
        """Join the group's mask, the lengths and the segments; None where all is allowed.

        Args:
            place: Where.
            others: The inputs that follow those of score and bias.

        Returns:
            Boolean, broadcastable to ``[blocks, heads, queries, keys]``.
        """
        mask = place.mask
        others = list(others)
        if self.has_lengths:
            length = others.pop(0)
            keys = place.group.keys.positions(length.device)[:, None, None, :]
            mask = _both(mask, keys < length)
        if self.has_segments:
            of_queries, of_keys = others[:2]  # [blocks, 1, queries, 1], [blocks, 1, keys, 1]
            mask = _both(mask, of_queries == of_keys.transpose(-1, -2))
        return mask

    def _kept(self, place: BlockSlice, seed: Tensor, heads_of_each: int) -> Tensor:
        """Choose the pairs that dropout keeps, boolean ``[blocks, heads, queries, keys]``."""
        queries, keys = place.group.positions(seed.device)
        first = place.row * self.sizes.heads
        heads = torch.arange(place.heads.start, place.heads.stop, device=seed.device) + first
        heads = heads.view(-1, heads_of_each, 1, 1)
        return keep_pairs(seed, heads, queries, keys, self.dropout)


def _both(left: Tensor | None, right: Tensor) -> Tensor:
    return right if left is None else left & right
