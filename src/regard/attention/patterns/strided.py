"""Strided attention: a query sees every s-th key (Child et al. 2019, section 4.2). Cost: n * m / s.

Beside a local window it reaches every position in two layers: ``Local(s, 0) | Strided(s)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regard.attention.patterns.base import Composable
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError


@dataclass(frozen=True)
class Strided(Composable):
    """Allows ``(i - j) mod stride = 0``.

    Args:
        stride: Distance of two keys that a query sees, 1 or more.

    Raises:
        ConfigError: The stride is below 1.
    """

    stride: int

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"Strided(stride={self.stride}): the stride must be 1 or more.")

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return queries % self.stride == keys % self.stride

    def terms(self) -> tuple[MaskTerm, ...]:
        """One stride without a band."""
        return (MaskTerm(stride=self.stride),)
