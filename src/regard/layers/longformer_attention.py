"""Self-attention with global tokens (Longformer, Beltagy et al. 2020, section 3.1).

Global tokens attend to all tokens, through maps of their own, and all tokens attend to them; all
other tokens also attend by a pattern, such as a window. Cost: O(window + global tokens) a token
with a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from regard.attention import (
    Full,
    Global,
    Lengths,
    Local,
    MaskPattern,
    Pattern,
    ScoreDependentPattern,
    attend,
)
from regard.layers.layer import Description
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import SelfAttention
from regard.option_checks import require_whole


class LongformerAttention(SelfAttention):
    """Self-attention whose first tokens are global.

    Args:
        dim: Size of the model.
        num_heads: Number of heads.
        pattern: Which tokens the other tokens attend to, apart from the global ones; a pattern that
            depends on scores is not changed, since it chooses among all tokens.
        num_global: Global tokens, the first of each row; 0 has none.
        output_init_scale: Factor on the initial weights of the output map.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Pattern = Local(256, 256),  # noqa: B008 - an immutable value
        num_global: int = 1,
        output_init_scale: float = 1.0,
    ) -> None:
        super().__init__(dim, num_heads, pattern=pattern, output_init_scale=output_init_scale)
        self._other_pattern = pattern
        self._is_global: Tensor | None = None
        require_whole("num_global", num_global, 0)
        self._set_num_global(num_global)
        self.global_query = Linear(dim, dim)
        self.global_key_value = Linear(dim, 2 * dim, num_splits=2)

    def _set_num_global(self, num_global: int) -> None:
        pattern = self._other_pattern
        if num_global and not isinstance(pattern, ScoreDependentPattern):
            pattern = pattern | Global(range(num_global))
        self.num_global, self.pattern = num_global, pattern

    @contextmanager
    def global_tokens(self, num_global: int) -> Iterator[None]:
        """Attend with another number of global tokens within the context."""
        before = self.num_global
        self._set_num_global(num_global)
        try:
            yield
        finally:
            self._set_num_global(before)

    @contextmanager
    def global_rows(self, is_global: Tensor) -> Iterator[None]:
        """Attend with other global tokens in each row within the context, over all pairs.

        Args:
            is_global: Bool, ``[batch, length]``.
        """
        self._is_global = is_global
        try:
            yield
        finally:
            self._is_global = None

    def forward(
        self, x: Tensor, *, lengths: Tensor | None = None, cache: Any | None = None
    ) -> Tensor:
        """Attend within ``x``, ``[batch, length, dim]``.

        Args:
            x: All positions of the text.
            lengths: Valid positions of each row, ``[batch]``; None means all.
            cache: None, since this reads in both directions.

        Returns:
            Same shape as `x`.
        """
        assert cache is None, "an encoder does not read position by position"
        if self._is_global is not None:
            return self._attend_by_rows(x, lengths, self._is_global)
        num_global = min(self.num_global, x.shape[1])
        parts = []
        if num_global:
            parts.append(self._attend_globally(x, lengths, num_global))
        if num_global < x.shape[1]:
            parts.append(self._attend_by_pattern(x, lengths, num_global))
        out = torch.cat(parts, dim=2)  # [batch, heads, length, head_dim]
        return self.output(out.transpose(1, 2).flatten(2))

    def _attend_globally(self, x: Tensor, lengths: Tensor | None, num_global: int) -> Tensor:
        """Attend with the global tokens; return ``[batch, heads, num_global, head_dim]``."""
        (q,) = self._heads(self.global_query(x[:, :num_global]), 1)
        k, v = self._heads(self.global_key_value(x), 2)
        pair = _pair_of_lengths(lengths, num_global, first=0)
        return self.attend(q, k, v, pattern=Full(), lengths=pair)

    def _attend_by_pattern(self, x: Tensor, lengths: Tensor | None, num_global: int) -> Tensor:
        """Attend with all others; return ``[batch, heads, length - num_global, head_dim]``."""
        q, k, v = self.project(x)  # [batch, heads, length, head_dim]
        if isinstance(self.pattern, ScoreDependentPattern):  # may need all queries
            pair = _pair_of_lengths(lengths, q.shape[2], first=0)
            return self.attend(q, k, v, lengths=pair, first_query=num_global)
        q = q[:, :, num_global:]
        pair = _pair_of_lengths(lengths, q.shape[2], first=num_global)
        return self.attend(q, k, v, lengths=pair, query_offset=num_global)

    def _attend_by_rows(self, x: Tensor, lengths: Tensor | None, is_global: Tensor) -> Tensor:
        """Attend from and to the global tokens of each row, and by the pattern.

        Args:
            x: ``[batch, length, dim]``.
            lengths: ``[batch]``.
            is_global: Bool, ``[batch, length]``.

        Returns:
            Same shape as `x`.
        """
        pattern, positions = self._other_pattern, torch.arange(x.shape[1], device=x.device)
        assert isinstance(pattern, MaskPattern), "the others depend on lengths or scores"
        allowed = pattern.allowed(positions[:, None], positions)  # [length, length]
        pair = None if lengths is None else (lengths, lengths)
        mask = allowed | is_global[:, None, None, :]
        by_pattern = attend(*self.project(x), mask=mask, lengths=pair)
        (q,) = self._heads(self.global_query(x), 1)
        k, v = self._heads(self.global_key_value(x), 2)
        out = torch.where(is_global[:, None, :, None], attend(q, k, v, lengths=pair), by_pattern)
        return self.output(out.transpose(1, 2).flatten(2))

    def describe(self) -> Description:
        """Return the heads, the pattern and the number of global tokens."""
        return Description(
            "self-attention", (*super().describe().facts, f"global tokens: {self.num_global}")
        )

    def flops(self, length: int) -> int:
        """Count global tokens through their own maps, and all others by the pattern."""
        num_global, dim = min(self.num_global, length), self.head_dim
        flops = self.output.flops(length)
        of_global = Full().cost(num_global, length, dim=dim).flops  # of one head
        if num_global:
            flops += self.global_query.flops(num_global) + self.global_key_value.flops(length)
            flops += self.num_heads * of_global
        if num_global < length:
            by_pattern = self.pattern.cost(length, length, dim=dim).flops
            if not isinstance(self.pattern, ScoreDependentPattern):  # holds the global pairs too
                by_pattern -= of_global
            flops += self.query_key_value.flops(length) + self.num_heads * by_pattern
        return flops


def _pair_of_lengths(lengths: Tensor | None, num_queries: int, *, first: int) -> Lengths:
    """Return the valid queries from position `first` on, and the valid keys, of each row.

    A pair, since `attend` takes one tensor for the keys alone.
    """
    return None if lengths is None else ((lengths - first).clamp(0, num_queries), lengths)
