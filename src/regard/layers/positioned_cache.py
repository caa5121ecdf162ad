"""Caches of decoding whose positions are tensors: those of graphs, which hold no number of a step.

A row of such a cache may be at another position than its neighbours. The cache attends by itself,
since only it knows which of its keys a query may read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sized
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from regard.attention import DotProduct
    from regard.layers.relative_bias import RelativeBias


class PositionedCache(ABC):
    """What one layer of self-attention keeps of the positions before, and how it reads them."""

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """Positions of the tokens of the step, ``[rows, new]``, or ``[1, new]`` for all rows."""

    @abstractmethod
    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        score: DotProduct,
        position_bias: RelativeBias | None = None,
    ) -> Tensor:
        """Add the tokens of the step, and attend from them.

        Args:
            q: ``[rows, heads, new, dim]``.
            k: ``[rows, kv_heads, new, dim]``.
            v: As `k`.
            score: Of a query and a key.
            position_bias: Added to the scores by distance; None adds nothing.

        Returns:
            ``[rows, heads, new, dim]``.
        """

    def __len__(self) -> int:
        """Raise: the number of positions is a tensor, and may differ between rows."""
        raise TypeError("this cache has its positions as a tensor: `positions`")

    def select(self, rows: Tensor) -> None:  # noqa: B027 - there is nothing to do
        """Do nothing: whoever takes the step reorders its rows, ``[new_rows]``."""


def next_position(cache: Sized) -> int | Tensor:
    """Return where a cache's next position is: a number, or those of the step's tokens.

    Args:
        cache: Of any kind.

    Returns:
        A number, or ``[rows, new]`` of a cache that has its positions as a tensor.
    """
    return cache.positions if isinstance(cache, PositionedCache) else len(cache)
