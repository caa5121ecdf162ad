"""A sum over shards whose bits do not depend on the number of processes.

Floating-point sums depend on their order. Here it is a fixed binary tree over the shards: two
neighbouring blocks of the same size are added as soon as both are complete, if the first begins at
a multiple of twice that size, like the carries of a binary counter; what remains is added from left
to right. A process adds the blocks that lie within its own shards; the processes then exchange
these blocks, at most a few each, and all add them in the same way.

Cost: a process keeps up to log2(shards) copies of the tensors, and receives the blocks of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from regard.optim.foreach import foreach_add_
from regard.training.distribution import World
from regard.training.shards import own_shards

Terms: TypeAlias = list[Tensor | None]
"""Tensors to be summed one by one; None adds nothing."""

_BUCKET = 1 << 20  # numbers of a block that are exchanged at once


class _Block(NamedTuple):
    """The sum of `size` shards from `start` on, a power of two that divides `start`."""

    start: int
    size: int
    terms: Terms


def _add(first: Terms, second: Terms) -> Terms:
    """Add in place, tensor by tensor; where one of the two is None, take the other."""
    if not first or not second:
        return first or second
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if both:
        foreach_add_([a for a, _ in both], [b for _, b in both])
    return [b if a is None else a for a, b in zip(first, second, strict=True)]


def _push(blocks: list[_Block], block: _Block) -> None:
    """Append a block, and add it to those before it as far as the tree allows."""
    while blocks:
        last = blocks[-1]
        if last.size != block.size or last.start % (2 * last.size):
            break
        blocks.pop()
        block = _Block(last.start, 2 * last.size, _add(last.terms, block.terms))
    blocks.append(block)


def block_sizes(shards: Iterable[int]) -> list[tuple[int, int]]:
    """Return start and size of the blocks that a process has after its shards, left to right.

    >>> block_sizes(range(6, 12))
    [(6, 2), (8, 4)]
    """
    blocks: list[_Block] = []
    for shard in shards:
        _push(blocks, _Block(shard, 1, []))
    return [(block.start, block.size) for block in blocks]


class TreeSum:
    """Sums tensors over the shards of all processes.

    Args:
        world: The processes.
        num_shards: Shards of all together.
        shard_of: Returns the shard of a part by its index; None where parts are whole shards.
    """

    def __init__(
        self, world: World, num_shards: int, shard_of: Callable[[int], int] | None = None
    ) -> None:
        self._world, self._shard_of = world, shard_of
        self._own = own_shards(num_shards, world)
        self._layout = [
            block_sizes(own_shards(num_shards, World(rank=rank, size=world.size)))
            for rank in range(world.size)
        ]
        self._blocks: list[_Block] = []
        self._next = self._own.start  # first shard that is not in a block
        self._open: Terms | None = None  # sum of the parts of that shard so far

    def add(self, index: int, terms: Terms) -> None:
        """Add the tensors of a part of a shard, in the order of shards; they are changed in place.

        Args:
            index: Index of the part, or of the shard; not below that of the last call.
            terms: The tensors, the same number in every call.
        """
        shard = index if self._shard_of is None else self._shard_of(index)
        assert shard in self._own
        assert shard >= self._next
        while self._next < shard:
            self._close()
        self._open = terms if self._open is None else _add(self._open, terms)

    def total(self, templates: Sequence[Tensor]) -> Terms:
        """Return the sum over all shards of all processes, and begin a new one.

        Args:
            templates: Tensors of the shapes, types and devices of the terms.

        Returns:
            The same bits on every process; None where no shard had a term.
        """
        while self._next < self._own.stop:
            self._close()
        own = [block.terms or [None] * len(templates) for block in self._blocks]
        self._blocks, self._next = [], self._own.start
        if self._world.size == 1:
            return self._combine([own])
        has_terms = self._world.gather([[t is not None for t in terms] for terms in own])
        totals: Terms = [None] * len(templates)
        for indices in _buckets(templates):
            parts = self._exchange(own, has_terms, templates, indices)
            for index, total in zip(indices, self._combine(parts), strict=True):
                totals[index] = total
        return totals

    def _close(self) -> None:
        _push(self._blocks, _Block(self._next, 1, self._open or []))
        self._open, self._next = None, self._next + 1

    def _combine(self, parts: Sequence[Sequence[Terms]]) -> Terms:
        """Return the sum of the blocks of every process, ``[processes][blocks]``."""
        blocks: list[_Block] = []
        for sizes, block_terms in zip(self._layout, parts, strict=True):
            for (start, size), terms in zip(sizes, block_terms, strict=True):
                _push(blocks, _Block(start, size, terms))
        total, *rest = blocks
        terms = total.terms
        for block in rest:
            terms = _add(terms, block.terms)
        return terms

    def _exchange(
        self,
        own: list[Terms],
        has_terms: list[list[list[bool]]],
        templates: Sequence[Tensor],
        indices: Sequence[int],
    ) -> list[list[Terms]]:
        """Return some terms of the blocks of every process, ``[processes][blocks][terms]``."""
        bucket = [templates[index] for index in indices]
        sizes = [template.numel() for template in bucket]
        width = max(map(len, self._layout))
        sent = bucket[0].new_zeros(width, sum(sizes))
        for row, terms in zip(sent, own, strict=False):
            for part, index in zip(row.split(sizes), indices, strict=True):
                if (term := terms[index]) is not None:
                    part.copy_(term.reshape(-1))
        received = [torch.empty_like(sent) for _ in range(self._world.size)]
        dist.all_gather(received, sent, group=self._world.group_of(sent))
        return [
            [
                [
                    part.view(template.shape) if has_term[index] else None
                    for part, index, template in zip(row.split(sizes), indices, bucket, strict=True)
                ]
                for row, has_term in zip(rows, block_flags, strict=False)
            ]
            for rows, block_flags in zip(received, has_terms, strict=True)
        ]


def _buckets(templates: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the indices of tensors of one type and device, about `_BUCKET` numbers at a time."""
    kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for index, template in enumerate(templates):
        kinds.setdefault((template.dtype, template.device), []).append(index)
    for indices in kinds.values():
        bucket: list[int] = []
        size = 0
        for index in indices:
            bucket.append(index)
            size += templates[index].numel()
            if size >= _BUCKET:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket
