"""How the tensors of a blockwise computation are cut into blocks and put together again.

A role tells which axes of a tensor follow the batch, the heads, the queries or the keys. `take`
cuts out what one place of the computation needs, `put` adds what it made; the two are adjoint, so
a tensor's cotangent has the role of the tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.attention.blockwise.schedule import BlockGroup


@dataclass(frozen=True, eq=False)
class BlockSlice:
    """One group of blocks, for one row of the batch and some heads of keys.

    Blocks have the axes ``[blocks, heads, width, dim]``. Where a group has a single block, the
    first axis runs over heads of keys instead, so that small groups make larger products.

    Args:
        row: Of the batch.
        kv_heads: Heads of keys and values; several only where the group has a single block.
        heads: The query heads that share them.
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
        """Undo `fold`."""
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

    def places(
        self, groups: Iterable[BlockGroup], device: torch.device, *, fold_heads: bool
    ) -> Iterator[BlockSlice]:
        """Walk over the groups, and for each over the batch and the heads of keys.

        Args:
            groups: The blocks.
            device: Where masks are wanted.
            fold_heads: Take several heads of keys at once where blocks are few and small.
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
    """How one tensor is cut and put together."""

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Cut out the block that a place needs."""
        ...

    def allocate(self, block: Tensor) -> Tensor:
        """Make the whole tensor, empty, of the kind of a block."""
        ...

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Put a block where `take` cut."""
        ...


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Choose the type of a sum over blocks: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class PerQuery:
    """``[batch, heads, queries, dim]`` in blocks ``[blocks, heads, queries, dim]``.

    Args:
        sizes: Sizes.
        fill: Value for queries in no block; None where there is no such query.
    """

    sizes: AttentionShape
    fill: float | None

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Cut out; axes of size 1 serve every row and head."""
        row = _row(tensor, place)
        block = place.group.queries.take(row if row.shape[0] == 1 else row[place.heads])
        return place.fold(block)

    def allocate(self, block: Tensor) -> Tensor:
        """Make ``[batch, heads, queries, dim]``."""
        size = self.sizes
        shape = (size.batch, size.heads, size.queries, block.shape[-1])
        return block.new_empty(shape) if self.fill is None else block.new_full(shape, self.fill)

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Write: each query belongs to one block of a term."""
        place.group.queries.write(total[place.row, place.heads], place.unfold(block))


@dataclass(frozen=True)
class PerKey:
    """``[batch, kv_heads, keys, dim]`` in blocks ``[blocks, 1, keys, dim]``."""

    sizes: AttentionShape

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Cut out; axes of size 1 serve every row and head."""
        row = _row(tensor, place)
        block = place.group.keys.take(row if row.shape[0] == 1 else row[place.kv_heads])
        return place.fold(block)

    def allocate(self, block: Tensor) -> Tensor:
        """Make ``[batch, kv_heads, keys, dim]`` of zeros."""
        size = self.sizes
        shape = (size.batch, size.kv_heads, size.keys, block.shape[-1])
        return block.new_zeros(shape, dtype=_wide(block.dtype))

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Add: blocks of keys overlap."""
        place.group.keys.add(total[place.row, place.kv_heads], place.unfold(block))


@dataclass(frozen=True)
class PerHead:
    """``[heads or 1, ...]``, given to every block: what a score or a bias has learned.

    Args:
        num_heads: First axis.
    """

    num_heads: int

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Cut out the heads."""
        return tensor if self.num_heads == 1 else tensor[place.heads]

    def allocate(self, block: Tensor) -> Tensor:
        """Make the whole tensor of zeros."""
        shape = (self.num_heads, *block.shape[1:])
        return block.new_zeros(shape, dtype=_wide(block.dtype))

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Add over all places."""
        (total if self.num_heads == 1 else total[place.heads]).add_(block)


@dataclass(frozen=True)
class PerPair:
    """``[batch or 1, heads or 1, queries, keys]`` in blocks ``[blocks, heads, queries, keys]``.

    Args:
        shape: Of the whole.
    """

    shape: tuple[int, ...]

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Gather."""
        queries, keys = self._index(place, tensor.device)
        return place.fold(self._heads(tensor, place)[:, queries, keys].transpose(0, 1))

    def allocate(self, block: Tensor) -> Tensor:
        """Make the whole tensor of zeros."""
        return block.new_zeros(self.shape, dtype=_wide(block.dtype))

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Add."""
        queries, keys = self._index(place, total.device)
        heads = self._heads(total, place)
        every = torch.arange(heads.shape[0], device=total.device)[:, None, None, None]
        blocks = place.unfold(block).transpose(0, 1)
        heads.index_put_((every, queries, keys), blocks, accumulate=True)

    def _heads(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        row = _row(tensor, place)
        return row if self.shape[1] == 1 else row[place.heads]

    def _index(self, place: BlockSlice, device: torch.device) -> tuple[Tensor, Tensor]:
        queries = place.group.queries.positions(device)[:, :, None]
        return queries, place.group.keys.positions(device)[:, None, :]


@dataclass(frozen=True)
class PerRow:
    """``[batch]`` numbers that no derivative is taken of, such as lengths."""

    def take(self, tensor: Tensor, place: BlockSlice) -> Tensor:
        """Cut out one number."""
        return tensor[place.row]

    def allocate(self, block: Tensor) -> Tensor:
        """Refuse: it is never an output."""
        raise AssertionError("a number a row has no derivative")

    def put(self, total: Tensor, block: Tensor, place: BlockSlice) -> None:
        """Refuse: it is never an output."""
        raise AssertionError("a number a row has no derivative")


def _row(tensor: Tensor, place: BlockSlice) -> Tensor:
    return tensor[0] if tensor.shape[0] == 1 else tensor[place.row]
