"""How the tensors of a blockwise computation are cut into blocks and put together again.

A `TileSpec` says which axes of a tensor follow the batch, the heads, the queries or the keys.
`gather` cuts out what one slice of the computation needs, `scatter` puts back its result; the two
are adjoint, so a tensor's cotangent has the spec of the tensor. `BlockInputs` names the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from regard.attention.blockwise.schedule import BlockGroup


@dataclass(frozen=True, eq=False)
class BlockSlice:
    """One group of blocks, for one row of the batch and some heads of keys.

    Blocks have the axes ``[blocks, heads, width, dim]``. Where a group has a single block, the
    first axis runs over heads of keys instead, so that small groups make larger products.

    Args:
        row: Row of the batch.
        kv_heads: Heads of keys and values; several only where the group has a single block.
        heads: The query heads that share the keys.
        group: The blocks.
        mask: The group's, ``[blocks or 1, 1, queries, keys]``; None where all pairs are allowed.
    """

    row: int
    kv_heads: slice
    heads: slice
    group: BlockGroup
    mask: Tensor | None

    def fold(self, block: Tensor) -> Tensor:
        """Turn ``[1, heads, ...]`` into ``[kv_heads, heads of each, ...]``, if several."""
        num = self.kv_heads.stop - self.kv_heads.start
        if num == 1 or block.shape[1] == 1:
            return block
        return block.squeeze(0).unflatten(0, (num, -1))

    def unfold(self, block: Tensor) -> Tensor:
        """Turn ``[kv_heads, heads of each, ...]`` back into ``[1, heads, ...]``, if several."""
        if self.kv_heads.stop - self.kv_heads.start == 1:
            return block
        return block.flatten(0, 1).unsqueeze(0)


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of a computation; `heads` is a multiple of `kv_heads`."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int

    def slices(
        self, groups: Iterable[BlockGroup], device: torch.device, *, fold_heads: bool
    ) -> Iterator[BlockSlice]:
        """Yield the groups, each once for every row of the batch and every head of keys.

        Args:
            groups: The blocks.
            device: Device of the masks.
            fold_heads: Compute several heads of keys at once where blocks are few and small.

        Yields:
            The slices.
        """
        repeats = self.heads // self.kv_heads
        for group in groups:
            together = group.heads_together(repeats) if fold_heads else 1
            mask = group.mask(device)
            for row in range(self.batch):
                for first in range(0, self.kv_heads, together):
                    last = min(first + together, self.kv_heads)
                    heads = slice(first * repeats, last * repeats)
                    yield BlockSlice(row, slice(first, last), heads, group, mask)


class TileSpec(Protocol):
    """How one tensor is cut into blocks and put together."""

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return the block ``[blocks, heads, width, dim]`` that a slice needs."""
        ...

    def allocate(self, block: Tensor) -> Tensor:
        """Allocate the whole tensor, of the type of a block ``[blocks, heads, width, dim]``."""
        ...

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Write or add a block ``[blocks, heads, width, dim]`` where `gather` cuts."""
        ...


T = TypeVar("T")
U = TypeVar("U")


class BlockInputs(NamedTuple, Generic[T]):
    """The inputs of blockwise attention by name: the tensors, their specs, or their blocks.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        score: The tensors of the score.
        bias: The tensors of the bias, or the bias itself where it is a tensor.
        mask: Boolean, True where allowed.
        lengths: Valid keys a row.
        query_segments: Segment numbers of the queries.
        key_segments: Segment numbers of the keys.
        seed: Seed of dropout.
    """

    q: T
    k: T
    v: T
    score: tuple[T, ...] = ()
    bias: tuple[T, ...] = ()
    mask: T | None = None
    lengths: T | None = None
    query_segments: T | None = None
    key_segments: T | None = None
    seed: T | None = None

    def flatten(self) -> tuple[T, ...]:
        """Return the inputs that exist, q, k and v first: an autograd function takes a list."""
        single = (x for x in self[5:] if x is not None)
        return (self.q, self.k, self.v, *self.score, *self.bias, *single)

    def unflatten(self, items: Sequence[U]) -> BlockInputs[U]:
        """Return the items of a list by name, in the order of `flatten`."""
        rest = iter(items)
        q, k, v = next(rest), next(rest), next(rest)
        score, bias = (tuple(next(rest) for _ in part) for part in (self.score, self.bias))
        single = (None if part is None else next(rest) for part in self[5:])
        return BlockInputs(q, k, v, score, bias, *single)


@dataclass(frozen=True)
class PerQuery:
    """``[batch, heads, queries, dim]`` in blocks ``[blocks, heads, queries, dim]``.

    Axes of size 1 serve every row and head.

    Args:
        shape: Sizes.
        fill: Value for queries outside all blocks; None where blocks hold all queries.
    """

    shape: AttentionShape
    fill: float | None

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return a block."""
        row = _row(tensor, block_slice)
        block = block_slice.group.queries.take(row if row.shape[0] == 1 else row[block_slice.heads])
        return block_slice.fold(block)

    def allocate(self, block: Tensor) -> Tensor:
        """Allocate the whole tensor."""
        size = self.shape
        shape = (size.batch, size.heads, size.queries, block.shape[-1])
        return block.new_empty(shape) if self.fill is None else block.new_full(shape, self.fill)

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Write: each query belongs to one block of a term."""
        row = total[block_slice.row, block_slice.heads]
        block_slice.group.queries.write(row, block_slice.unfold(block))


@dataclass(frozen=True)
class PerKey:
    """``[batch, kv_heads, keys, dim]`` in blocks ``[blocks, 1, keys, dim]``.

    Axes of size 1 serve every row and head.
    """

    shape: AttentionShape

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return a block."""
        row = _row(tensor, block_slice)
        block = block_slice.group.keys.take(row if row.shape[0] == 1 else row[block_slice.kv_heads])
        return block_slice.fold(block)

    def allocate(self, block: Tensor) -> Tensor:
        """Allocate zeros."""
        size = self.shape
        return _zeros((size.batch, size.kv_heads, size.keys, block.shape[-1]), block)

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Add: blocks of keys overlap."""
        row = total[block_slice.row, block_slice.kv_heads]
        block_slice.group.keys.add(row, block_slice.unfold(block))


@dataclass(frozen=True)
class PerHead:
    """``[heads or 1, ...]``, whole heads for every block: parameters of a score or a bias.

    Args:
        num_heads: First axis.
    """

    num_heads: int

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return the slice's heads."""
        return tensor if self.num_heads == 1 else tensor[block_slice.heads]  # [heads, ...]

    def allocate(self, block: Tensor) -> Tensor:
        """Allocate zeros."""
        return _zeros((self.num_heads, *block.shape[1:]), block)  # [heads, ...]

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Add over all slices."""
        (total if self.num_heads == 1 else total[block_slice.heads]).add_(block)  # [heads, ...]


@dataclass(frozen=True)
class PerPair:
    """``[batch, heads, queries, keys]`` in blocks ``[blocks, heads, queries, keys]``.

    Args:
        shape: Shape of the whole. An axis of size 1 serves every row, head, query or key, and is of
            size 1 in the blocks too.
    """

    shape: tuple[int, ...]

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return a copied block."""
        heads, (queries, keys) = self._heads(tensor, block_slice), self._index(block_slice, tensor)
        return block_slice.fold(heads[:, queries, keys].transpose(0, 1))

    def allocate(self, block: Tensor) -> Tensor:
        """Allocate zeros."""
        return _zeros(self.shape, block)

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Add."""
        heads, (queries, keys) = self._heads(total, block_slice), self._index(block_slice, total)
        every = torch.arange(heads.shape[0], device=total.device)[:, None, None, None]
        blocks = block_slice.unfold(block).transpose(0, 1)
        heads.index_put_((every, queries, keys), blocks, accumulate=True)

    def _heads(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        row = _row(tensor, block_slice)
        return row if self.shape[1] == 1 else row[block_slice.heads]

    def _index(self, block_slice: BlockSlice, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Return query ``[blocks, queries, 1]`` and key ``[blocks, 1, keys]`` numbers."""
        first = torch.zeros(1, 1, 1, dtype=torch.long, device=tensor.device)
        group = block_slice.group
        queries = group.queries.positions(tensor.device)[:, :, None]
        keys = group.keys.positions(tensor.device)[:, None, :]
        return queries if self.shape[2] > 1 else first, keys if self.shape[3] > 1 else first


@dataclass(frozen=True)
class PerRow:
    """``[batch]`` numbers that no derivative is taken of, such as lengths."""

    def gather(self, tensor: Tensor, block_slice: BlockSlice) -> Tensor:
        """Return one number."""
        return tensor[block_slice.row]

    def allocate(self, block: Tensor) -> Tensor:
        """Raise: it is never an output."""
        raise AssertionError("a number a row has no derivative")

    def scatter(self, total: Tensor, block: Tensor, block_slice: BlockSlice) -> None:
        """Raise: it is never an output."""
        raise AssertionError("a number a row has no derivative")


def spec_of_derivative(spec: TileSpec) -> TileSpec:
    """Return how the tangent or the cotangent of a tensor is cut: outside all blocks it is 0."""
    if isinstance(spec, PerQuery) and spec.fill is not None:
        return replace(spec, fill=0.0)
    return spec


def _row(tensor: Tensor, block_slice: BlockSlice) -> Tensor:
    """Return one row ``[heads, ...]`` of ``[batch or 1, heads, ...]``."""
    return tensor[0] if tensor.shape[0] == 1 else tensor[block_slice.row]


def _zeros(shape: tuple[int, ...], block: Tensor) -> Tensor:
    """Allocate a sum over blocks ``[blocks, heads, width, dim]``, float32 at least."""
    return block.new_zeros(shape, dtype=torch.promote_types(block.dtype, torch.float32))


def fold_rows(block: Tensor) -> Tensor:
    """Fold the heads that share keys into the rows: ``[blocks, heads * queries, dim]``."""
    return block.flatten(1, 2)  # [blocks, rows, dim]


def unfold_rows(rows: Tensor, block: Tensor) -> Tensor:
    """Undo `fold_rows`: ``[blocks, heads, queries, dim]``, with the heads of another block."""
    return rows.unflatten(1, block.shape[1:3])
