"""Patterns that only the length settles: a window that is a share of it, random blocks over it.

They compose, are counted and drawn as others are; ``resolve`` gives the pattern itself.
`attend` asks for it with the valid keys of each row, so that a row sees the same alone and beside
longer ones. Cost: a plan for each length.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from torch import Tensor

from regard.attention.patterns.base import Composable
from regard.attention.patterns.block_sparse import Blocks
from regard.attention.patterns.local import Local
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError


class ByLength(Composable):
    """A pattern that has no pairs before the lengths are known."""

    @property
    def depends_on_length(self) -> bool:
        """It does."""
        return True

    @abstractmethod
    def resolve(self, queries: int, keys: int) -> Composable:
        """Settle the pattern: one above the last query's position, valid keys."""

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:  # noqa: ARG002
        """Refuse: positions alone do not tell.

        Raises:
            ConfigError: Always.
        """
        self._refuse()

    def terms(self) -> tuple[MaskTerm, ...]:
        """Refuse, as `allowed`.

        Raises:
            ConfigError: Always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"{self!r} depends on the length.  Settle it first: .resolve(num_queries, num_keys)."
        )


@dataclass(frozen=True)
class RelativeWindow(ByLength):
    """A window that is a share of the keys: ``Local(round(before * keys), round(after * keys))``.

    Args:
        before: Share of the keys before the query's own position, 0 to 1; at least one key, unless
            it is 0.
        after: Share after it, the same.

    Raises:
        ConfigError: A share is out of range, or both are 0.

    >>> RelativeWindow(0.1, 0.0).resolve(200, 200)
    Local(before=20, after=0)
    """

    before: float
    after: float

    def __post_init__(self) -> None:
        if not (0 <= self.before <= 1 and 0 <= self.after <= 1 and self.before + self.after > 0):
            raise ConfigError(
                f"RelativeWindow(before={self.before}, after={self.after}): both must be 0 to 1, "
                "and one above 0."
            )

    def resolve(self, queries: int, keys: int) -> Local:  # noqa: ARG002
        """Choose the window for a number of keys; that of the queries does not matter."""
        before, after = (_share(part, keys) for part in (self.before, self.after))
        return Local(before, after)


def _share(part: float, keys: int) -> int:
    return max(1, round(part * keys)) if part > 0 else 0


@dataclass(frozen=True)
class RandomBlocks(ByLength):
    """`Blocks.random` with as many blocks as the length needs (BigBird, Zaheer et al. 2020).

    Args:
        size: Positions in a block, 1 or more.
        per_row: Key blocks that a block of queries sees, its own among them, 1 or more; all where
            there are fewer.
        seed: Of the draw, 0 or more.

    Raises:
        ConfigError: A number is out of range.

    >>> RandomBlocks(4, 2).resolve(10, 10)
    Blocks(<3 x 3 blocks, 6 allowed>, size=4)
    """

    size: int
    per_row: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.per_row < 1 or self.seed < 0:
            raise ConfigError(
                f"RandomBlocks(size={self.size}, per_row={self.per_row}, seed={self.seed}): size "
                "and per_row must be 1 or more, seed 0 or more."
            )

    def resolve(self, queries: int, keys: int) -> Blocks:
        """Draw the table; more queries add rows and change none."""
        rows, columns = (max(1, -(-length // self.size)) for length in (queries, keys))
        return _draw(rows, columns, self)


@lru_cache(maxsize=64)
def _draw(rows: int, columns: int, pattern: RandomBlocks) -> Blocks:
    """Keep the tables of a few lengths: every layer and step asks again."""
    per_row = min(pattern.per_row, columns)
    return Blocks.random(rows, columns, pattern.size, per_row=per_row, seed=pattern.seed)
