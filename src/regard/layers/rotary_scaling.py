"""Rotary angles that are slowed down for long texts, as Llama 3.1 has them.

Angles that turn often within a text of the first training tell near positions apart and stay as
they are; those that turn less than once would reach positions that training never saw, and are
slowed down by a factor (Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4.2; the
interpolation is that of ``transformers``, ``rope_type=llama3``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self, TypeVar

import msgspec
import numpy as np
from torch import Tensor

from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_finite, require_positive

A = TypeVar("A", Tensor, np.ndarray)


class RotaryScaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rotary angles are slowed down.

    Args:
        factor: Divisor of the slow angles, 1 or more.
        original_length: Tokens of the longest text of the first training, 1 or more.
        slow_turns: Angles that turn less often than this within `original_length` are slowed down,
            above 0.
        fast_turns: Those that turn more often than this stay as they are, above `slow_turns`; in
            between the divisor changes gradually.
    """

    factor: float
    original_length: float
    slow_turns: float = 1.0
    fast_turns: float = 4.0

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "factor", "original_length")
        require_finite(self, "factor", "original_length", "fast_turns")
        require_positive(self, "slow_turns")
        if self.fast_turns <= self.slow_turns:
            raise ValueError(
                f"fast_turns must be above slow_turns ({self.slow_turns}), not {self.fast_turns}"
            )

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Self:
        """Return the scaling of four numbers, in the order of the arguments.

        Raises:
            ValueError: One is out of its range.
        """
        return cls(**dict(zip(cls.__struct_fields__, numbers, strict=True)))

    def numbers(self) -> tuple[float, float, float, float]:
        """Return its numbers, in the order of the arguments."""
        return self.factor, self.original_length, self.slow_turns, self.fast_turns


def slow_down(frequencies: A, scaling: Sequence[float]) -> A:
    """Slow frequencies down.

    Args:
        frequencies: Angles a token, of shape ``[pairs]``.
        scaling: The numbers of a `RotaryScaling`; empty changes nothing.

    Returns:
        Same shape.

    >>> scaling = RotaryScaling(factor=8.0, original_length=100.0)
    >>> slow_down(np.array([1.0, 0.1, 0.01]), scaling.numbers()).round(5).tolist()
    [1.0, 0.02975, 0.00125]
    """
    if not scaling:
        return frequencies
    factor, original_length, slow_turns, fast_turns = scaling
    turns = frequencies * (original_length / (2 * math.pi))
    fastness = ((turns - slow_turns) / (fast_turns - slow_turns)).clip(0, 1)
    return frequencies * (fastness + (1 - fastness) / factor)
