"""Token embedding with positions (Vaswani et al. 2017, sections 3.4 and 3.5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.dropout import Dropout
from regard.layers.positions import LearnedPositions, SinusoidalPositions


class TokenEmbedding(nn.Module):
    """``dropout(sqrt(dim) * weight[ids] + positions)``.

    Args:
        weight: ``[vocab, dim]`` table, possibly shared with other layers.
        positions: Where the tokens stand.
        dropout: On the sum.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        positions: SinusoidalPositions | LearnedPositions,
        dropout: Dropout,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.positions = positions
        self.dropout = dropout

    def forward(self, ids: Tensor, *, start: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """Embed ids ``[batch, length]`` that begin at position `start` as ``[batch, length, dim]``.

        Args:
            ids: Token ids.
            start: Position of the first column.
            dtype: Type of the result; None keeps the type of the table.
        """
        scale = math.sqrt(self.weight.shape[1])
        tokens = F.embedding(ids, self.weight) * scale
        x = tokens + self.positions(start, ids.shape[1])
        return self.dropout(x.to(dtype or self.weight.dtype))
