"""Attention patterns: which query may look at which key.

A mask pattern is a predicate over positions, `allowed(i, j)`, True where query position i may
attend to key position j. Patterns are plain immutable values: they compare, hash, and compose with
``|`` (either allows) and ``&`` (both allow). Each also answers its `terms` (where its pairs are
to be found, in time linear in their number), its `cost`, and draws itself with `show`.

Two patterns are no masks, because scores or averages decide what a query sees: `TopK` and
`Hierarchical`. They do not compose, and `allowed` tells the pairs that they draw from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from regard.attention.patterns.cost import Cost, count_pairs
from regard.attention.patterns.drawing import Format, check_num_positions, draw, grid
from regard.attention.patterns.mask_algebra import MaskTerm, intersect, union


@runtime_checkable
class Pattern(Protocol):
    """What every pattern answers."""

    @property
    def depends_on_length(self) -> bool:
        """Whether `allowed` and `terms` want the lengths settled first, by `resolve`."""
        ...

    def resolve(self, queries: int, keys: int) -> Pattern:
        """Settle the pattern for a number of queries and of keys; most are settled as they are.

        Args:
            queries: One above the last query's position.
            keys: Valid keys, at positions 0, 1, ...

        Returns:
            A pattern that depends on no length.
        """
        ...

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend.

        Args:
            queries: Integer query positions, ``[queries, 1]`` or any that broadcasts with `keys`.
            keys: Integer key positions, ``[1, keys]`` or any shape that broadcasts with `queries`.

        Returns:
            Boolean, ``[queries, keys]`` or the broadcast shape, True where attention is allowed.
            Memory grows with this result and no faster.
        """
        ...

    def terms(self) -> tuple[MaskTerm, ...]:
        """Tell the same as `allowed` as an "or" over simple structures, to find the pairs by."""
        ...

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
        ...

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
        ...

    def __or__(self, other: Pattern) -> Pattern: ...

    def __and__(self, other: Pattern) -> Pattern: ...


class Composable(ABC):
    """A mask pattern: gives it ``|``, ``&``, its cost and its picture."""

    @property
    def depends_on_length(self) -> bool:
        """Whether `allowed` and `terms` want the lengths settled first."""
        return False

    def resolve(self, queries: int, keys: int) -> Composable:  # noqa: ARG002
        """Settle the pattern for a number of queries and of keys: it is already."""
        return self

    @abstractmethod
    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""

    @abstractmethod
    def terms(self) -> tuple[MaskTerm, ...]:
        """Tell the same as `allowed` as an "or" over simple structures, to find the pairs by."""

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
        pairs = count_pairs(self.resolve(queries, keys).terms(), queries, keys)
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
        rows = grid(allowed_matrix(self, num_positions, num_positions))
        return draw(rows, title=repr(self), format=format)

    def __or__(self, other: Pattern) -> Pattern:
        return Union(self, other) if isinstance(other, Composable) else NotImplemented

    def __and__(self, other: Pattern) -> Pattern:
        return Intersection(self, other) if isinstance(other, Composable) else NotImplemented


class ScoreDependentPattern:
    """A pattern whose pairs are not fixed by positions alone: ``|`` and ``&`` are refused."""

    causal: bool
    reason: str  # why it is no mask, the sentence's predicate
    depends_on_length = False

    def resolve(self, queries: int, keys: int) -> Self:  # noqa: ARG002
        """Settle the pattern for a number of queries and of keys: it is already."""
        return self

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs it draws from: all, or those with ``j <= i`` when causal."""
        return self.terms()[0].allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Tell the same as `allowed`: one term."""
        return (MaskTerm(after=0 if self.causal else None),)

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


class _Pair(Composable):
    """Two patterns joined by an operator."""

    symbol: str

    def __init__(self, left: Composable, right: Composable) -> None:
        self.left = left
        self.right = right

    @property
    def depends_on_length(self) -> bool:
        """Whether a side does."""
        return self.left.depends_on_length or self.right.depends_on_length

    def resolve(self, queries: int, keys: int) -> Composable:
        """Settle both sides."""
        if not self.depends_on_length:
            return self
        left, right = (side.resolve(queries, keys) for side in (self.left, self.right))
        return type(self)(left, right)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Pair)
            and type(other) is type(self)
            and (self.left, self.right) == (other.left, other.right)
        )

    def __hash__(self) -> int:
        return hash((self.symbol, self.left, self.right))

    def __repr__(self) -> str:
        return f"({self.left!r} {self.symbol} {self.right!r})"


class Union(_Pair):
    """Allows a pair that either side allows."""

    symbol = "|"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return self.left.allowed(queries, keys) | self.right.allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Concatenate the terms of both sides."""
        return union(self.left.terms(), self.right.terms())


class Intersection(_Pair):
    """Allows a pair that both sides allow."""

    symbol = "&"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return self.left.allowed(queries, keys) & self.right.allowed(queries, keys)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Multiply out the terms of both sides."""
        return intersect(self.left.terms(), self.right.terms())


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
    pattern = pattern.resolve(query_offset + num_queries, num_keys)
    return pattern.allowed(queries[:, None], keys[None, :])  # [queries, keys]
