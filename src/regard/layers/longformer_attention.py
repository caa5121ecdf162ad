"""Self-attention with global tokens (Longformer, Beltagy et al. 2020, section 3.1).

Global tokens attend to all tokens, through maps of their own, and all tokens attend to them; all
other tokens also attend by a pattern, such as a window. Cost: O(window + global tokens) a token
with a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from regard.attention import Full, Global, Local, Pattern, ScoreDependentPattern, attend
from regard.layers.layer import Description
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import SelfAttention


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
        num_global = min(self.num_global, x.shape[1])
        parts = []
        if num_global:
            parts.append(self._attend_globally(x, lengths, num_global))
        if num_global < x.shape[1]:
            parts.append(self._attend_by_pattern(x, lengths, num_global))
        if self.on_weights is not None:
            self.on_weights(_stack([weights for _, weights in parts if weights is not None]))
        out = torch.cat([out for out, _ in parts], dim=2)  # [batch, heads, length, head_dim]
        return self.output(out.transpose(1, 2).flatten(2))

    def _attend_globally(
        self, x: Tensor, lengths: Tensor | None, num_global: int
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with the global tokens.

        Returns:
            Output ``[batch, heads, num_global, head_dim]``, and weights where `on_weights` is set.
        """
        (q,) = self._heads(self.global_query(x[:, :num_global]), 1)
        k, v = self._heads(self.global_key_value(x), 2)
        return self._weigh(q, k, v, pattern=Full(), lengths=lengths, first=0)

    def _attend_by_pattern(
        self, x: Tensor, lengths: Tensor | None, num_global: int
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with all other tokens.

        Returns:
            Output ``[batch, heads, length - num_global, head_dim]``, and weights where
            `on_weights` is set.
        """
        q, k, v = self._project(x)
        if isinstance(self.pattern, ScoreDependentPattern):  # may need all queries
            out, weights = self._weigh(q, k, v, pattern=self.pattern, lengths=lengths, first=0)
            return out[:, :, num_global:], None if weights is None else weights[:, :, num_global:]
        q = q[:, :, num_global:]
        return self._weigh(q, k, v, pattern=self.pattern, lengths=lengths, first=num_global)

    def _weigh(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        pattern: Pattern,
        lengths: Tensor | None,
        first: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with queries from position `first` on.

        Returns:
            Output ``[batch, heads, queries, head_dim]``, and the weights where `on_weights` is set.
        """
        compute = partial(attend, q, k, v, pattern=pattern, query_offset=first)
        # A pair, since `attend` takes one tensor for the keys alone.
        lengths_of_both = None
        if lengths is not None:
            lengths_of_both = ((lengths - first).clamp(0, q.shape[2]), lengths)
        if self.on_weights is None:
            return compute(lengths=lengths_of_both), None
        return compute(lengths=lengths_of_both, return_weights=True)

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


def _stack(weights: list[Tensor]) -> Tensor:
    """Concatenate weights ``[batch, heads, queries, keys]`` by query; sparse where one is."""
    if any(part.is_sparse for part in weights):
        weights = [part if part.is_sparse else part.to_sparse() for part in weights]
    return torch.cat(weights, dim=2)
