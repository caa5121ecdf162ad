"""Which blocks of queries meet which blocks of keys: the work list of blockwise attention.

Each term of a pattern is planned by its most selective structure: block tables, key positions,
query positions, stride, and last the band. A group is a batch of equally shaped blocks; within one,
pairs that the term does not allow, or an earlier term has had, are masked. The number of pairs
visited is within a small factor of the number allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

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
        keys: As many blocks of keys.
        term: What it computes the pairs of.
        earlier: Clauses whose pairs others compute.
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
        """Tell which pairs are this group's.

        Returns:
            Boolean, ``[blocks or 1, 1, queries, keys]``; None where all are.
        """
        if self._is_uniform and not torch._C._are_functorch_transforms_active():
            return _kept_mask(self, device)
        return self.build_mask(device)

    def build_mask(self, device: torch.device) -> Tensor | None:
        """Build what `mask` returns."""
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


@lru_cache(maxsize=64)
def _kept_mask(group: BlockGroup, device: torch.device) -> Tensor | None:
    """Keep the mask of a group whose blocks share one: it is small, and needed every time."""
    return group.build_mask(device)


@lru_cache(maxsize=64)
def plan_blocks(
    terms: tuple[MaskTerm, ...], num_queries: int, num_keys: int, offset: int
) -> tuple[tuple[BlockGroup, ...], ...]:
    """Plan every term of a pattern.

    Args:
        terms: From ``pattern.terms()``.
        num_queries: Query i stands at position ``i + offset``.
        num_keys: Key j stands at position j.
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


@dataclass(frozen=True)
class _Size:
    queries: int
    keys: int
    offset: int


_Blocks = Iterator[tuple[BlockIndices, BlockIndices]]
_T = TypeVar("_T")


def _pieces(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
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
    rows = _choose_rows(term.before + term.after + 1)
    width = term.before + term.after + rows
    # Inner rows have their whole window within the keys.
    first = min(size.queries, max(0, term.before - size.offset))
    last = min(size.queries, size.keys - term.after - size.offset)
    num_inner = max(0, last - first) // rows
    together = _even_share(num_inner, max(1, _PAIRS // (rows * width)))
    edge = max(rows, min(_MOST_ROWS, term.before + term.after))
    yield from _edge(term, size, range(first), edge)
    for block in range(0, num_inner, max(1, together)):
        count, row = min(together, num_inner - block), first + block * rows
        begin = row + size.offset - term.before
        yield StridedBlocks(row, rows, count, rows), StridedBlocks(begin, width, count, rows)
    yield from _edge(term, size, range(first + num_inner * rows, size.queries), edge)


def _even_share(count: int, most: int) -> int:
    """Choose the size of equal pieces of at most `most`."""
    return -(-count // max(1, -(-count // most)))


def _edge(term: MaskTerm, size: _Size, queries: range, rows: int) -> _Blocks:
    """Cut a range of queries in rows, each with the keys it may see and no more."""
    for first in queries[::rows]:
        last = min(first + rows, queries.stop)
        begin, end = _band_keys(term, size, first, last)
        if begin < end:
            yield StridedBlocks(first, last - first), StridedBlocks(begin, end - begin)


def _choose_rows(window: int) -> int:
    """Choose how many queries share a window: few waste little, many multiply faster."""
    rows = 32
    while rows < 128 and rows * 4 < window:
        rows *= 2
    return rows


def _band_keys(term: MaskTerm, size: _Size, first: int, last: int) -> tuple[int, int]:
    """Return the range of keys that queries first to last - 1 may see."""
    begin, end = 0, size.keys
    if term.before is not None:
        begin = max(begin, first + size.offset - term.before)
    if term.after is not None:
        end = min(end, last + size.offset + term.after)
    return begin, end


def _from_keys(term: MaskTerm, keys: Sequence[int], size: _Size) -> _Blocks:
    """Meet the listed keys with all queries, or with the listed ones."""
    inside = [key for key in keys if key < size.keys]
    if not inside:
        return
    index = np.array([inside])
    rows = max(16, min(_MOST_ROWS, _PAIRS // len(inside)))
    if term.queries is not None:
        for chunk in _pieces(_inside(term.queries, size), rows):
            yield IndexedBlocks(np.array([chunk])), IndexedBlocks(index)
        return
    for first in range(0, size.queries, rows):
        yield StridedBlocks(first, min(rows, size.queries - first)), IndexedBlocks(index)


def _inside(queries: Sequence[int], size: _Size) -> list[int]:
    """Turn query positions into row numbers, those that exist."""
    rows = (position - size.offset for position in queries)
    return [row for row in rows if 0 <= row < size.queries]


def _from_queries(term: MaskTerm, queries: Sequence[int], size: _Size) -> _Blocks:
    """Meet the listed queries with the keys of their band."""
    rows = max(1, min(_MOST_ROWS, _PAIRS // max(1, size.keys)))
    for chunk in _pieces(_inside(queries, size), rows):
        begin, end = _band_keys(term, size, chunk[0], chunk[-1] + 1)
        if begin < end:
            yield IndexedBlocks(np.array([chunk])), StridedBlocks(begin, end - begin)


@dataclass(frozen=True)
class _Residue:
    """Every stride-th query and key that fit each other: the subsequences of one residue."""

    first_query: int
    first_key: int
    num_queries: int
    num_keys: int
    shift: int  # of the first query, in strides from the first key

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.num_queries, self.num_keys, self.shift


def _from_stride(term: MaskTerm, size: _Size) -> _Blocks:
    """Meet queries and keys of equal residue; residues of equal shape are blocks of one group."""
    stride = term.stride
    residues = []
    for residue in range(min(stride, size.keys)):
        first = (residue - size.offset) % stride
        if first < size.queries:
            residues.append(
                _Residue(
                    first_query=first,
                    first_key=residue,
                    num_queries=-(-(size.queries - first) // stride),
                    num_keys=-(-(size.keys - residue) // stride),
                    shift=(first + size.offset) // stride,
                )
            )
    residues.sort(key=lambda r: r.shape)
    for _, alike in groupby(residues, key=lambda r: r.shape):
        yield from _residue_blocks(term, list(alike))


def _residue_blocks(term: MaskTerm, residues: list[_Residue]) -> _Blocks:
    """Cut subsequences of one shape in rows, as `_from_band` does, and put residues together."""
    one, stride = residues[0], term.stride
    band = MaskTerm(
        before=None if term.before is None else term.before // stride,
        after=None if term.after is None else term.after // stride,
    )
    size = _Size(one.num_queries, one.num_keys, one.shift)
    rows = min(_MOST_ROWS, size.queries, max(16, _PAIRS // max(1, size.keys)))
    first_queries = np.array([r.first_query for r in residues])
    first_keys = np.array([r.first_key for r in residues])
    for first in range(0, size.queries, rows):
        last = min(first + rows, size.queries)
        begin, end = _band_keys(band, size, first, last)
        if begin >= end:
            continue
        together = max(1, _PAIRS // ((last - first) * (end - begin)))
        queries = first_queries[:, None] + stride * np.arange(first, last)
        keys = first_keys[:, None] + stride * np.arange(begin, end)
        for start in range(0, len(residues), together):
            some = slice(start, start + together)
            yield IndexedBlocks(queries[some]), IndexedBlocks(keys[some])


def _from_table(table: BlockTable, size: _Size) -> _Blocks:
    """Meet each query block with the key blocks that its row of the table names."""
    found: list[tuple[range, list[int]]] = []
    for row, entries in enumerate(table.mask):
        begin = max(0, row * table.size - size.offset)
        end = min(size.queries, (row + 1) * table.size - size.offset)
        keys = [
            key
            for column, is_allowed in enumerate(entries)
            if is_allowed
            for key in range(column * table.size, min((column + 1) * table.size, size.keys))
        ]
        if begin < end and keys:
            found.append((range(begin, end), keys))
    found.sort(key=lambda pair: (len(pair[0]), len(pair[1])))
    for (rows, width), alike in groupby(found, key=lambda p: (len(p[0]), len(p[1]))):
        for some in _pieces(list(alike), max(1, _PAIRS // (rows * width))):
            yield (
                IndexedBlocks(np.array([q for q, _ in some])),
                IndexedBlocks(np.array([k for _, k in some])),
            )
