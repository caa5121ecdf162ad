"""Global attention: a few positions see all and are seen by all.

Longformer (Beltagy et al. 2020, section 3.1) and BigBird (Zaheer et al. 2020, section 2) add it to
a local window, so that any two positions are two steps apart. Cost: (n + m) pairs a position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from regard.attention.patterns.arguments import parse_numbers, require_whole
from regard.attention.patterns.base import MaskPattern
from regard.attention.patterns.mask_algebra import MaskTerm, is_member, simplify
from regard.errors import ConfigError


@dataclass(frozen=True)
class Global(MaskPattern):
    """Allows the pairs with ``i in positions or j in positions``.

    Args:
        positions: The global positions, each 0 or more, in any order; kept sorted and distinct.

    Raises:
        ConfigError: A position is negative.
    """

    positions: tuple[int, ...]

    synopsis: ClassVar[str] = "global:P,P,..."
    text_form: ClassVar[str] = "global:P,P,... (positions from 0), e.g. global:0"

    def __init__(self, positions: Iterable[int]) -> None:
        if not isinstance(positions, Iterable):
            raise ConfigError(f"Global({positions!r}): expected positions, such as Global([0]).")
        whole = {require_whole("Global(positions=...)", position) for position in positions}
        ordered = tuple(sorted(whole))
        if ordered and ordered[0] < 0:
            raise ConfigError(f"Global(positions={ordered}): all must be 0 or more.")
        object.__setattr__(self, "positions", ordered)  # the class is frozen

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:  # noqa: ARG003
        """Read ``P,P,...``, one position or more."""
        return cls(parse_numbers(arguments, cls.text_form))

    def to_text(self) -> str | None:
        """Write ``global:P,P,...``; None without a position."""
        return f"global:{','.join(map(str, self.positions))}" if self.positions else None

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        is_row, is_column = (is_member(x, self.positions) for x in (queries, keys))
        return is_row | is_column  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return the rows and the columns of the positions; no term without a position."""
        return simplify((MaskTerm(queries=self.positions), MaskTerm(keys=self.positions)))
