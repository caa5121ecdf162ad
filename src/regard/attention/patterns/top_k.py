"""Top-k attention: each query keeps its k best keys (Gupta et al. 2021, section 3).

The choice is piecewise constant in the scores, so the derivative through the chosen pairs is the
exact one, to any order, wherever the choice is unique. Cost: O(n m d) time, O(n m) memory: every
score must be known to rank it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from regard.attention.patterns.arguments import parse_causal_number
from regard.attention.patterns.base import ScoreDependentPattern, allowed_matrix
from regard.attention.patterns.cost import Cost
from regard.attention.patterns.drawing import CANDIDATE, Format, check_num_positions, draw, grid
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
    causal: bool = False

    synopsis: ClassVar[str] = "top_k:K"
    text_form: ClassVar[str] = "top_k:K (keys a query keeps), e.g. top_k:16"
    reason: ClassVar[str] = "chooses keys by score"

    def __init__(self, k: int, *, causal: bool = False) -> None:
        if k < 1:
            raise ConfigError(f"TopK(k={k}): k must be 1 or more.")
        object.__setattr__(self, "k", k)  # the class is frozen
        object.__setattr__(self, "causal", causal)

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:
        """Read ``K`` or ``K,causal``; in a decoder both are causal."""
        k, is_causal = parse_causal_number(arguments, cls.text_form)
        return cls(k, causal=is_causal or is_decoder)

    def to_text(self) -> str:
        """Write ``top_k:K`` or ``top_k:K,causal``."""
        return f"top_k:{self.k}" + (",causal" if self.causal else "")

    def cost(
        self,
        queries: int,
        keys: int,
        *,
        dim: int = 64,
        value_dim: int | None = None,
        itemsize: int = 4,
    ) -> Cost:
        """Count the chosen pairs, and the arithmetic of scoring and mixing all of them.

        Args:
            queries: Number of queries, at positions 0, 1, ...
            keys: Number of keys, at positions 0, 1, ...
            dim: Size of a query and of a key.
            value_dim: Size of a value; None for `dim`.
            itemsize: Bytes of a number, 4 for float32.

        Returns:
            The cost; `flops` are those of full attention.
        """
        dense = Cost.of(
            queries * keys, queries, keys, dim=dim, value_dim=value_dim, itemsize=itemsize
        )
        most = min(self.k, keys)
        pairs = most * queries
        if self.causal:  # query i has i + 1 candidates
            short = min(most, queries)
            pairs = short * (short + 1) // 2 + most * (queries - short)
        return Cost(pairs, dense.flops, dense.bytes)

    def show(self, num_positions: int = 24, *, format: Format = "text") -> str:  # noqa: A002
        """Draw the pairs to choose from, queries down and keys across.

        Args:
            num_positions: Number of queries and of keys, 1 or more.
            format: ``"text"`` or ``"svg"``.

        Returns:
            The picture.

        Raises:
            ConfigError: An argument is out of range.
        """
        check_num_positions(num_positions)
        rows = grid(allowed_matrix(self, num_positions, num_positions), mark=CANDIDATE)
        return draw(rows, title=repr(self), format=format)

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
        # The lowest finite value, not -inf: a row of -inf would make NaN, in the gradient too.
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    best, chosen = scores.topk(min(k, scores.shape[-1]), dim=-1)  # [batch, heads, queries, k]
    kept = best.softmax(-1)
    if allowed is not None:
        kept = kept.masked_fill(~allowed.expand_as(scores).gather(-1, chosen), 0.0)
    weights = torch.zeros_like(scores).scatter(-1, chosen, kept)
    return torch.matmul(weights, v), weights
