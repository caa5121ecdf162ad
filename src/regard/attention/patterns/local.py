"""Local attention: a query sees a window around itself (Longformer, Beltagy et al. 2020).

The window is a number of keys, or a fraction of the length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from torch import Tensor

from regard.attention.patterns.arguments import parse_numbers, require_whole
from regard.attention.patterns.base import LengthDependentPattern, MaskPattern
from regard.attention.patterns.mask_algebra import FAR, MaskTerm
from regard.errors import ConfigError

_FRACTION = re.compile(r"[0-9]*\.[0-9]+|0")


@dataclass(frozen=True)
class Local(MaskPattern):
    """Allows ``i - before <= j <= i + after``.

    Args:
        before: Number of keys before the query's own position that it sees, 0 or more.
        after: Number of keys after it, 0 or more.
    """

    before: int
    after: int

    synopsis: ClassVar[str] = "local:B, local:B,A"
    text_form: ClassVar[str] = (
        "local:B or local:B,A (positions before, after), e.g. local:256, or both a fraction of the "
        "length, e.g. local:0.1"
    )

    def __post_init__(self) -> None:
        hint = "  A fraction of the length is RelativeWindow(before, after)."
        for name in ("before", "after"):
            reach = require_whole(self, getattr(self, name), hint)
            object.__setattr__(self, name, reach)  # the class is frozen
        if self.before < 0 or self.after < 0:
            raise ConfigError(
                f"Local(before={self.before}, after={self.after}): both must be 0 or more."
            )

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Local | RelativeWindow:
        """Read ``B`` or ``B,A``; in a decoder ``B`` alone looks back only."""
        no_window = "the window must be 1 or more (or a fraction of the length, e.g. local:0.1)."
        if arguments is not None and "." in arguments:
            parts = arguments.split(",")
            if len(parts) > 2 or not all(map(_FRACTION.fullmatch, parts)):
                raise ConfigError(f"expected {cls.text_form}.")
            first, last = float(parts[0]), float(parts[-1])
            if first == last == 0:
                raise ConfigError(no_window)
            return RelativeWindow(first, 0.0 if is_decoder and len(parts) == 1 else last)
        numbers = parse_numbers(arguments, cls.text_form, counts=(1, 2))
        if numbers == [0]:
            raise ConfigError(no_window)
        return cls(numbers[0], 0 if is_decoder and len(numbers) == 1 else numbers[-1])

    def to_text(self) -> str:
        """Write ``local:B,A``."""
        return f"local:{self.before},{self.after}"

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        first, last = queries - min(self.before, FAR), queries + min(self.after, FAR)
        return (keys >= first) & (keys <= last)  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one band."""
        return (MaskTerm(before=self.before, after=self.after),)


@dataclass(frozen=True)
class RelativeWindow(LengthDependentPattern):
    """A window by the keys: ``Local(round(before * keys), round(after * keys))``.

    Args:
        before: Fraction of the keys before the query's own position, 0 to 1; at least one key,
            unless it is 0.
        after: Fraction after it, the same.

    Raises:
        ConfigError: A fraction is out of range, or both are 0.

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

    def resolve(self, num_queries: int, num_keys: int) -> Local:  # noqa: ARG002
        """Return the window for a number of keys; the number of queries does not matter."""
        return Local(
            *(
                max(1, round(fraction * num_keys)) if fraction > 0 else 0
                for fraction in (self.before, self.after)
            )
        )

    def to_text(self) -> str:
        """Write ``local:B,A`` with a point and without an exponent: it reads back the same."""
        before, after = (f"{Decimal(str(float(x))):f}" for x in (self.before, self.after))
        return f"local:{before},{after}"
