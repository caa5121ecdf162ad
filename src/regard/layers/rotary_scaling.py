"""Rotary angles that are changed for texts longer than those of the first training.

Every rule is a struct with the names and numbers of ``rope_parameters`` in a Hugging Face
``config.json``; the setting ``rope_type`` says which one it is. Two rules have other angles for
texts that are longer than those of the first training (``dynamic``, ``longrope``). These texts are
not read here: keys that are cached were rotated before the length of a text was known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_finite, require_positive

A = TypeVar("A", Tensor, np.ndarray)


class RotaryScaling(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="rope_type"
):
    """A rule by which rotary angles are changed; this one leaves them."""

    depends_on_length: ClassVar[bool] = False
    """Whether it has other angles, not computed here, for texts that are too long."""

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def rope_type(self) -> str:
        """Name of the rule."""
        return str(self.__struct_config__.tag)

    @property
    def amplitude(self) -> float:
        """Factor on rotated queries and keys."""
        return 1.0

    def slow_down(self, frequencies: A, base: float) -> A:  # noqa: ARG002 - of other rules
        """Change frequencies.

        Args:
            frequencies: Angles a token, of shape ``[pairs]``, fastest first.
            base: That they were computed from.

        Returns:
            Same shape.
        """
        return frequencies

    def num_factors(self) -> int | None:
        """Return for how many pairs it has a number each; None for any."""
        return None

    def numbers(self) -> list[float]:
        """Return its index in `ROTARY_SCALINGS` and its numbers, which operators of graphs take."""
        values = (float(getattr(self, name)) for name in self.__struct_fields__)
        return [float(ROTARY_SCALINGS.index(type(self))), *values]

    @classmethod
    def of_numbers(cls, numbers: Sequence[float]) -> Self:
        """Return the rule of numbers, without that of its index."""
        values = (int(value) if value.is_integer() else value for value in numbers)
        return cls(**dict(zip(cls.__struct_fields__, values, strict=True)))


class PlainAngles(RotaryScaling, frozen=True, kw_only=True, tag="default"):
    """Rotary angles as they are."""


class LinearScaling(RotaryScaling, frozen=True, kw_only=True, tag="linear"):
    """All rotary angles are divided by a factor (Chen et al. 2023, "position interpolation").

    Args:
        factor: Divisor of the angles, 1 or more.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "factor")
        require_finite(self, "factor")

    def slow_down(self, frequencies: A, base: float) -> A:  # noqa: ARG002 - of other rules
        """Return frequencies, ``[pairs]``, divided by the factor."""
        return frequencies / self.factor


class Llama3Scaling(RotaryScaling, frozen=True, kw_only=True, tag="llama3"):
    """Slow rotary angles are divided by a factor, as in Llama 3.1.

    Angles that turn often within a text of the first training distinguish near positions and stay
    as they are; those that turn less than once would reach positions that training never saw
    (Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4.2; the interpolation is that
    of ``transformers``).

    Args:
        factor: Divisor of the slow angles, 1 or more.
        original_max_position_embeddings: Tokens of the longest text of the first training.
        low_freq_factor: Angles that turn less often than this within such a text are slow, above 0.
        high_freq_factor: Those that turn more often than this stay as they are, above
            low_freq_factor; in between the divisor changes gradually.
    """

    factor: float = 8.0
    original_max_position_embeddings: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "factor", "original_max_position_embeddings")
        require_finite(self, "factor", "high_freq_factor")
        require_positive(self, "low_freq_factor")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor must be above low_freq_factor ({self.low_freq_factor}), "
                f"not {self.high_freq_factor}"
            )

    def slow_down(self, frequencies: A, base: float) -> A:  # noqa: ARG002 - of other rules
        """Divide slow frequencies, ``[pairs]``.

        Returns:
            Same shape.

        >>> scaling = Llama3Scaling(factor=8.0, original_max_position_embeddings=100)
        >>> scaling.slow_down(np.array([1.0, 0.1, 0.01]), 10000.0).round(5).tolist()
        [1.0, 0.02975, 0.00125]
        """
        turns = frequencies * (self.original_max_position_embeddings / (2 * math.pi))
        width = self.high_freq_factor - self.low_freq_factor
        fastness = ((turns - self.low_freq_factor) / width).clip(0, 1)
        return frequencies * (fastness + (1 - fastness) / self.factor)


class YarnScaling(RotaryScaling, frozen=True, kw_only=True, tag="yarn"):
    """Slow rotary angles are divided by a factor, and scores grow (Peng et al. 2023, "YaRN").

    The pairs between those that turn `beta_fast` and `beta_slow` times within a text of the first
    training are divided gradually, by their index (section 3.2; the bounds are whole pairs).

    Args:
        factor: Divisor of the slow angles, 1 or more.
        original_max_position_embeddings: Tokens of the longest text of the first training.
        beta_fast: Turns of the slowest angle that stays as it is, above beta_slow.
        beta_slow: Turns of the fastest angle that is divided by the whole factor, above 0.
        attention_factor: Factor on rotated queries and keys, above 0; none is
            ``0.1 ln(factor) + 1`` (section 3.4).
    """

    factor: float = 4.0
    original_max_position_embeddings: int = 32768
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "factor", "original_max_position_embeddings")
        require_finite(self, "factor", "beta_fast")
        require_positive(self, "beta_slow", "attention_factor")
        if self.beta_fast <= self.beta_slow:
            raise ValueError(
                f"beta_fast must be above beta_slow ({self.beta_slow}), not {self.beta_fast}"
            )

    @property
    def amplitude(self) -> float:
        """Factor on rotated queries and keys."""
        set_factor = self.attention_factor
        return default_yarn_factor(self.factor) if set_factor is None else set_factor

    def slow_down(self, frequencies: A, base: float) -> A:
        """Divide slow frequencies, ``[pairs]``.

        Returns:
            Same shape.

        >>> scaling = YarnScaling(factor=4.0, original_max_position_embeddings=100)
        >>> scaling.slow_down(10.0 ** -np.arange(4.0), 10000.0).tolist()
        [1.0, 0.0625, 0.0025, 0.00025]
        """
        num_pairs = len(frequencies)
        pairs_of_turn = num_pairs / math.log(base)  # pairs by which frequencies fall by 1 / e
        first, last = (
            pairs_of_turn * math.log(self.original_max_position_embeddings / (2 * math.pi * turns))
            for turns in (self.beta_fast, self.beta_slow)
        )
        first, last = max(math.floor(first), 0), min(math.ceil(last), 2 * num_pairs - 1)
        width = last - first or 0.001  # of `transformers`: a step between two pairs
        if isinstance(frequencies, Tensor):
            index = torch.arange(num_pairs, device=frequencies.device)
        else:
            index = np.arange(num_pairs)
        slowness = ((index - first) / width).clip(0, 1)
        factors = 1 - slowness + slowness / self.factor
        return frequencies * factors  # pyright: ignore[reportReturnType]

    def numbers(self) -> list[float]:
        """Return its index in `ROTARY_SCALINGS` and its numbers, all of them set."""
        index, length = ROTARY_SCALINGS.index(YarnScaling), self.original_max_position_embeddings
        bounds = self.beta_fast, self.beta_slow
        return [float(index), self.factor, float(length), *bounds, self.amplitude]


def default_yarn_factor(factor: float, weight: float = 1.0) -> float:
    """Compute the factor on rotated queries and keys of YaRN (Peng et al. 2023, equation 22).

    Args:
        factor: Divisor of the slow angles.
        weight: Factor on its logarithm (``mscale`` of DeepSeek).

    Returns:
        The factor, 1 or more.

    >>> default_yarn_factor(1.0), round(default_yarn_factor(4.0), 4)
    (1.0, 1.1386)
    """
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


class DynamicScaling(RotaryScaling, frozen=True, kw_only=True, tag="dynamic"):
    """Rotary angles whose base grows with the length of a text that is too long (dynamic NTK).

    Those of shorter texts are as they are (bloc97 2023; the formula is that of ``transformers``).

    Args:
        factor: By how much more texts may be longer, 1 or more.
    """

    depends_on_length: ClassVar[bool] = True

    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "factor")
        require_finite(self, "factor")


class LongRopeScaling(RotaryScaling, frozen=True, kw_only=True, tag="longrope"):
    """Each rotary angle is divided by a number of its own (Ding et al. 2024, "LongRoPE").

    The numbers of texts that are too long are kept for a model that is written again.

    Args:
        short_factor: Divisor of the angle of each pair, above 0; none are 1.
        long_factor: Those of longer texts.
        factor: How many times longer texts may be, 1 or more.
        attention_factor: Factor on rotated queries and keys, above 0.
    """

    depends_on_length: ClassVar[bool] = True

    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    factor: float = 1.0
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "factor")
        require_finite(self, "factor", "attention_factor")
        require_positive(self, "attention_factor")
        for name, divisors in (
            ("short_factor", self.short_factor),
            ("long_factor", self.long_factor),
        ):
            if not all(0 < divisor < math.inf for divisor in divisors):
                raise ValueError(f"{name} must have finite numbers above 0, not {divisors}")
        if len(self.short_factor) != len(self.long_factor):
            raise ValueError(
                f"long_factor must have as many numbers as short_factor "
                f"({len(self.short_factor)}), not {len(self.long_factor)}"
            )

    @property
    def amplitude(self) -> float:
        """Factor on rotated queries and keys."""
        return self.attention_factor

    def num_factors(self) -> int | None:
        """Return for how many pairs it has a number each; None for any."""
        return len(self.short_factor) or None

    def slow_down(self, frequencies: A, base: float) -> A:  # noqa: ARG002 - of other rules
        """Divide each frequency of ``[pairs]``.

        Returns:
            Same shape.

        >>> scaling = LongRopeScaling(short_factor=(1.0, 2.0), long_factor=(1.0, 8.0))
        >>> scaling.slow_down(np.array([1.0, 0.1]), 10000.0).tolist()
        [1.0, 0.05]
        """
        if not self.short_factor:
            return frequencies
        if isinstance(frequencies, Tensor):
            return frequencies / frequencies.new_tensor(self.short_factor)
        return frequencies / np.array(self.short_factor)

    def numbers(self) -> list[float]:
        """Return its index in `ROTARY_SCALINGS` and the numbers of texts that are not too long."""
        index = ROTARY_SCALINGS.index(LongRopeScaling)
        return [float(index), self.attention_factor, *self.short_factor]

    @classmethod
    def of_numbers(cls, numbers: Sequence[float]) -> Self:
        """Return the rule of numbers, without that of its index."""
        factors = tuple(numbers[1:])
        return cls(attention_factor=numbers[0], short_factor=factors, long_factor=factors)


ROTARY_SCALINGS: tuple[type[RotaryScaling], ...] = (
    PlainAngles,
    LinearScaling,
    Llama3Scaling,
    YarnScaling,
    DynamicScaling,
    LongRopeScaling,
)
"""All rules."""
AnyRotaryScaling = (
    PlainAngles | LinearScaling | Llama3Scaling | YarnScaling | DynamicScaling | LongRopeScaling
)
"""The section of settings that has one of them."""


def scaling_of(numbers: Sequence[float]) -> RotaryScaling:
    """Return the rule whose `RotaryScaling.numbers` are these.

    >>> scaling_of(LinearScaling(factor=2.5).numbers())
    LinearScaling(factor=2.5)
    """
    return ROTARY_SCALINGS[int(numbers[0])].of_numbers(numbers[1:])
