"""Causal attention: a query sees itself and the keys before it (Vaswani et al. 2017, 3.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from regard.attention.patterns.arguments import parse_numbers
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.mask_algebra import MaskTerm


@dataclass(frozen=True)
class Causal(MaskPattern):
    """Allows ``j <= i``."""

    synopsis: ClassVar[str] = "causal"
    text_form: ClassVar[str] = "causal, without numbers"

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:  # noqa: ARG003
        """Check that nothing follows the name."""
        parse_numbers(arguments, cls.text_form, counts=(0,))
        return cls()

    def to_text(self) -> str:
        """Write ``causal``."""
        return "causal"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        return keys <= queries  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one band: everything before, nothing after."""
        return (MaskTerm(after=0),)
