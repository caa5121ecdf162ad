"""Local attention: a query sees a window around itself (Longformer, Beltagy et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regard.attention.patterns.base import Composable
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError


@dataclass(frozen=True)
class Local(Composable):
    """Allows ``i - before <= j <= i + after``.

    Args:
        before: Number of keys before the query's own position that it sees, 0 or more.
        after: Number of keys after it, 0 or more.
    """

    before: int
    after: int

    def __post_init__(self) -> None:
        if self.before < 0 or self.after < 0:
            raise ConfigError(
                f"Local(before={self.before}, after={self.after}): both must be 0 or more."
            )

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return (keys >= queries - self.before) & (keys <= queries + self.after)

    def terms(self) -> tuple[MaskTerm, ...]:
        """One band."""
        return (MaskTerm(before=self.before, after=self.after),)
