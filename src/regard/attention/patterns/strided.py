"""Strided attention: a query sees every s-th key (Child et al. 2019, section 4.2). Cost: n * m / s.

With a local window it reaches every position in two layers: ``Local(s, 0) | Strided(s)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from regard.attention.patterns.arguments import parse_numbers, require_whole
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError


@dataclass(frozen=True)
class Strided(MaskPattern):
    """Allows ``(i - j) mod stride = 0``.

    Args:
        stride: Distance of two keys that a query sees, 1 or more.

    Raises:
        ConfigError: The stride is below 1.
    """

    stride: int

    synopsis: ClassVar[str] = "strided:S"
    text_form: ClassVar[str] = "strided:S (every S-th key), e.g. strided:8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", require_whole(self, self.stride))  # it is frozen
        if self.stride < 1:
            raise ConfigError(f"Strided(stride={self.stride}): the stride must be 1 or more.")

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:  # noqa: ARG003
        """Read ``S``."""
        return cls(*parse_numbers(arguments, cls.text_form, counts=(1,)))

    def to_text(self) -> str:
        """Write ``strided:S``."""
        return f"strided:{self.stride}"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        return self.terms()[0].allowed(queries, keys)  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one stride without a band."""
        return (MaskTerm(stride=self.stride),)
