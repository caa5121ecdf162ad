"""Embeddings of tokens with positions, and with segments.

Vaswani et al. 2017, sections 3.4 and 3.5; Devlin et al. 2019, figure 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.readable import is_readable
from regard.errors import ConfigError
from regard.layers.layer import Description, Layer, describe_linear, describe_rows
from regard.layers.linear import Linear
from regard.layers.positions import LearnedPositions, SinusoidalPositions

if TYPE_CHECKING:
    from regard.layers.dropout import Dropout
    from regard.layers.norm import LayerNorm


class TokenEmbedding(Layer):
    """``dropout(norm(scale * weight[ids] + positions))``.

    Args:
        weight: ``[vocab, dim]`` table, possibly shared with other layers.
        positions: Vectors of the positions; None where the layers have their own, such as rotary.
        dropout: On the sum.
        scale: Factor on the rows of the table; None is the paper's ``sqrt(dim)``.
        norm: Normalisation of the sum; None, as in the paper, has none.
        uncounted_id: Token that has no position, nor a place among those of the others (see
            `count_positions`), as padding in M2M-100; None has none.
    """

    is_embedding = True

    def __init__(
        self,
        weight: nn.Parameter,
        positions: SinusoidalPositions | LearnedPositions | None,
        dropout: Dropout,
        *,
        scale: float | None = None,
        norm: LayerNorm | None = None,
        uncounted_id: int | None = None,
    ) -> None:
        super().__init__()
        self.uncounted_id = uncounted_id
        self.weight = weight
        self.scale = math.sqrt(weight.shape[1]) if scale is None else scale
        self.positions = positions
        self.norm = norm
        self.dropout = dropout

    def forward(
        self, ids: Tensor, *, start: int | Tensor = 0, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Embed token ids.

        Args:
            ids: ``[batch, length]``.
            start: Position of the first column, or of each token, ``[batch, length]``.
            dtype: Type of the result; None keeps the type of the table.

        Returns:
            ``[batch, length, dim]``.
        """
        x = F.embedding(ids, self.weight)
        if self.scale != 1:
            x = x * self.scale
        if self.positions is not None:
            x = x + self._position_vectors(ids, start)
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x.to(dtype or self.weight.dtype))

    def _position_vectors(self, ids: Tensor, start: int | Tensor) -> Tensor:
        """Return the vectors of positions, ``[length, dim]`` or ``[batch, length, dim]``."""
        assert self.positions is not None
        if isinstance(start, Tensor):
            return self.positions.rows(start)
        vectors = self.positions(start, ids.shape[1])  # [length, dim]
        positions = count_positions(ids, self.uncounted_id)  # [batch, length]
        if positions is None:
            return vectors
        return vectors[positions.clamp(min=0)] * (positions >= 0)[..., None]

    def describe(self) -> Description:
        """Return the sizes of its tables, and its norm."""
        facts = [describe_rows(self.weight, "tokens")]
        if isinstance(self.positions, LearnedPositions):
            facts.append(f"{len(self.positions.weight):,} learned positions")
        elif self.positions is not None:
            facts.append("sinusoidal positions")
        facts += [] if self.norm is None else ["layer norm"]
        return Description("embedding", tuple(facts))


def count_positions(ids: Tensor, uncounted_id: int | None) -> Tensor | None:
    """Return the position of each token among those that are not `uncounted_id`.

    As `make_positions` of fairseq and RoBERTa, XLM-R, and M2M-100 in `transformers` count: a
    padding token within a text, or before it, shifts none of those behind it.

    Args:
        ids: ``[batch, length]``.
        uncounted_id: The token; None counts all.

    Returns:
        ``[batch, length]``, -1 at `uncounted_id`; None where the positions are those of the
        columns.

    >>> count_positions(torch.tensor([[5, 1, 6, 1], [1, 7, 8, 9]]), 1).tolist()
    [[0, -1, 1, -1], [-1, 0, 1, 2]]
    """
    if uncounted_id is None:
        return None
    is_counted = ids != uncounted_id
    # On another device, a look at the values would wait for it.
    if ids.device.type == "cpu" and is_readable(ids) and bool(is_counted.all()):
        return None
    return torch.where(is_counted, is_counted.cumsum(1) - 1, -1)


class SegmentedEmbedding(Layer):
    """``dropout(norm(tokens + positions + segments))`` (Devlin et al. 2019, figure 2).

    Args:
        weight: ``[vocab, dim]`` table of tokens, shared with the output.
        positions: Vectors of the positions; None where the layers have their own, such as rotary.
        norm: Normalisation of the sum.
        dropout: On the result.
        num_segments: Kinds of segments; 0 has no table of them.
        out_dim: Size to which a linear map takes the result (Clark et al. 2020, section 3.2); None
            has no map, and keeps that of the tables.
        uncounted_id: Token whose position is the row of the table before that of the first one (see
            `count_positions`), as padding in RoBERTa; None has none.
    """

    is_embedding = True

    def __init__(
        self,
        weight: nn.Parameter,
        positions: LearnedPositions | None,
        norm: LayerNorm,
        dropout: Dropout,
        *,
        num_segments: int,
        out_dim: int | None = None,
        uncounted_id: int | None = None,
    ) -> None:
        super().__init__()
        self.uncounted_id = uncounted_id
        self.weight = weight
        self.positions = positions
        self.segments = (
            nn.Parameter(torch.empty(num_segments, weight.shape[1])) if num_segments else None
        )
        self.norm = norm
        self.dropout = dropout
        self.projection = None if out_dim is None else Linear(weight.shape[1], out_dim)

    def forward(self, ids: Tensor, segments: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Embed token ids and segments.

        Args:
            ids: ``[batch, length]``.
            segments: Segment numbers, the same shape; None is 0 everywhere.
            dtype: Type of the result.

        Returns:
            ``[batch, length, dim]``.

        Raises:
            ConfigError: There are segments, and the model has no table of them.
        """
        x = F.embedding(ids, self.weight)
        if self.positions is not None:
            positions = count_positions(ids, self.uncounted_id)
            rows = self.positions.rows
            x = x + (self.positions(0, ids.shape[1]) if positions is None else rows(positions))
        if self.segments is not None:
            x = x + (self.segments[0] if segments is None else F.embedding(segments, self.segments))
        elif segments is not None:
            raise ConfigError(
                "segments: the model has no table of them (num_segments=0).  Leave them out."
            )
        x = self.dropout(self.norm(x).to(dtype))
        return x if self.projection is None else self.projection(x)

    def describe(self) -> Description:
        """Return the sizes of its tables."""
        facts = [describe_rows(self.weight, "tokens")]
        if self.positions is not None:
            facts.append(f"{len(self.positions.weight):,} learned positions")
        if self.segments is not None:
            facts.append(f"table of segments: {len(self.segments)}")
        facts.append("layer norm")
        if self.projection is not None:
            facts.append("linear {}".format(*describe_linear(self.projection.weight).facts))
        return Description("embedding", tuple(facts))
