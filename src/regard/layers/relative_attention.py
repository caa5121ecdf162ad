"""Self-attention with relative positions and a memory (Dai et al. 2019, "Transformer-XL").

    A_ij = ((q_i + u) . k_j + (q_i + v) . W_R R_{i-j}) / sqrt(head_dim)

with R the sinusoids of the distance and u, v shared by all layers (section 3.3); keys and values
are those of the new positions and of a memory of those before them (section 3.2). The memory holds
the inputs of the layer: in post-norm these are the paper's states h^{n-1}. Cost: that of attention
over length + memory keys, and the same again for the products of the queries with the table of
distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from regard.attention import Causal, LengthDependentPattern, Pattern, TransformerXL
from regard.layers.cache import PositionCounter
from regard.layers.initialization import fill_normal
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import MultiHeadAttention
from regard.layers.positions import SinusoidalPositions

Project = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(eq=False)
class SegmentMemory(PositionCounter):
    """The memory of training: the last inputs of one layer, without their graph.

    Their keys and values are computed again, so that the maps learn from them.

    Args:
        size: Most positions kept, 1 or more.
    """

    size: int
    inputs: Tensor | None = field(default=None, init=False)  # [batch, kept, dim]

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.inputs is not None:
            self.inputs = self.inputs.index_select(0, rows)

    def extend(self, x: Tensor, project: Project) -> tuple[Tensor, Tensor]:
        """Add positions.

        Args:
            x: The new positions, ``[batch, new, dim]``.
            project: Maps inputs to keys and values, ``[batch, heads, positions, head_dim]``.

        Returns:
            Keys and values of those kept before and of all new ones.
        """
        self.length += x.shape[1]
        if self.inputs is not None:
            x = torch.cat([self.inputs, x], dim=1)
        self.inputs = x[:, -self.size :].detach().clone()
        return project(x)


@dataclass(eq=False)
class KeyValueMemory(PositionCounter):
    """The memory of generation: keys and values of the last inputs of one layer.

    Args:
        size: Most positions kept, 1 or more.
    """

    size: int
    keys: Tensor | None = field(default=None, init=False)  # [batch, heads, kept, head_dim]
    values: Tensor | None = field(default=None, init=False)  # [batch, heads, kept, head_dim]
    distances: Tensor | None = field(default=None, init=False)  # [heads, distances, head_dim]

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)

    def extend(self, x: Tensor, project: Project) -> tuple[Tensor, Tensor]:
        """Add positions.

        Args:
            x: The new positions, ``[batch, new, dim]``.
            project: Maps inputs to keys and values, ``[batch, heads, positions, head_dim]``.

        Returns:
            Keys and values of those kept before and of all new ones.
        """
        self.length += x.shape[1]
        keys, values = project(x)
        is_view = self.keys is None
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        if is_view or keys.shape[2] > self.size:  # no more than what is kept stays in memory
            self.keys = keys[:, :, -self.size :].clone()
            self.values = values[:, :, -self.size :].clone()
        return keys, values

    def relative_keys(self, num: int, compute: Callable[[int], Tensor]) -> Tensor:
        """Return the keys of the first distances, which are the same at every step.

        Those that a single position sees are kept.

        Args:
            num: Number of distances.
            compute: Returns those of a number of distances, ``[heads, distances, head_dim]``.

        Returns:
            ``[heads, num, head_dim]``.
        """
        distances = self.distances
        if distances is not None and distances.shape[1] >= num:
            return distances[:, :num]
        most = self.size + 1
        distances = compute(max(num, min(2 * num, most)))
        if not distances.requires_grad and num <= most:
            self.distances = distances
        return distances[:, :num]


class RelativePositions(Layer):
    """The sinusoids and the biases u and v, which the layers of a model share.

    Args:
        dim: Size of the model, even and a multiple of `num_heads`.
        num_heads: Number of heads.
    """

    entrywise = ("content_bias", "position_bias")

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.sinusoids = SinusoidalPositions(dim)
        shape = num_heads, dim // num_heads
        self.content_bias = nn.Parameter(fill_normal(torch.empty(shape), 0.02))
        self.position_bias = nn.Parameter(fill_normal(torch.empty(shape), 0.02))

    def describe(self) -> Description:
        """Return the sizes of the biases; nothing passes through this layer itself."""
        heads, head_dim = self.content_bias.shape
        facts = (f"u and v: {heads} heads of {head_dim}",)
        return Description("relative positions", facts, out_dim=0)


class RelativeAttention(MultiHeadAttention):
    """A `Mixer` that scores by distance and looks back on a memory.

    Args:
        dim: Size of the model.
        num_heads: Number of heads.
        pattern: Which positions may see which, causal. Positions count from the beginning of the
            text; those that the memory no longer holds are not seen.
        memory: Most positions before the new ones that are seen, 1 or more.
        shared: Sinusoids and biases, the same for every layer of a model.
        output_init_scale: Factor on the initial weights of the output map.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Pattern = Causal(),  # noqa: B008 - an immutable value
        memory: int = 256,
        shared: RelativePositions,
        output_init_scale: float = 1.0,
    ) -> None:
        super().__init__(
            dim, num_heads, pattern=pattern, output_init_scale=output_init_scale, bias=False
        )
        self.memory = memory
        self.shared = shared
        self.query = Linear(dim, dim, bias=False)
        self.key_value = Linear(dim, 2 * dim, bias=False, num_splits=2)
        self.distance = Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        cache: SegmentMemory | KeyValueMemory | None = None,
    ) -> Tensor:
        """Attend within ``x``, ``[batch, length, dim]``, and to the memory before it.

        Args:
            x: The new positions: each sees those of `x` before it, and all that is remembered.
            lengths: Valid positions of each row, ``[batch]``; None means all, and with a memory it
                must be None.
            cache: The memory; updated.

        Returns:
            Same shape as `x`.
        """
        (q,) = self._heads(self.query(x), 1)
        start = 0 if cache is None else len(cache)
        k, v = self._keys_values(x) if cache is None else cache.extend(x, self._keys_values)
        num_kept = k.shape[2] - x.shape[1]
        key_positions = None
        if start == num_kept or _is_relative(self.pattern):
            start = num_kept  # key j is at position j
        else:
            key_positions = torch.arange(start - num_kept, start + x.shape[1], device=x.device)
        out = self.attend(
            *(q, k, v),
            score=self._score(k.shape[2], x.dtype, cache),
            lengths=None if lengths is None else (lengths, lengths),
            query_offset=start,
            key_positions=key_positions,
        )
        return self.output(out.transpose(1, 2).flatten(2))

    def make_cache(self) -> KeyValueMemory:
        """Return an empty memory of generation."""
        return KeyValueMemory(self.memory)

    def make_memory(self) -> SegmentMemory:
        """Return an empty memory of training."""
        return SegmentMemory(self.memory)

    def describe(self) -> Description:
        """Return the heads, the pattern and the size of the memory."""
        memory = (f"memory of {self.memory:,}", "relative positions")
        return Description("self-attention", (*super().describe().facts, *memory))

    def flops(self, length: int) -> int:
        """Count a row without memory: attention, and the products with the table of distances."""
        return super().flops(length) + 2 * length**2 * self.num_heads * self.head_dim

    def _keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._heads(self.key_value(x), 2)  # [batch, heads, length, head_dim]
        return keys, values

    def _score(
        self, num: int, dtype: torch.dtype, cache: SegmentMemory | KeyValueMemory | None
    ) -> TransformerXL:
        def compute(num: int) -> Tensor:
            sinusoids = self.shared.sinusoids(0, num).to(dtype)
            return self.distance(sinusoids).unflatten(-1, (-1, self.head_dim)).transpose(0, 1)

        is_generating = isinstance(cache, KeyValueMemory)
        relative = cache.relative_keys(num, compute) if is_generating else compute(num)
        return TransformerXL(self.shared.content_bias, self.shared.position_bias, relative)


def _is_relative(pattern: Pattern) -> bool:
    """Return whether a pattern depends on the distance of a pair alone."""
    return not isinstance(pattern, LengthDependentPattern) and all(
        term.queries is None and term.keys is None and not term.blocks for term in pattern.terms()
    )
