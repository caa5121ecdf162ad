"""Keys and values that go into a step as tensors and come out of it: the cache of exported graphs.

Whoever runs the graph keeps them from step to step. All keys stay, those that a window no longer
reaches too, so that the slot of a key says its distance from the token of the step. Cost: the keys
before are copied at every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from regard.attention import Full, MaskPattern, TopK, attend
from regard.layers.positioned_cache import PositionedCache

if TYPE_CHECKING:
    from regard.attention import DotProduct, Pattern
    from regard.layers.relative_bias import RelativeBias


class ExplicitRows(NamedTuple):
    """The rows of a step, which the caches of all layers share.

    Args:
        positions: By which the tokens of the step are embedded and rotated, ``[rows, new]``, or
            ``[1, new]`` for all rows.
        queries: Their positions in the text, by which they see keys, the same shape.
        keys: Positions in the text of all tokens, ``[rows, past + new]``, or one for all rows.
        is_token: False where a row is padded, ``[rows, past + new]``; None where none is.
    """

    positions: Tensor
    queries: Tensor
    keys: Tensor
    is_token: Tensor | None = None


class ExplicitCache(PositionedCache):
    """The keys and values of one layer, before a step and after it.

    Args:
        rows: Of the step.
        pattern: Which positions may see which, causal.
        keys: Of the tokens before, ``[rows, kv_heads, past, head_dim]``.
        values: As `keys`.
    """

    def __init__(self, rows: ExplicitRows, pattern: Pattern, keys: Tensor, values: Tensor) -> None:
        self.rows, self.pattern = rows, pattern
        self.keys, self.values = keys, values

    @property
    def positions(self) -> Tensor:
        """Positions of the tokens of the step, ``[rows, new]``, or ``[1, new]`` for all rows."""
        return self.rows.positions

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        score: DotProduct,
        position_bias: RelativeBias | None = None,
    ) -> Tensor:
        """Add the tokens of the step, and attend from them, ``[rows, heads, new, dim]``."""
        self.keys = torch.cat([self.keys, k], dim=2)
        self.values = torch.cat([self.values, v], dim=2)
        rows, pattern = self.rows, self.pattern
        queries, keys = rows.queries[:, :, None], rows.keys[:, None]
        assert isinstance(pattern, MaskPattern | TopK), "others are not decoded with a cache"
        is_allowed = pattern.allowed(queries, keys)  # [rows or 1, new, past + new]
        if rows.is_token is not None:
            is_allowed = is_allowed & rows.is_token[:, None]
        bias = None
        if position_bias is not None:
            function = position_bias.function(q.dtype)
            bias = function(queries[:, None], keys[:, None], function.tensors())
        # The mask has the direction in which a pattern by scores looks.
        return attend(
            *(q, self.keys, self.values),
            pattern=replace(pattern, causal=False) if isinstance(pattern, TopK) else Full(),
            score=score,
            mask=is_allowed[:, None],
            bias=bias,
        )
