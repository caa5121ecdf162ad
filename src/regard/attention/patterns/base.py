"""Attention patterns: which query may look at which key.

There are three kinds. A `MaskPattern` is a predicate over positions: `allowed(i, j)` is True where
query position i may attend to key position j. A `LengthDependentPattern` becomes one when the
lengths are known, by `resolve`. Both compose with ``|`` (either allows) and ``&`` (both allow). A
`ScoreDependentPattern` (`TopK`, `Hierarchical`) does not: scores or averages decide what a query
sees.

All are immutable values that compare and hash. A class in `PATTERNS` reads its text form with
`from_text`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

import torch
from torch import Tensor

from regard.attention.patterns.cost import Cost, PairCount, count_pairs
from regard.attention.patterns.mask_algebra import MaskTerm, intersect, union
from regard.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from regard.attention.dense import AttentionOutput
    from regard.attention.options import AttentionOptions
    from regard.attention.patterns.drawing import Format


_DEFINITIONS = ("terms", "resolve", "attend")  # the methods that say which pairs a pattern has


class _Pattern(ABC):
    """What all patterns share: cost, picture, text form, ``|`` and ``&``."""

    def __init_subclass__(cls) -> None:
        """Take the text form from a pattern that has other pairs than the one it derives from."""
        super().__init_subclass__()
        inherited = {name: getattr(super(cls, cls), name, None) for name in _DEFINITIONS}
        is_redefined = any(
            name in vars(cls) and not getattr(method, "__isabstractmethod__", method is None)
            for name, method in inherited.items()
        )
        if is_redefined and "to_text" not in vars(cls):
            cls.to_text = _Pattern.to_text  # type: ignore[method-assign]

    @abstractmethod
    def resolve(self, num_queries: int, num_keys: int) -> ResolvedPattern:
        """Return the pattern for a number of queries and of keys; most are the same for all.

        Args:
            num_queries: One above the last query's position.
            num_keys: Valid keys, at positions 0, 1, ...
        """

    @abstractmethod
    def count_pairs(self, num_queries: int, num_keys: int) -> PairCount:
        """Count the pairs of queries and keys at positions 0, 1, ..."""

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

        Raises:
            ShapeError: A pattern for self-attention, and the numbers differ.
        """
        pairs = self.count_pairs(queries, keys)
        width = dim + (dim if value_dim is None else value_dim)
        return Cost(pairs.attended, 2 * pairs.scored * width, itemsize * (queries + keys) * width)

    def cells(self, num_positions: int) -> list[str]:
        """Return the picture's rows, one string a query, one character a key (`drawing.py`)."""
        from regard.attention.patterns.drawing import grid

        positions = torch.arange(num_positions, device="cpu")
        resolved = self.resolve(num_positions, num_positions)
        return grid(resolved.allowed(positions[:, None], positions[None, :]))  # [queries, keys]

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
        if num_positions < 1:
            raise ConfigError(f"show({num_positions}): the number of positions must be 1 or more.")
        from regard.attention.patterns.drawing import draw

        return draw(self.cells(num_positions), title=repr(self), format=format)

    def check(self, num_positions: int = 128) -> None:
        """Check that `allowed` and `terms` of a pattern of your own say the same of every pair.

        Short calls ask `allowed`, long ones follow `terms`.

        Args:
            num_positions: Number of queries and of keys, 1 or more: more than the largest distance
                or position that the pattern names.

        Raises:
            ConfigError: They differ, with the first pair; or the number is out of range.
            ShapeError: `allowed` returns other than booleans, ``[num_positions, num_positions]``.
        """
        if num_positions < 1:
            raise ConfigError(f"check({num_positions}): the number of positions must be 1 or more.")
        positions = torch.arange(num_positions, device="cpu")
        queries, keys = positions[:, None], positions[None, :]
        resolved = self.resolve(num_positions, num_positions)
        by_pair, by_terms = resolved.allowed(queries, keys), torch.zeros_like(queries == keys)
        if by_pair.dtype != torch.bool or by_pair.shape != by_terms.shape:
            raise ShapeError(
                f"{self!r}: allowed returned {by_pair.dtype}, {list(by_pair.shape)}; expected "
                f"torch.bool, {list(by_terms.shape)}."
            )
        for term in resolved.terms():
            by_terms |= term.allowed(queries, keys)  # [queries, keys]
        differing = (by_pair != by_terms).nonzero().tolist()
        if differing:
            query, key = differing[0]
            words = ("forbid", "allow")
            raise ConfigError(
                f"{self!r}: terms {words[by_terms[query, key]]} query {query} and key {key}, "
                f"allowed does not ({len(differing):,} of {by_pair.numel():,} pairs differ).  Both "
                "must say the same of every pair."
            )

    def to_text(self) -> str | None:
        """Write the text form, such as ``local:2,0``; None if it has none."""
        return None

    def __or__(self, other: ComposablePattern) -> ComposablePattern:
        return _compose(self, "|", other)

    def __and__(self, other: ComposablePattern) -> ComposablePattern:
        return _compose(self, "&", other)


class MaskPattern(_Pattern):
    """A pattern that positions alone decide. Derive from it to make a pattern of your own.

    A subclass is a frozen dataclass with `allowed` and `terms`, which define the same pairs in two
    ways: `allowed` answers for a given pair, `terms` lists where pairs are.
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

    def resolve(self, num_queries: int, num_keys: int) -> Self:  # noqa: ARG002
        """Return the pattern itself: it is the same for all lengths."""
        return self

    def count_pairs(self, num_queries: int, num_keys: int) -> PairCount:
        """Count the pairs of queries and keys at positions 0, 1, ..."""
        pairs = count_pairs(self.terms(), num_queries, num_keys)
        return PairCount(pairs, pairs)


class LengthDependentPattern(_Pattern):
    """A pattern that has no pairs before the lengths are known."""

    @abstractmethod
    def resolve(self, num_queries: int, num_keys: int) -> MaskPattern:
        """Return the pattern for a number of queries and of keys.

        Args:
            num_queries: One above the last query's position.
            num_keys: Valid keys, at positions 0, 1, ...
        """

    def count_pairs(self, num_queries: int, num_keys: int) -> PairCount:
        """Count the pairs of queries and keys at positions 0, 1, ..."""
        return self.resolve(num_queries, num_keys).count_pairs(num_queries, num_keys)


class ScoreDependentPattern(_Pattern):
    """A pattern whose pairs are not fixed by positions alone: ``|`` and ``&`` are refused."""

    causal: bool
    reason: ClassVar[str]  # why it is not a mask, the sentence's predicate

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the pairs to choose from, ``[queries, keys]``: all, or when causal ``j <= i``."""
        return self.terms()[0].allowed(queries, keys)  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return the same as `allowed`: one term."""
        return (MaskTerm(after=0 if self.causal else None),)

    def resolve(self, num_queries: int, num_keys: int) -> Self:  # noqa: ARG002
        """Return the pattern itself: it is the same for all lengths."""
        return self

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions) -> AttentionOutput:
        """Compute attention by this pattern.

        Args:
            q: ``[batch, heads, queries, dim]``.
            k: ``[batch, kv_heads, keys, dim]``.
            v: ``[batch, kv_heads, keys, value_dim]``.
            options: All else.

        Returns:
            The output, and the weights where there are any.

        Raises:
            ConfigError: The pattern does not go with an option.
        """

    @property
    def refusal(self) -> str:
        """The message where ``|`` or ``&`` is tried."""
        return f"{self!r} {self.reason}: it is not a mask and does not compose with | or &."

    def __or__(self, other: object) -> NoReturn:
        raise TypeError(self.refusal)

    __ror__ = __and__ = __rand__ = __or__


ComposablePattern = MaskPattern | LengthDependentPattern
"""A pattern that goes with ``|`` and ``&``."""
ResolvedPattern = MaskPattern | ScoreDependentPattern
"""A pattern that does not depend on the length."""
Pattern = MaskPattern | LengthDependentPattern | ScoreDependentPattern
"""Any pattern."""


@dataclass(frozen=True, repr=False)
class _Pair(_Pattern):
    """Two patterns joined by ``|`` or ``&``."""

    left: ComposablePattern
    symbol: str
    right: ComposablePattern

    def to_text(self) -> str | None:
        """Write both operands, in parentheses unless reading from the left gives the same tree."""
        texts = []
        for operand in (self.left, self.right):
            text = operand.to_text()
            if text is None:
                return None
            if isinstance(operand, _Pair):
                binds = operand.symbol == "&" and self.symbol == "|"
                is_left_chain = operand.symbol == self.symbol and operand is not self.right
                text = text if binds or is_left_chain else f"({text})"
            texts.append(text)
        return self.symbol.join(texts)

    def __repr__(self) -> str:
        return f"({self.left!r} {self.symbol} {self.right!r})"


@dataclass(frozen=True, repr=False)
class MaskPair(_Pair, MaskPattern):
    """The union or the intersection of two mask patterns."""

    left: MaskPattern
    right: MaskPattern
    _terms: tuple[MaskTerm, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        combine = union if self.symbol == "|" else intersect
        terms = combine(self.left.terms(), self.right.terms())
        object.__setattr__(self, "_terms", terms)  # the class is frozen

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        left, right = self.left.allowed(queries, keys), self.right.allowed(queries, keys)
        return left | right if self.symbol == "|" else left & right  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return the terms of both operands, concatenated or multiplied out."""
        return self._terms


class LengthDependentPair(_Pair, LengthDependentPattern):
    """The union or the intersection of two patterns of which one depends on the length."""

    def resolve(self, num_queries: int, num_keys: int) -> MaskPattern:
        """Return the pattern with both operands resolved."""
        left = self.left.resolve(num_queries, num_keys)
        right = self.right.resolve(num_queries, num_keys)
        return MaskPair(left, self.symbol, right)


def _compose(left: _Pattern, symbol: str, right: object) -> ComposablePattern:
    if isinstance(left, MaskPattern) and isinstance(right, MaskPattern):
        return MaskPair(left, symbol, right)
    if isinstance(left, ComposablePattern) and isinstance(right, ComposablePattern):
        return LengthDependentPair(left, symbol, right)
    return NotImplemented


def allowed_matrix(
    pattern: Pattern,
    num_queries: int,
    num_keys: int,
    *,
    query_offset: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Return a pattern as a boolean matrix.

    Args:
        pattern: The pattern.
        num_queries: Number of queries; query i is at position ``i + query_offset``.
        num_keys: Number of keys; key j is at position j.
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
    resolved = pattern.resolve(query_offset + num_queries, num_keys)
    return resolved.allowed(queries[:, None], keys[None, :])  # [queries, keys]
