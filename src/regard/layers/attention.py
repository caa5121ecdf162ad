"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): projections, heads, cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from regard.attention import Full, Pattern, attend
from regard.layers.linear import Linear


class KeyValueCache:
    """Keys and values of the positions decoded so far, for one layer.

    Rows are sentences or beams; `select` keeps, repeats and reorders them.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None  # [batch, heads, keys, dim]
        self.values: Tensor | None = None  # [batch, heads, keys, dim]

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each, and return all of them."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep rows of ``[batch, heads, keys, dim]`` by index, ``[new_batch]``, in that order."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)


class MultiHeadAttention(nn.Module):
    """What self- and cross-attention share: heads, the call of `attend`, the output map.

    Args:
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Number of heads.
        pattern: Which positions may see which.
        output_gain: Factor on the initial weights of the output map.
    """

    def __init__(self, dim: int, num_heads: int, *, pattern: Pattern, output_gain: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pattern = pattern
        self.output = Linear(dim, dim, gain=output_gain)
        self.on_weights: Callable[[Tensor], None] | None = None
        """Called with the weights ``[batch, heads, queries, keys]`` of every pass, where set."""

    def _heads(self, x: Tensor, num_parts: int) -> tuple[Tensor, ...]:
        """Split [batch, length, parts * dim] into parts of [batch, heads, length, head_dim]."""
        split = x.unflatten(-1, (num_parts, self.num_heads, -1))
        return split.permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, query_offset: int
    ) -> Tensor:
        if self.on_weights is None:
            out = attend(q, k, v, pattern=self.pattern, lengths=lengths, query_offset=query_offset)
        else:
            out, weights = attend(
                q,
                k,
                v,
                pattern=self.pattern,
                lengths=lengths,
                query_offset=query_offset,
                return_weights=True,
            )
            self.on_weights(weights)
        return self.output(out.transpose(1, 2).flatten(2))  # [batch, queries, dim]


class SelfAttention(MultiHeadAttention):
    """Attention of a sequence over itself; arguments as for `MultiHeadAttention`."""

    def __init__(self, dim: int, num_heads: int, *, pattern: Pattern, output_gain: float) -> None:
        super().__init__(dim, num_heads, pattern=pattern, output_gain=output_gain)
        self.query_key_value = Linear(dim, 3 * dim, num_parts=3)

    def forward(
        self, x: Tensor, *, lengths: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Attend within ``x``, ``[batch, length, dim]``, and the cached positions before it.

        Args:
            x: The new positions.
            lengths: Valid positions of each row, ``[batch]``; None means all.
            cache: What has been decoded before; the new positions are added to it.

        Returns:
            Same shape as `x`.
        """
        q, k, v = self._heads(self.query_key_value(x), 3)
        query_offset = 0
        if cache is not None:
            query_offset = len(cache)
            k, v = cache.append(k, v)
        return self._attend(q, k, v, lengths, query_offset)


class CrossAttention(MultiHeadAttention):
    """Attention of one sequence over another, every position over every position.

    Args:
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Number of heads.
        output_gain: Factor on the initial weights of the output map.
    """

    def __init__(self, dim: int, num_heads: int, *, output_gain: float) -> None:
        super().__init__(dim, num_heads, pattern=Full(), output_gain=output_gain)
        self.query = Linear(dim, dim)
        self.key_value = Linear(dim, 2 * dim, num_parts=2)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[batch, keys, dim]`` to keys and values, ``[batch, heads, keys, head_dim]``."""
        keys, values = self._heads(self.key_value(memory), 2)
        return keys, values

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Attend from ``x``, ``[batch, queries, dim]``, over projected memory; same shape."""
        (q,) = self._heads(self.query(x), 1)
        return self._attend(q, keys, values, lengths, 0)
