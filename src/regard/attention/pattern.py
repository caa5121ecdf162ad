"""Attention patterns: which query may look at which key.

A pattern is a predicate over positions, `allowed(i, j)`, True where query position i may attend to
key position j. Patterns are plain immutable values: they compare, hash, and compose with ``|``
(either allows) and ``&`` (both allow).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Pattern(Protocol):
    """What every pattern answers."""

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend.

        Args:
            queries: Integer query positions, ``[queries, 1]`` or any that broadcasts with `keys`.
            keys: Integer key positions, ``[1, keys]`` or any shape that broadcasts with `queries`.

        Returns:
            Boolean, ``[queries, keys]`` or the broadcast shape, True where attention is allowed.
        """
        ...

    def __or__(self, other: Pattern) -> Pattern: ...

    def __and__(self, other: Pattern) -> Pattern: ...


class Composable:
    """Gives a pattern its ``|`` and ``&``."""

    def __or__(self, other: Pattern) -> Pattern:
        return Union(self, other)  # type: ignore[arg-type]

    def __and__(self, other: Pattern) -> Pattern:
        return Intersection(self, other)  # type: ignore[arg-type]


class _Pair(Composable):
    """Two patterns joined by an operator."""

    symbol: str

    def __init__(self, left: Pattern, right: Pattern) -> None:
        self.left = left
        self.right = right

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


class Intersection(_Pair):
    """Allows a pair that both sides allow."""

    symbol = "&"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return self.left.allowed(queries, keys) & self.right.allowed(queries, keys)


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
    return pattern.allowed(queries[:, None], keys[None, :])  # [queries, keys]
