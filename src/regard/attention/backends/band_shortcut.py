"""What the kernels of a CPU and of a GPU compute a band of dot-product attention of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from regard.attention.blockwise.tiling import BlockInputs, TileSpec


class BandInputs(NamedTuple):
    """What a band of dot-product attention is computed of.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        lengths: Valid keys of each row, ``[batch]``.
        query_segments: ``[batch, 1, queries, 1]``.
        key_segments: ``[batch, 1, keys, 1]``.
        before: Keys that are seen before a query.
        after: Keys that are seen after it.
        offset: Position of query 0.
        scale: Factor on the dot products.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: Tensor | None
    query_segments: Tensor | None
    key_segments: Tensor | None
    before: int
    after: int
    offset: int
    scale: float


@dataclass(frozen=True)
class BandShortcut:
    """The shape of a band, for the shortcuts that compute it.

    Args:
        scale: Factor on the dot products.
        before: The band reaches back to ``j >= i - before``; None without bound.
        after: The band reaches ahead to ``j <= i + after``; None without bound.
        offset: Position of query 0.
        specs: The names of the tensors.
    """

    far: ClassVar[int]
    """What the kernels take for a reach without bound."""

    scale: float
    before: int | None
    after: int | None
    offset: int
    specs: BlockInputs[TileSpec]

    def inputs(self, tensors: Sequence[Tensor]) -> BandInputs:
        """Name the inputs of the value, q, k and v ``[batch, heads, length, dim]`` first."""
        inputs = self.specs.unflatten(tensors)
        return BandInputs(
            q=inputs.q,
            k=inputs.k,
            v=inputs.v,
            lengths=inputs.lengths,
            query_segments=inputs.query_segments,
            key_segments=inputs.key_segments,
            before=self.far if self.before is None else self.before,
            after=self.far if self.after is None else self.after,
            offset=self.offset,
            scale=self.scale,
        )


def has_memory(x: Tensor) -> bool:
    """Return whether a tensor of any shape is one in memory; not so in `torch.func` transforms."""
    return type(x) in (Tensor, torch.nn.Parameter) and torch._C._has_storage(x)
