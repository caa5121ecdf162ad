"""What a pattern costs: its pairs counted exactly, its arithmetic and its memory traffic.

Counting never builds the n x m matrix. One term without key sets and block tables is counted by
a formula for each query, O(n); the others visit the candidates of their terms (see `term`), so
the work is about linear in the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.patterns.mask_algebra import MaskTerm

_ROWS = 128  # queries visited at once: bounds the memory of the walk


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass of one head over one row.

    Args:
        pairs: Pairs that attend.
        flops: Floating-point operations of the two matrix products.
        bytes: Bytes read and written when q, k, v are read once and the output is written once.
    """

    pairs: int
    flops: int
    bytes: int

    @classmethod
    def of(
        cls, pairs: int, queries: int, keys: int, *, dim: int, value_dim: int | None, itemsize: int
    ) -> Cost:
        """Cost of `pairs` scored pairs: ``2 * pairs * (dim + value_dim)`` operations.

        Args:
            pairs: Pairs scored.
            queries: Number of queries.
            keys: Number of keys.
            dim: Size of a query and of a key.
            value_dim: Size of a value; None for `dim`.
            itemsize: Bytes of a number, 4 for float32.

        Returns:
            The cost.
        """
        width = dim + (dim if value_dim is None else value_dim)
        return cls(pairs, 2 * pairs * width, itemsize * (queries + keys) * width)


def count_pairs(terms: Sequence[MaskTerm], num_queries: int, num_keys: int) -> int:
    """Count the pairs that at least one term allows, each once.

    Args:
        terms: The disjunction.
        num_queries: Queries at positions 0, 1, ...
        num_keys: Keys at positions 0, 1, ...

    Returns:
        The exact number of pairs.

    >>> count_pairs([MaskTerm(before=1, after=0)], 4, 4)
    7
    """
    queries = torch.arange(num_queries)
    by_formula = [term for term in terms if term.keys is None and not term.blocks]
    counts = [_count_by_formula(term, num_queries, num_keys) for term in by_formula]
    total = max(counts, default=0)
    done = [by_formula[counts.index(total)]] if by_formula else []
    for term in terms:
        if term not in done:
            total += _count_by_walk(term, queries, num_keys, done)
            done.append(term)
    return total


def _count_by_formula(term: MaskTerm, num_queries: int, num_keys: int) -> int:
    """Count the keys of each query: multiples of the stride inside the band."""
    rows = _rows(term, torch.arange(num_queries))
    first = torch.zeros_like(rows) if term.before is None else (rows - term.before).clamp(0)
    last = torch.full_like(rows, num_keys - 1)
    if term.after is not None:
        last = torch.minimum(last, rows + term.after)
    # Offsets d with first <= i + d stride <= last: from ceil to floor.
    highest = (last - rows).div(term.stride, rounding_mode="floor")
    lowest = -(rows - first).div(term.stride, rounding_mode="floor")
    return int((highest - lowest + 1).clamp(0).sum())


def _count_by_walk(term: MaskTerm, queries: Tensor, num_keys: int, done: Sequence[MaskTerm]) -> int:
    """Count the pairs of a term that no term in `done` has counted."""
    total = 0
    for rows in _chunks(term, queries):
        keys = _candidates(term, rows, num_keys)
        allowed = term.allowed(rows[:, None], keys) & (keys >= 0) & (keys < num_keys)
        for other in done:
            allowed &= ~other.allowed(rows[:, None], keys)
        total += int(allowed.sum())
    return total


def _rows(term: MaskTerm, queries: Tensor) -> Tensor:
    """List the queries a term allows, out of 0, 1, ..., len(queries) - 1."""
    if term.queries is None:
        return queries
    members = torch.tensor(term.queries, dtype=torch.long)
    return members[members < len(queries)]


def _chunks(term: MaskTerm, queries: Tensor) -> Iterator[Tensor]:
    """Split a term's queries into short runs, each inside one row of its first block table."""
    rows = _rows(term, queries)
    groups: Sequence[Tensor] = [rows]
    if term.blocks:
        _, sizes = (rows // term.blocks[0].size).unique_consecutive(return_counts=True)
        groups = rows.split(sizes.tolist())
    for group in groups:
        if len(group):
            yield from group.split(_ROWS)


def _candidates(term: MaskTerm, rows: Tensor, num_keys: int) -> Tensor:
    """Key positions that may be allowed for these queries: ``[1, width]`` or ``[rows, width]``."""
    first, last = int(rows[0]), int(rows[-1])
    lowest = 0 if term.before is None else max(first - term.before, 0)
    highest = num_keys - 1 if term.after is None else min(last + term.after, num_keys - 1)
    if term.keys is not None:
        keys = torch.tensor(term.keys, dtype=torch.long)
    elif term.blocks:
        keys = _keys_of_block_row(term, first)
    else:
        return rows[:, None] + _offsets(term, lowest - last, highest - first)
    return keys[(keys >= lowest) & (keys <= highest)][None, :]


def _keys_of_block_row(term: MaskTerm, query: int) -> Tensor:
    table = term.blocks[0]
    row = query // table.size
    flags = table.mask[row] if row < len(table.mask) else ()
    blocks = torch.tensor([block for block, flag in enumerate(flags) if flag], dtype=torch.long)
    return (blocks[:, None] * table.size + torch.arange(table.size)).flatten()


def _offsets(term: MaskTerm, lowest: int, highest: int) -> Tensor:
    """Multiples of the stride between two offsets, inside the band."""
    lowest = lowest if term.before is None else max(lowest, -term.before)
    highest = highest if term.after is None else min(highest, term.after)
    first = -(-lowest // term.stride)
    return torch.arange(first, max(highest // term.stride, first - 1) + 1) * term.stride
