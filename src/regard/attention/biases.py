"""Biases: numbers added to the scores by position alone.

Like a score, a bias returns its tensors and takes them back when called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.attention.scores import HeadTensors, require_fit
from regard.errors import ConfigError, ShapeError


class Bias(HeadTensors, Protocol):
    """A bias of query and key positions."""

    def __call__(self, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """Compute the bias.

        Args:
            queries: Integer positions, broadcastable as ``[..., 1, queries, 1]``.
            keys: Integer positions, broadcastable as ``[..., 1, 1, keys]``.
            tensors: What `tensors` returns, perhaps of some heads only.

        Returns:
            Broadcastable to ``[..., heads, queries, keys]``.
        """
        ...


@dataclass(frozen=True, eq=False)
class Alibi:
    """``-slope |i - j|`` (Press et al. 2022, "Train short, test long", section 3).

    Args:
        slopes: ``[heads]``, 0 or more; `alibi_slopes` computes the paper's.
    """

    slopes: Tensor

    def __post_init__(self) -> None:
        if self.slopes.dim() != 1:
            raise ShapeError(f"slopes has shape {list(self.slopes.shape)}; expected [heads].")

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the slopes ``[heads]``."""
        return (self.slopes,)

    def check(self, q: Tensor) -> None:
        """Check that queries ``[batch, heads, queries, dim]`` have the heads of the slopes."""
        require_fit("slopes", self.slopes, q)

    def __call__(self, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """Compute ``[..., heads, queries, keys]``, float32 at least: distances are exact there."""
        slopes = tensors[0].to(torch.promote_types(tensors[0].dtype, torch.float32))
        return -slopes[:, None, None] * (queries - keys).abs()


def alibi_slopes(num_heads: int) -> Tensor:
    """Compute the paper's slopes: ``2^(-8 h / heads)``, h = 1 ... heads.

    Where the number of heads is not a power of two, the slopes of the next lower power come first,
    and every second one of the next higher power after them (the authors' published code).

    Args:
        num_heads: 1 or more.

    Returns:
        ``[heads]`` float32.

    Raises:
        ConfigError: The number is below 1.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    if num_heads < 1:
        raise ConfigError(f"alibi_slopes({num_heads}): the number of heads must be 1 or more.")
    lower = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * head / lower) for head in range(1, lower + 1)]
    between = [2 ** (-4 * head / lower) for head in range(1, 2 * lower, 2)]
    return torch.tensor((slopes + between)[:num_heads])


@dataclass(frozen=True, eq=False)
class T5Relative:
    """A learned number for every head and bucket of distances (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the others grow logarithmically.

    Args:
        table: ``[heads, buckets]``.
        bidirectional: Use half of the buckets for keys after the query; else these use bucket 0.
        max_distance: From here on all distances share the last bucket.
    """

    table: Tensor
    bidirectional: bool = True
    max_distance: int = 128

    def __post_init__(self) -> None:
        if self.table.dim() != 2:
            raise ShapeError(
                f"table has shape {list(self.table.shape)}; expected [heads, buckets]."
            )
        num_exact = self.table.shape[1] // (4 if self.bidirectional else 2)
        if num_exact < 1 or self.max_distance <= num_exact:
            raise ConfigError(
                f"T5Relative(max_distance={self.max_distance}) with {self.table.shape[1]} buckets: "
                f"needs at least {4 if self.bidirectional else 2} buckets, and max_distance "
                f"above {num_exact}."
            )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the table ``[heads, buckets]``."""
        return (self.table,)

    def check(self, q: Tensor) -> None:
        """Check that queries ``[batch, heads, queries, dim]`` have the heads of the table."""
        require_fit("table", self.table, q, self.table.shape[1])

    def __call__(self, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """Compute ``[..., heads, queries, keys]``."""
        buckets = self.buckets(keys - queries)  # [..., 1, queries, keys]
        table = tensors[0]
        shape = torch.broadcast_shapes(buckets.shape, (table.shape[0], 1, 1))
        rows = torch.arange(table.shape[0], device=table.device)[:, None, None]
        return table[rows.expand(shape), buckets.expand(shape)]

    def buckets(self, distances: Tensor) -> Tensor:
        """Return the buckets of distances ``j - i``, integers ``[..., queries, keys]``."""
        num_buckets = self.table.shape[1]
        first = torch.zeros_like(distances)
        if self.bidirectional:
            num_buckets //= 2
            first = (distances > 0) * num_buckets
            distances = distances.abs()
        else:
            distances = (-distances).clamp(min=0)
        num_exact = num_buckets // 2
        fraction = (distances.clamp(min=1).float() / num_exact).log() / math.log(
            self.max_distance / num_exact
        )
        far = num_exact + (fraction * (num_buckets - num_exact)).long()
        far = far.clamp(max=num_buckets - 1)
        return first + torch.where(distances < num_exact, distances, far)


ALWAYS_FINITE = (Alibi, T5Relative)
"""Biases that never forbid a pair by minus infinity."""
