"""Full attention: every query sees every key (Vaswani et al. 2017, section 3.2). Cost: n * m."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.patterns.base import Composable
from regard.attention.patterns.mask_algebra import MaskTerm


@dataclass(frozen=True)
class Full(Composable):
    """Allows every pair."""

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Tell which pairs may attend: ``[queries, 1]`` by ``[1, keys]``, or as they broadcast."""
        shape = torch.broadcast_shapes(queries.shape, keys.shape)
        return torch.ones(shape, dtype=torch.bool, device=queries.device)

    def terms(self) -> tuple[MaskTerm, ...]:
        """One band without bounds."""
        return (MaskTerm(),)
