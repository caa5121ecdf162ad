"""What a pattern costs: its pairs counted exactly, its arithmetic and its memory traffic.

Counting never builds the n x m matrix. One term without key sets and block tables is counted by
a formula for each query, O(n); the others visit the candidates of their terms
(`mask_algebra.py`), so the work is about linear in the number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
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


class PairCount(NamedTuple):
    """Pairs of a query and a key.

    Args:
        attended: That contribute to an output.
        scored: Whose score is computed; more where scores decide.
    """

    attended: int
    scored: int


def count_pairs(terms: Sequence[MaskTerm], num_queries: int, num_keys: int) -> int:
    """Count the pairs that at least one term allows, each once.

    Args:
        terms: The disjunction.
        num_queries: Queries at positions 0, 1, ...
        num_keys: Keys at positions 0, 1, ...

    Returns:
        The exact number of pairs.

    >>> from regard.attention.patterns.mask_algebra import MaskTerm
    >>> count_pairs([MaskTerm(before=1, after=0)], 4, 4)
    7
    """
    by_formula = [term for term in terms if (term.keys, term.blocks) == (None, ())]
    counts = [_count_by_formula(term, num_queries, num_keys) for term in by_formula]
    total = max(counts, default=0)
    done = [by_formula[counts.index(total)]] if by_formula else []
    for term in terms:
        if term not in done:
            total += _count_by_walk(term, num_queries, num_keys, done)
            done.append(term)
    return total


def _count_by_formula(term: MaskTerm, num_queries: int, num_keys: int) -> int:
    """Count the keys of each query: multiples of the stride inside the band."""
    rows = _rows(term, num_queries)
    first = torch.zeros_like(rows) if term.before is None else (rows - term.before).clamp(0)
    last = torch.full_like(rows, num_keys - 1)
    if term.after is not None:
        last = torch.minimum(last, rows + term.after)
    # Offsets d with first <= i + d stride <= last: from ceil to floor.
    highest = (last - rows).div(term.stride, rounding_mode="floor")  # [queries]
    lowest = -(rows - first).div(term.stride, rounding_mode="floor")
    return int((highest - lowest + 1).clamp(0).sum())


def _count_by_walk(
    term: MaskTerm, num_queries: int, num_keys: int, done: Sequence[MaskTerm]
) -> int:
    """Count the pairs of a term that no term in `done` has counted."""
    rows = _rows(term, num_queries)
    groups: Sequence[Tensor] = [rows]
    if term.blocks:  # each group inside one row of the first table
        _, sizes = (rows // term.blocks[0].size).unique_consecutive(return_counts=True)
        groups = rows.split(sizes.tolist())
    total = 0
    for chunk in (chunk for group in groups if len(group) for chunk in group.split(_ROWS)):
        queries, keys = chunk[:, None], _candidates(term, chunk, num_keys)
        allowed = term.allowed(queries, keys) & (keys >= 0) & (keys < num_keys)  # [queries, keys]
        for earlier in done:
            allowed &= ~earlier.allowed(queries, keys)
        total += int(allowed.sum())
    return total


def _rows(term: MaskTerm, num_queries: int) -> Tensor:
    """Return the queries that a term allows, ``[queries]``."""
    if term.queries is None:
        return torch.arange(num_queries, device="cpu")
    members = torch.tensor(term.queries, dtype=torch.long, device="cpu")
    return members[members < num_queries]


def _candidates(term: MaskTerm, rows: Tensor, num_keys: int) -> Tensor:
    """Return keys that may be allowed for these queries, ``[1, width]`` or ``[queries, width]``."""
    first, last = int(rows[0]), int(rows[-1])
    lowest = 0 if term.before is None else max(first - term.before, 0)
    highest = num_keys - 1 if term.after is None else min(last + term.after, num_keys - 1)
    if term.keys is not None:
        keys = torch.tensor(term.keys, dtype=torch.long, device="cpu")
    elif term.blocks:
        table = term.blocks[0]
        row = first // table.size
        flags = table.mask[row] if row < len(table.mask) else ()
        allowed = [column for column, flag in enumerate(flags) if flag]
        columns = torch.tensor(allowed, dtype=torch.long, device="cpu")
        keys = (columns[:, None] * table.size + torch.arange(table.size, device="cpu")).flatten()
    else:  # multiples of the stride, inside the band
        begin = lowest - last if term.before is None else max(lowest - last, -term.before)
        end = highest - first if term.after is None else min(highest - first, term.after)
        first_step = -(-begin // term.stride)
        last_step = max(end // term.stride + 1, first_step)
        steps = torch.arange(first_step, last_step, device="cpu")
        return rows[:, None] + steps * term.stride  # [queries, width]
    return keys[(keys >= lowest) & (keys <= highest)][None, :]
