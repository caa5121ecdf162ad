"""Token embedding with positions (Vaswani et al. 2017, sections 3.4 and 3.5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.dropout import Dropout
from regard.layers.norm import LayerNorm
from regard.layers.positions import LearnedPositions, SinusoidalPositions


class TokenEmbedding(nn.Module):
    """``dropout(norm(scale * weight[ids] + positions))``.

    Args:
        weight: ``[vocab, dim]`` table, possibly shared with other layers.
        positions: Where the tokens stand; None where the layers tell, as rotary ones do.
        dropout: On the sum.
        scale: Factor on the rows of the table; None is the paper's ``sqrt(dim)``.
        norm: Of the sum; None, as in the paper, leaves it as it is.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        positions: SinusoidalPositions | LearnedPositions | None,
        dropout: Dropout,
        *,
        scale: float | None = None,
        norm: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.scale = math.sqrt(weight.shape[1]) if scale is None else scale
        self.positions = positions
        self.norm = norm
        self.dropout = dropout

    def forward(self, ids: Tensor, *, start: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """Embed ids ``[batch, length]`` that begin at position `start` as ``[batch, length, dim]``.

        Args:
            ids: Token ids.
            start: Position of the first column.
            dtype: Type of the result; None keeps the type of the table.
        """
        x = F.embedding(ids, self.weight)
        if self.scale != 1:
            x = x * self.scale
        if self.positions is not None:
            x = x + self.positions(start, ids.shape[1])
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x.to(dtype or self.weight.dtype))
