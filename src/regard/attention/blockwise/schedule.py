"""Which blocks of queries are paired with which blocks of keys: the plan of blockwise attention.

Each term of a pattern is planned by its most selective structure: block tables, key positions,
query positions, stride, and last the band. A group is a batch of equally shaped blocks; within one,
pairs that the term does not allow, or an earlier term has computed, are masked. The number of pairs
visited is within a small factor of the number allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from regard.attention.blockwise.block_indices import BlockIndices, IndexedBlocks, StridedBlocks
from regard.attention.patterns.mask_algebra import BlockTable, MaskTerm

_PAIRS = 1 << 20  # in a group, for one head: about what a processor's second-level cache holds
_MOST_ROWS = 512


@dataclass(frozen=True, eq=False)
class BlockGroup:
    """Blocks of queries, each with its block of keys.

    Args:
        queries: Blocks of queries; no two overlap.
        keys: The same number of blocks of keys.
        term: What it computes the pairs of.
        earlier: Terms whose pairs other groups compute.
        offset: Position of query 0.
    """

    queries: BlockIndices
    keys: BlockIndices
    term: MaskTerm
    earlier: tuple[MaskTerm, ...]
    offset: int

    def positions(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return query ``[blocks, 1, queries, 1]`` and key ``[blocks, 1, 1, keys]`` positions."""
        queries = self.queries.positions(device) + self.offset
        return queries[:, None, :, None], self.keys.positions(device)[:, None, None, :]

    def mask(self, device: torch.device) -> Tensor | None:
        """Return which pairs are this group's.

        The mask of a group whose blocks share one is cached: it is small, and needed every time.

        Returns:
            Boolean, ``[blocks or 1, 1, queries, keys]``; None where all are.
        """
        if self._is_uniform and not torch._C._are_functorch_transforms_active():
            return _build_mask_cached(self, device)
        return self.build_mask(device)

    def build_mask(self, device: torch.device) -> Tensor | None:
        """Build what `mask` returns, ``[blocks or 1, 1, queries, keys]``."""
        if self.term == MaskTerm() and not self.earlier:
            return None
        queries, keys = self.positions(device)
        if self._is_uniform:
            queries, keys = queries[:1], keys[:1]
        mask = self.term.allowed(queries, keys)
        for term in self.earlier:
            mask = mask & ~term.allowed(queries, keys)
        return None if bool(mask.all()) else mask

    def heads_together(self, repeats: int) -> int:
        """Choose how many heads of keys, each with `repeats` of queries, are computed at once."""
        if self.queries.num_blocks > 1:
            return 1
        return max(1, _PAIRS // (repeats * self.queries.width * self.keys.width))

    @property
    def _is_uniform(self) -> bool:
        """Whether all blocks have the same mask: bands, and windows that move in step."""
        queries, keys = self.queries, self.keys
        return (
            isinstance(queries, StridedBlocks)
            and isinstance(keys, StridedBlocks)
            and queries.num_blocks > 1
            and queries.step == keys.step
            and all(term.is_band for term in (self.term, *self.earlier))
        )


_build_mask_cached = lru_cache(maxsize=64)(BlockGroup.build_mask)


@lru_cache(maxsize=64)
def plan_blocks(
    terms: tuple[MaskTerm, ...], num_queries: int, num_keys: int, offset: int
) -> tuple[tuple[BlockGroup, ...], ...]:
    """Plan every term of a pattern.

    Args:
        terms: Terms from ``pattern.terms()``.
        num_queries: Query i is at position ``i + offset``.
        num_keys: Key j is at position j.
        offset: Position of query 0.

    Returns:
        The groups of each term. Every allowed pair belongs to exactly one group of one term.
    """
    size = _Size(num_queries, num_keys, offset)
    return tuple(
        tuple(
            BlockGroup(queries, keys, term, terms[:index], offset)
            for queries, keys in _blocks(term, size)
        )
        for index, term in enumerate(terms)
    )


class _Size(NamedTuple):
    queries: int
    keys: int
    offset: int  # of query 0 from key 0


_Blocks = Iterator[tuple[BlockIndices, BlockIndices]]
_T = TypeVar("_T")


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _blocks(term: MaskTerm, size: _Size) -> _Blocks:
    if term.blocks:
        return _from_table(term.blocks[0], size)
    if term.keys is not None:
        return _from_keys(term, term.keys, size)
    if term.queries is not None:
        return _from_queries(term, term.queries, size)
    if term.stride > 1:
        return _from_stride(term, size)
    return _from_band(term, size)


def _from_band(term: MaskTerm, size: _Size) -> _Blocks:
    """Cut the queries in rows of equal number; inner ones have windows that move in step."""
    if term.before is None or term.after is None:
        rows = max(32, min(_MOST_ROWS, _PAIRS // max(1, size.keys)))
        yield from _edge(term, size, range(size.queries), rows)
        return
    window = term.before + term.after + 1
    # Few queries with one window waste few pairs, many multiply faster.
    rows = 128 if window > 256 else 64 if window > 128 else 32
    width = window - 1 + rows
    # Inner rows have their whole window within the keys.
    first = min(size.queries, max(0, term.before - size.offset))
    last = min(size.queries, size.keys - term.after - size.offset)
    num_inner = max(0, last - first) // rows
    num_groups = -(-num_inner // max(1, _PAIRS // (rows * width)))
    together = -(-num_inner // max(1, num_groups))  # groups of about equal size
    edge = max(rows, min(_MOST_ROWS, window - 1))
    yield from _edge(term, size, range(first), edge)
    for block in range(0, num_inner, max(1, together)):
        count, row = min(together, num_inner - block), first + block * rows
        begin = row + size.offset - term.before
        yield StridedBlocks(row, rows, count, rows), StridedBlocks(begin, width, count, rows)
    yield from _edge(term, size, range(first + num_inner * rows, size.queries), edge)


def _edge(term: MaskTerm, size: _Size, queries: range, rows: int) -> _Blocks:
    """Cut a range of queries in rows, each with the keys it may see and no more."""
    for first in queries[::rows]:
        last = min(first + rows, queries.stop)
        begin, end = _band_keys(term, size, first, last)
        if begin < end:
            yield StridedBlocks(first, last - first), StridedBlocks(begin, end - begin)


def _band_keys(term: MaskTerm, size: _Size, first: int, last: int) -> tuple[int, int]:
    """Return the range of keys that queries first to last - 1 may see."""
    begin, end = 0, size.keys
    if term.before is not None:
        begin = max(begin, first + size.offset - term.before)
    if term.after is not None:
        end = min(end, last + size.offset + term.after)
    return begin, end


def _from_keys(term: MaskTerm, keys: Sequence[int], size: _Size) -> _Blocks:
    """Pair the listed keys with all queries, or with the listed ones."""
    inside = [key for key in keys if key < size.keys]
    if not inside:
        return
    index = np.array([inside])
    rows = max(16, min(_MOST_ROWS, _PAIRS // len(inside)))
    if term.queries is not None:
        for chunk in _chunks(_inside(term.queries, size), rows):
            yield IndexedBlocks(np.array([chunk])), IndexedBlocks(index)
        return
    for first in range(0, size.queries, rows):
        yield StridedBlocks(first, min(rows, size.queries - first)), IndexedBlocks(index)


def _from_queries(term: MaskTerm, queries: Sequence[int], size: _Size) -> _Blocks:
    """Pair the listed queries with the keys of their band."""
    rows = max(1, min(_MOST_ROWS, _PAIRS // max(1, size.keys)))
    for chunk in _chunks(_inside(queries, size), rows):
        begin, end = _band_keys(term, size, chunk[0], chunk[-1] + 1)
        if begin < end:
            yield IndexedBlocks(np.array([chunk])), StridedBlocks(begin, end - begin)


def _inside(queries: Sequence[int], size: _Size) -> list[int]:
    """Turn query positions into row numbers, those that exist."""
    rows = (position - size.offset for position in queries)
    return [row for row in rows if 0 <= row < size.queries]


def _from_stride(term: MaskTerm, size: _Size) -> _Blocks:
    """Pair queries and keys of equal residue; residues of equal sizes are blocks of one group."""
    stride = term.stride
    residues: dict[_Size, list[tuple[int, int]]] = {}  # first query and first key
    for key in range(min(stride, size.keys)):
        query = (key - size.offset) % stride
        if query < size.queries:
            sizes = _Size(
                queries=-(-(size.queries - query) // stride),
                keys=-(-(size.keys - key) // stride),
                offset=(query + size.offset) // stride,
            )
            residues.setdefault(sizes, []).append((query, key))
    band = MaskTerm(
        before=None if term.before is None else term.before // stride,
        after=None if term.after is None else term.after // stride,
    )
    for sizes in sorted(residues):  # cut in rows like the queries of a band
        rows = min(_MOST_ROWS, sizes.queries, max(16, _PAIRS // max(1, sizes.keys)))
        for first in range(0, sizes.queries, rows):
            last = min(first + rows, sizes.queries)
            begin, end = _band_keys(band, sizes, first, last)
            if begin >= end:
                continue
            for chunk in _chunks(
                residues[sizes], max(1, _PAIRS // ((last - first) * (end - begin)))
            ):
                starts = np.array(chunk)
                yield (
                    IndexedBlocks(starts[:, :1] + stride * np.arange(first, last)),
                    IndexedBlocks(starts[:, 1:] + stride * np.arange(begin, end)),
                )


def _from_table(table: BlockTable, size: _Size) -> _Blocks:
    """Pair each query block with the key blocks that its row of the table allows."""
    by_shape: dict[tuple[int, int], list[tuple[range, list[int]]]] = {}
    for row, cells in enumerate(table.mask):
        begin = max(0, row * table.size - size.offset)
        end = min(size.queries, (row + 1) * table.size - size.offset)
        columns = [column * table.size for column, is_allowed in enumerate(cells) if is_allowed]
        keys = [key for k in columns for key in range(k, min(k + table.size, size.keys))]
        if begin < end and keys:
            by_shape.setdefault((end - begin, len(keys)), []).append((range(begin, end), keys))
    for rows, width in sorted(by_shape):
        for chunk in _chunks(by_shape[rows, width], max(1, _PAIRS // (rows * width))):
            queries, keys = (np.array(positions) for positions in zip(*chunk, strict=True))
            yield IndexedBlocks(queries), IndexedBlocks(keys)
