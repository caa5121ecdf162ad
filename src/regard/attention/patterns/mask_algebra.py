"""A mask pattern as a disjunction of simple structures, from which its pairs are listed.

`pattern.allowed` answers whether a given pair may attend, but not where the pairs are. A `MaskTerm`
is a conjunction of a band, a stride, sets of positions and block tables, each of which lists its
candidates directly. Every mask pattern is an "or" over a few terms, so a planner that visits the
candidates of each term does work about linear in the number of allowed pairs.

``|`` concatenates terms and ``&`` multiplies them out (disjunctive normal form); `simplify` keeps
the list short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from regard.attention.exporting import is_exporting

Positions = tuple[int, ...]

FAR = 1 << 61
"""More than any position; sums of a few stay within 64 bits."""


class BlockTable(Protocol):
    """A table of blocks: the pair is allowed where ``mask[i // size][j // size]`` is True."""

    @property
    def mask(self) -> tuple[tuple[bool, ...], ...]:
        """Rows of query blocks, columns of key blocks."""
        ...

    @property
    def size(self) -> int:
        """Positions in a block, 1 or more."""
        ...

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        ...


@dataclass(frozen=True)
class MaskTerm:
    """A conjunction: the pair (i, j) is allowed where every part allows it.

    Args:
        before: The band reaches back to ``j >= i - before``; 0 or more, None without bound.
        after: The band reaches ahead to ``j <= i + after``, the same.
        stride: ``i - j`` is a multiple of it, 1 or more. Numbers beyond all positions, of any size,
            become the term without bound, or the diagonal, that they mean.
        queries: The only query positions allowed, sorted and distinct; None allows all.
        keys: The only key positions allowed, sorted and distinct; None allows all.
        blocks: Block tables, all of which must allow the pair.
    """

    before: int | None = None
    after: int | None = None
    stride: int = 1
    queries: Positions | None = None
    keys: Positions | None = None
    blocks: tuple[BlockTable, ...] = ()

    def __post_init__(self) -> None:
        if self.stride >= FAR:  # no multiple of it but 0 is a difference of positions
            for name, value in (("before", 0), ("after", 0), ("stride", 1)):
                object.__setattr__(self, name, value)  # the class is frozen
        if self.before is not None and self.before >= FAR:
            object.__setattr__(self, "before", None)
        if self.after is not None and self.after >= FAR:
            object.__setattr__(self, "after", None)

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        shape = torch.broadcast_shapes(queries.shape, keys.shape)
        allowed = torch.ones(shape, dtype=torch.bool, device=queries.device)  # [queries, keys]
        if self.before is not None:
            allowed = allowed & (keys >= queries - self.before)
        if self.after is not None:
            allowed = allowed & (keys <= queries + self.after)
        if self.stride > 1:
            allowed = allowed & (queries % self.stride == keys % self.stride)
        if self.queries is not None:
            allowed = allowed & is_member(queries, self.queries)
        if self.keys is not None:
            allowed = allowed & is_member(keys, self.keys)
        for table in self.blocks:
            allowed = allowed & table.allowed(queries, keys)
        return allowed

    def __and__(self, other: MaskTerm) -> MaskTerm:
        return MaskTerm(
            before=_smaller(self.before, other.before),
            after=_smaller(self.after, other.after),
            stride=math.lcm(self.stride, other.stride),
            queries=_intersection(self.queries, other.queries),
            keys=_intersection(self.keys, other.keys),
            blocks=tuple(dict.fromkeys(self.blocks + other.blocks)),
        )

    def contains(self, other: MaskTerm) -> bool:
        """Return True only where every pair of `other` belongs to this term; may miss some."""
        is_diagonal = other.before == 0 and other.after == 0  # i = j fits every stride
        return (
            _hull(self, other) == self
            and (is_diagonal or other.stride % self.stride == 0)
            and set(self.blocks) <= set(other.blocks)
        )

    @property
    def is_band(self) -> bool:
        """Whether nothing but the band decides."""
        has_sets = self.queries is not None or self.keys is not None or bool(self.blocks)
        return self.stride == 1 and not has_sets


def is_member(positions: Tensor, members: Positions) -> Tensor:
    """Return which positions ``[..., length]`` belong to a set; memory grows with them alone."""
    tensor = torch.tensor(members, dtype=torch.long, device="cpu")
    if is_exporting():  # ONNX has no operator for a search in a sorted list
        return (positions[..., None] == tensor).any(-1)
    return torch.isin(positions, tensor.to(positions.device, non_blocking=True))


def union(left: Iterable[MaskTerm], right: Iterable[MaskTerm]) -> tuple[MaskTerm, ...]:
    """Join two disjunctions by "or"."""
    return simplify((*left, *right))


def intersect(left: Iterable[MaskTerm], right: Iterable[MaskTerm]) -> tuple[MaskTerm, ...]:
    """Join two disjunctions by "and": every term of one with every term of the other."""
    return simplify(first & second for first, second in product(left, right))


def simplify(terms: Iterable[MaskTerm]) -> tuple[MaskTerm, ...]:
    """Shorten a disjunction without changing what it allows.

    A band shorter than its stride holds the diagonal only. Terms that differ in one part alone are
    merged (two bands both hold offset 0, so their union is a band). Empty terms and those contained
    in another are dropped.

    Args:
        terms: The disjunction.

    Returns:
        An equal disjunction, at most as long.
    """
    merged = [_shorten(term) for term in terms if () not in (term.queries, term.keys)]
    for part in ({"before": None, "after": None}, {"queries": None}, {"keys": None}):
        by_rest: dict[MaskTerm, MaskTerm] = {}
        for term in merged:
            rest = replace(term, **part)
            by_rest[rest] = _hull(by_rest[rest], term) if rest in by_rest else term
        merged = list(by_rest.values())
    largest: list[MaskTerm] = []
    for term in merged:
        if not any(larger.contains(term) for larger in largest):
            largest = [smaller for smaller in largest if not term.contains(smaller)]
            largest.append(term)
    return tuple(largest)


def _shorten(term: MaskTerm) -> MaskTerm:
    if term.before is None or term.after is None:
        return term
    is_diagonal = max(term.before, term.after) < term.stride
    return replace(term, before=0, after=0, stride=1) if is_diagonal else term


def _hull(left: MaskTerm, right: MaskTerm) -> MaskTerm:
    """Return `left` with its band and its positions widened to hold those of `right`."""
    return replace(
        left,
        before=_larger(left.before, right.before),
        after=_larger(left.after, right.after),
        queries=_union(left.queries, right.queries),
        keys=_union(left.keys, right.keys),
    )


def _smaller(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return min(left, right)


def _larger(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else max(left, right)


def _intersection(left: Positions | None, right: Positions | None) -> Positions | None:
    if left is None or right is None:
        return right if left is None else left
    return tuple(sorted(set(left) & set(right)))


def _union(left: Positions | None, right: Positions | None) -> Positions | None:
    return None if left is None or right is None else tuple(sorted({*left, *right}))
