"""A pattern as FlexAttention takes it: a table of blocks, and a predicate of pairs within them.

The tables are made from the terms of the pattern, without the matrix of pairs: a block of queries
and keys is skipped, computed pair by pair, or computed whole. Cost: a few numbers a block, once for
each pattern and length; tables and numbers of the last ones stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.attention.patterns.mask_algebra import MaskTerm

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

PairMask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Returns whether a pair may attend, from the indices of row, head, query and key."""
_SMALLEST_BLOCK = 128  # of queries and of keys: the smallest that FlexAttention takes
_MOST_BLOCKS = 2048  # along one side of a table
_MOST = 1 << 30  # represents every larger distance; sums of two stay within 32 bits


class MaskSizes(NamedTuple):
    """Numbers of queries and of keys, and the position of query 0."""

    queries: int
    keys: int
    offset: int

    @property
    def block(self) -> int:
        """Queries and keys of a block."""
        block = _SMALLEST_BLOCK
        while max(self.queries, self.keys) > _MOST_BLOCKS * block:
            block *= 2
        return block


def block_mask(
    terms: tuple[MaskTerm, ...], sizes: MaskSizes, masks: Sequence[PairMask], device: torch.device
) -> BlockMask:
    """Return which pairs a call allows.

    Args:
        terms: Terms of the pattern.
        sizes: Numbers of queries and keys.
        masks: What else must allow a pair; no block is whole where there is one.
        device: Of the queries.
    """
    from torch.nn.attention.flex_attention import BlockMask

    tables = _tables_on_device(terms, sizes, bool(masks), device)
    pattern = _pattern_mask(terms, sizes, device)
    return BlockMask(
        seq_lengths=(sizes.queries, sizes.keys),
        kv_num_blocks=tables[0],
        kv_indices=tables[1],
        full_kv_num_blocks=tables[2],
        full_kv_indices=tables[3],
        q_num_blocks=tables[4],
        q_indices=tables[5],
        full_q_num_blocks=tables[6],
        full_q_indices=tables[7],
        BLOCK_SIZE=(sizes.block, sizes.block),
        mask_mod=_all_of((pattern, *masks)),
    )


def block_tables(
    terms: Sequence[MaskTerm], sizes: MaskSizes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which blocks a pattern touches, and of which it allows all pairs.

    Args:
        terms: Terms of the pattern.
        sizes: Query i is at position ``i + offset``, key j at position j.

    Returns:
        ``[blocks of queries, blocks of keys]`` each. The first may have a block without an allowed
        pair; the second has none with a forbidden one, and may miss some.
    """
    queries = _Ranges.cut(sizes.offset, sizes.queries, sizes.block, axis=0)
    keys = _Ranges.cut(0, sizes.keys, sizes.block, axis=1)
    touched = np.zeros((queries.first.size, keys.first.size), dtype=bool)
    whole = touched
    for term in terms:
        some, every = _by_distance(term, queries, keys)
        for ranges, positions in ((queries, term.queries), (keys, term.keys)):
            if positions is not None:
                counts = ranges.count_in(positions)
                some, every = some & (counts > 0), every & (counts == ranges.size)
        for table in term.blocks:
            padded = _padded(table.mask, table.size, sizes)
            has_some, has_all = _by_table(padded, table.size, queries, keys)
            some, every = some & has_some, every & has_all
        touched, whole = touched | some, whole | every
    return touched, whole


class _Ranges(NamedTuple):
    """First and last positions of blocks, ``[blocks, 1]`` or ``[1, blocks]``."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @staticmethod
    def cut(start: int, length: int, block: int, *, axis: int) -> _Ranges:
        """Cut the positions from `start` on in blocks, which lie along an axis of a table."""
        first = start + np.arange(0, length, block, dtype=np.int64)
        last = np.minimum(first + block, start + length) - 1
        shape = (-1, 1) if axis == 0 else (1, -1)
        return _Ranges(first.reshape(shape), last.reshape(shape))

    @property
    def size(self) -> NDArray[np.int64]:
        """Positions in each."""
        return self.last - self.first + 1

    def count_in(self, positions: Sequence[int]) -> NDArray[np.int64]:
        """Count the sorted positions in each."""
        ends = np.searchsorted(positions, self.last, "right")
        return ends - np.searchsorted(positions, self.first)


def _by_distance(
    term: MaskTerm, queries: _Ranges, keys: _Ranges
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the blocks of which band and stride allow a pair, and those of which all pairs."""
    least, most = keys.first - queries.last, keys.last - queries.first  # of the distance j - i
    low = least if term.before is None else np.maximum(least, -term.before)
    high = most if term.after is None else np.minimum(most, term.after)
    some = high // term.stride * term.stride >= low
    every = (low == least) & (high == most) & (term.stride == 1)
    return some, every


def _by_table(
    table: NDArray[np.bool_], size: int, queries: _Ranges, keys: _Ranges
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the blocks in which a table of cells of `size` has a cell, and those with all."""
    sums = np.pad(table.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # over all cells before
    top, bottom = queries.first // size, queries.last // size + 1
    left, right = keys.first // size, keys.last // size + 1
    counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return counts > 0, counts == (bottom - top) * (right - left)


def _padded(mask: Sequence[Sequence[bool]], size: int, sizes: MaskSizes) -> NDArray[np.bool_]:
    """Return a table that has a cell for every pair; beyond its own cells, False."""
    rows, columns = -(-(sizes.offset + sizes.queries) // size), -(-sizes.keys // size)
    padded = np.zeros((max(rows, len(mask)), max(columns, len(mask[0]))), dtype=bool)
    padded[: len(mask), : len(mask[0])] = mask
    return padded


@lru_cache(maxsize=64)
def _tables_on_device(
    terms: tuple[MaskTerm, ...], sizes: MaskSizes, has_masks: bool, device: torch.device
) -> tuple[Tensor, ...]:
    """Return numbers ``[1, 1, rows]`` and indices ``[1, 1, rows, columns]`` of blocks, four times.

    Those of keys to compute by pairs, and whole, for each block of queries, and then the reverse.
    """
    touched, whole = block_tables(terms, sizes)
    if has_masks:
        whole = np.zeros_like(whole)
    by_pairs = touched & ~whole
    lists = [_list(table) for table in (by_pairs, whole, by_pairs.T, whole.T)]
    return tuple(_to_device(array[None, None], device) for pair in lists for array in pair)


def _list(table: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return how many columns each row has, and first which they are."""
    order = np.argsort(~table, axis=1, kind="stable")
    return table.sum(1).astype(np.int32), order.astype(np.int32)


def _to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array that is cached: not into the memory of ``torch.inference_mode``."""
    with torch.inference_mode(False):
        return torch.from_numpy(array.copy()).to(device, non_blocking=True)


@lru_cache(maxsize=64)
def _pattern_mask(terms: tuple[MaskTerm, ...], sizes: MaskSizes, device: torch.device) -> PairMask:
    """Return which pairs a pattern allows."""
    masks = [_term_mask(term, sizes, device) for term in terms]
    if len(masks) == 1:
        return masks[0]

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        result = i < 0
        for mask in masks:
            result = result | mask(b, h, i, j)
        return result

    return allowed


def _term_mask(term: MaskTerm, sizes: MaskSizes, device: torch.device) -> PairMask:
    """Return which pairs a term allows.

    Its numbers are tensors, so that other numbers and lengths need no other compiled kernel.
    """

    def number(value: int) -> Tensor:
        return _to_device(np.array(min(value, _MOST), dtype=np.int32), device)

    masks = []
    if term.before is not None:
        first = number(min(term.before, _MOST) - sizes.offset)
        masks.append(lambda b, h, i, j: i - j <= first)  # noqa: ARG005
    if term.after is not None:
        last = number(min(term.after, _MOST) + sizes.offset)
        masks.append(lambda b, h, i, j: j - i <= last)  # noqa: ARG005
    if term.stride > 1:
        stride, offset = number(term.stride), number(sizes.offset)
        masks.append(lambda b, h, i, j: (i + offset - j) % stride == 0)  # noqa: ARG005
    masks += _position_masks(term, sizes, device)
    for table in term.blocks:
        padded = _to_device(_padded(table.mask, table.size, sizes), device)
        masks.append(_table_mask(padded, number(table.size), number(sizes.offset)))
    return _all_of(masks)


def _position_masks(term: MaskTerm, sizes: MaskSizes, device: torch.device) -> list[PairMask]:
    """Return what the sets of positions of a term allow."""
    masks = []
    if term.queries is not None:
        is_query = _members(term.queries, sizes.offset, sizes.queries, device)
        masks.append(lambda b, h, i, j: is_query[i])  # noqa: ARG005
    if term.keys is not None:
        is_key = _members(term.keys, 0, sizes.keys, device)
        masks.append(lambda b, h, i, j: is_key[j])  # noqa: ARG005
    return masks


def _table_mask(table: Tensor, size: Tensor, offset: Tensor) -> PairMask:
    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:  # noqa: ARG001
        return table[(i + offset) // size, j // size]

    return allowed


def _members(positions: Sequence[int], first: int, number: int, device: torch.device) -> Tensor:
    """Return which of `number` positions from `first` on belong to a set."""
    return _to_device(np.isin(np.arange(first, first + number), positions), device)


def _all_of(masks: Sequence[PairMask]) -> PairMask:
    if len(masks) == 1:
        return masks[0]

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        result = j >= 0
        for mask in masks:
            result = result & mask(b, h, i, j)
        return result

    return allowed
