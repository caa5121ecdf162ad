"""Causal attention: a query sees itself and what stands before it (Vaswani et al. 2017, 3.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regard.attention.patterns.base import Composable
from regard.attention.patterns.mask_algebra import MaskTerm


@dataclass(frozen=True)
class Causal(Composable):
    """Allows ``j <= i``."""

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        return keys <= queries

    def terms(self) -> tuple[MaskTerm, ...]:
        """One band: everything before, nothing after."""
        return (MaskTerm(after=0),)
