"""Full attention: every query sees every key (Vaswani et al. 2017, section 3.2). Cost: n * m."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from regard.attention.patterns.arguments import parse_numbers
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.mask_algebra import MaskTerm


@dataclass(frozen=True)
class Full(MaskPattern):
    """Allows every pair."""

    synopsis: ClassVar[str] = "full"
    text_form: ClassVar[str] = "full, without numbers"

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:  # noqa: ARG003
        """Check that nothing follows the name."""
        parse_numbers(arguments, cls.text_form, counts=(0,))
        return cls()

    def to_text(self) -> str:
        """Write ``full``."""
        return "full"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        shape = torch.broadcast_shapes(queries.shape, keys.shape)
        return torch.ones(shape, dtype=torch.bool, device=queries.device)  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one band without bounds."""
        return (MaskTerm(),)
