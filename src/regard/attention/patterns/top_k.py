"""Top-k attention: each query keeps its k best keys (Gupta et al. 2021, section 3).

The choice is piecewise constant in the scores, so the derivative through the chosen pairs is the
exact one, to any order, where the choice is unique. Cost: O(n m d) time, O(n m) memory: every
score must be known to rank it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from regard.attention.dense import (
    AttentionOutput,
    dense_scores,
    drop_weights,
    mask_scores,
    repeat_heads,
)
from regard.attention.options import AttentionOptions
from regard.attention.patterns.arguments import parse_causal_number, require_whole
from regard.attention.patterns.base import ScoreDependentPattern, allowed_matrix
from regard.attention.patterns.cost import PairCount
from regard.attention.patterns.drawing import CANDIDATE, grid
from regard.errors import ConfigError


@dataclass(frozen=True, repr=False)
class TopK(ScoreDependentPattern):
    """Lets each query see the k keys of its highest scores.

    Args:
        k: Keys a query keeps, 1 or more; fewer where fewer are allowed.
        causal: Choose only among the keys with ``j <= i``.

    Raises:
        ConfigError: `k` is below 1.
    """

    k: int
    causal: bool = field(default=False, kw_only=True)

    synopsis: ClassVar[str] = "top_k:K"
    text_form: ClassVar[str] = "top_k:K (keys a query keeps), e.g. top_k:16"
    reason: ClassVar[str] = "chooses keys by score"

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", require_whole(self, self.k))  # the class is frozen
        if self.k < 1:
            raise ConfigError(f"TopK(k={self.k}): k must be 1 or more.")

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:
        """Read ``K`` or ``K,causal``; in a decoder both are causal."""
        k, is_causal = parse_causal_number(arguments, cls.text_form)
        return cls(k, causal=is_causal or is_decoder)

    def to_text(self) -> str:
        """Write ``top_k:K`` or ``top_k:K,causal``."""
        return f"top_k:{self.k}" + (",causal" if self.causal else "")

    def count_pairs(self, num_queries: int, num_keys: int) -> PairCount:
        """Count the chosen pairs; the scored ones are all, as in full attention."""
        most = min(self.k, num_keys)
        attended = most * num_queries
        if self.causal:  # query i has i + 1 candidates
            short = min(most, num_queries)
            attended = short * (short + 1) // 2 + most * (num_queries - short)
        return PairCount(attended, scored=num_queries * num_keys)

    def cells(self, num_positions: int) -> list[str]:
        """Return the picture's rows, with the pairs to choose from."""
        return grid(allowed_matrix(self, num_positions, num_positions), mark=CANDIDATE)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions) -> AttentionOutput:
        """Compute output and weights; q, k, v are ``[batch, heads or kv_heads, length, dim]``."""
        allowed = self.allowed(*options.positions(q, k)) if self.causal else None
        allowed = options.allowed(allowed, q, k)
        v = repeat_heads(v, q.shape[1])
        out, weights = top_k_attention(dense_scores(q, k, options), v, self.k, allowed)
        if options.dropout > 0:
            weights = drop_weights(weights, q, k, options)
            out = torch.matmul(weights.to(v.dtype), v)  # [batch, heads, queries, value_dim]
        return AttentionOutput(out, weights)

    def __repr__(self) -> str:
        return f"TopK({self.k}, causal=True)" if self.causal else f"TopK({self.k})"


def top_k_attention(
    scores: Tensor, v: Tensor, k: int, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute top-k attention by its definition.

    Args:
        scores: Scaled scores, ``[batch, heads, queries, keys]``.
        v: Values, ``[batch, heads, keys, value_dim]``.
        k: Keys a query keeps, 1 or more. Ties are broken as `torch.topk` breaks them.
        allowed: Boolean, broadcastable to the scores, True where a key may be chosen; None for all.

    Returns:
        The output ``[batch, heads, queries, value_dim]`` and the weights
        ``[batch, heads, queries, keys]``. A query with nothing allowed gets zeros.

    >>> scores, v = torch.tensor([[[[5.0, 1.0, 5.0]]]]), torch.eye(3)[None, None]
    >>> output, weights = top_k_attention(scores, v, 2)
    >>> weights.tolist()
    [[[[0.5, 0.0, 0.5]]]]
    """
    if allowed is not None:
        scores = mask_scores(scores, allowed)
    best, keys = scores.topk(min(k, scores.shape[-1]), dim=-1)  # [batch, heads, queries, k]
    best_weights = best.softmax(-1)
    if allowed is not None:
        is_allowed = allowed.expand_as(scores).gather(-1, keys)
        best_weights = best_weights.masked_fill(~is_allowed, 0.0)
    weights = torch.zeros_like(scores).scatter(-1, keys, best_weights)
    return torch.matmul(weights, v), weights
