"""Attention patterns: which query may look at which key.

There are three kinds. A `MaskPattern` is a predicate over positions: `allowed(i, j)` is True where
query position i may attend to key position j. A `LengthDependentPattern` becomes one when the
lengths are known, by `resolve`. Both compose with ``|`` (either allows) and ``&`` (both allow). A
`ScoreDependentPattern` (`TopK`, `Hierarchical`) does not: scores or averages decide what a query
sees.

All are plain immutable values that compare and hash. Each counts its `cost`, draws itself with
`show`, and writes its text form with `to_text`; a class in `PATTERNS` reads it with `from_text`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from regard.attention.patterns.cost import Cost, count_pairs
from regard.attention.patterns.drawing import Format, check_num_positions, draw, grid
from regard.attention.patterns.mask_algebra import MaskTerm, intersect, union


class _Composable:
    """What mask patterns and length-dependent patterns share: ``|``, ``&``, cost and picture."""

    def to_text(self) -> str | None:
        """Write the text form, such as ``local:2,0``; None where there is none."""
        return None

    def cost(
        self,
        queries: int,
        keys: int,
        *,
        dim: int = 64,
        value_dim: int | None = None,
        itemsize: int = 4,
    ) -> Cost:
        """Count the pairs, the arithmetic and the memory traffic of one head's forward pass.

        Args:
            queries: Number of queries, at positions 0, 1, ...
            keys: Number of keys, at positions 0, 1, ...
            dim: Size of a query and of a key.
            value_dim: Size of a value; None for `dim`.
            itemsize: Bytes of a number, 4 for float32.

        Returns:
            The cost. The n x m matrix is not built for it.
        """
        pattern = resolve(self, queries, keys)
        assert isinstance(pattern, MaskPattern)
        pairs = count_pairs(pattern.terms(), queries, keys)
        return Cost.of(pairs, queries, keys, dim=dim, value_dim=value_dim, itemsize=itemsize)

    def show(self, num_positions: int = 24, *, format: Format = "text") -> str:  # noqa: A002
        """Draw the pattern, queries down and keys across.

        Args:
            num_positions: Number of queries and of keys, 1 or more.
            format: ``"text"`` (one character a pair) or ``"svg"`` (a complete small picture).

        Returns:
            The picture.

        Raises:
            ConfigError: An argument is out of range.
        """
        check_num_positions(num_positions)
        assert isinstance(self, Pattern)
        rows = grid(allowed_matrix(self, num_positions, num_positions))
        return draw(rows, title=repr(self), format=format)

    def __or__(self, other: ComposablePattern) -> ComposablePattern:
        return _join(self, "|", other)

    def __and__(self, other: ComposablePattern) -> ComposablePattern:
        return _join(self, "&", other)


class MaskPattern(_Composable, ABC):
    """A pattern that positions alone decide. Derive from it to make a pattern of your own.

    A subclass is a frozen dataclass with `allowed` and `terms`, which say the same in two ways:
    `allowed` answers for a given pair, `terms` says where to look for pairs.
    """

    @abstractmethod
    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend.

        Args:
            queries: Integer query positions, ``[queries, 1]`` or any that broadcasts with `keys`.
            keys: Integer key positions, ``[1, keys]`` or any shape that broadcasts with `queries`.

        Returns:
            Boolean, ``[queries, keys]`` or the broadcast shape, True where attention is allowed.
            Memory grows with this result and no faster.
        """

    @abstractmethod
    def terms(self) -> tuple[MaskTerm, ...]:
        """Return the same as an "or" over simple structures, by which pairs are found."""


class LengthDependentPattern(_Composable, ABC):
    """A pattern that has no pairs before the lengths are known."""

    @abstractmethod
    def resolve(self, num_queries: int, num_keys: int) -> MaskPattern:
        """Return the pattern for a number of queries and of keys.

        Args:
            num_queries: One above the last query's position.
            num_keys: Valid keys, at positions 0, 1, ...
        """


class ScoreDependentPattern(ABC):
    """A pattern whose pairs are not fixed by positions alone: ``|`` and ``&`` are refused."""

    causal: bool
    reason: ClassVar[str]  # why it is no mask, the sentence's predicate

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs it draws from: all, or those with ``j <= i`` when causal."""
        return self.terms()[0].allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return the same as `allowed`: one term."""
        return (MaskTerm(after=0 if self.causal else None),)

    @abstractmethod
    def cost(
        self,
        queries: int,
        keys: int,
        *,
        dim: int = 64,
        value_dim: int | None = None,
        itemsize: int = 4,
    ) -> Cost:
        """Count the pairs, the arithmetic and the memory traffic of one head's forward pass."""

    @abstractmethod
    def show(self, num_positions: int = 24, *, format: Format = "text") -> str:  # noqa: A002
        """Draw the pattern, queries down and keys across."""

    @abstractmethod
    def to_text(self) -> str:
        """Write the text form, such as ``top_k:16``."""

    @property
    def refusal(self) -> str:
        """The message where ``|`` or ``&`` is tried."""
        return f"{self!r} {self.reason}: it is no mask and does not compose with | or &."

    def __or__(self, other: object) -> NoReturn:
        raise TypeError(self.refusal)

    def __and__(self, other: object) -> NoReturn:
        raise TypeError(self.refusal)

    __ror__ = __or__
    __rand__ = __and__


ComposablePattern = MaskPattern | LengthDependentPattern
"""A pattern that goes with ``|`` and ``&``."""
ResolvedPattern = MaskPattern | ScoreDependentPattern
"""A pattern that does not depend on the length."""
Pattern = MaskPattern | LengthDependentPattern | ScoreDependentPattern
"""Any pattern."""


def resolve(pattern: Pattern | _Composable, num_queries: int, num_keys: int) -> ResolvedPattern:
    """Return the pattern for a number of queries and of keys; most are the same for all.

    Args:
        pattern: Any.
        num_queries: One above the last query's position.
        num_keys: Valid keys, at positions 0, 1, ...
    """
    if isinstance(pattern, LengthDependentPattern):
        return pattern.resolve(num_queries, num_keys)
    assert isinstance(pattern, ResolvedPattern)
    return pattern


class _Pair(_Composable):
    """Two patterns joined by an operator."""

    symbol: str

    def __init__(self, left: ComposablePattern, right: ComposablePattern) -> None:
        self.left = left
        self.right = right

    def to_text(self) -> str | None:
        """Write both sides, in parentheses unless reading from the left gives the same tree."""
        sides = []
        for side in (self.left, self.right):
            text = side.to_text()
            if text is None:
                return None
            is_inner = isinstance(side, _Pair) and (
                side.symbol != self.symbol or side is self.right
            )
            binds = isinstance(side, _Pair) and side.symbol == "&" and self.symbol == "|"
            sides.append(f"({text})" if is_inner and not binds else text)
        return self.symbol.join(sides)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Pair)
            and type(other) is type(self)
            and (self.symbol, self.left, self.right) == (other.symbol, other.left, other.right)
        )

    def __hash__(self) -> int:
        return hash((self.symbol, self.left, self.right))

    def __repr__(self) -> str:
        return f"({self.left!r} {self.symbol} {self.right!r})"


class Union(_Pair, MaskPattern):
    """Allows a pair that either side allows."""

    symbol = "|"
    left: MaskPattern
    right: MaskPattern

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        return self.left.allowed(queries, keys) | self.right.allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Concatenate the terms of both sides."""
        return union(self.left.terms(), self.right.terms())


class Intersection(_Pair, MaskPattern):
    """Allows a pair that both sides allow."""

    symbol = "&"
    left: MaskPattern
    right: MaskPattern

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        return self.left.allowed(queries, keys) & self.right.allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Multiply out the terms of both sides."""
        return intersect(self.left.terms(), self.right.terms())


class LengthDependentPair(_Pair, LengthDependentPattern):
    """A union or an intersection of which a side depends on the length."""

    def __init__(self, left: ComposablePattern, right: ComposablePattern, symbol: str) -> None:
        super().__init__(left, right)
        self.symbol = symbol

    def resolve(self, num_queries: int, num_keys: int) -> MaskPattern:
        """Return the pattern with both sides resolved."""
        left, right = (resolve(side, num_queries, num_keys) for side in (self.left, self.right))
        assert isinstance(left, MaskPattern) and isinstance(right, MaskPattern)
        return Union(left, right) if self.symbol == "|" else Intersection(left, right)


def _join(left: _Composable, symbol: str, right: object) -> ComposablePattern:
    if not isinstance(right, ComposablePattern):
        return NotImplemented
    assert isinstance(left, ComposablePattern)
    if isinstance(left, MaskPattern) and isinstance(right, MaskPattern):
        return Union(left, right) if symbol == "|" else Intersection(left, right)
    return LengthDependentPair(left, right, symbol)


def allowed_matrix(
    pattern: Pattern,
    num_queries: int,
    num_keys: int,
    *,
    query_offset: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Lay a pattern out as a boolean matrix.

    Args:
        pattern: The pattern.
        num_queries: Number of queries; query i stands at position ``i + query_offset``.
        num_keys: Number of keys; key j stands at position j.
        query_offset: Position of the first query, e.g. the number of cached keys in decoding.
        device: Where to build it.

    Returns:
        ``[queries, keys]``, True where attention is allowed.

    >>> from regard.attention import Causal
    >>> allowed_matrix(Causal(), 2, 3, query_offset=1).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    queries = torch.arange(query_offset, query_offset + num_queries, device=device)
    keys = torch.arange(num_keys, device=device)
    pattern = resolve(pattern, query_offset + num_queries, num_keys)
    return pattern.allowed(queries[:, None], keys[None, :])  # [queries, keys]
