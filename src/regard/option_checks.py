"""Checks of numbers and functions that are given by name; errors name them and their value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from numbers import Real
from typing import Any, SupportsIndex

from torch import Tensor

from regard.errors import ConfigError, shorten

LARGEST_INDEX = 2**63 - 1
"""The largest whole number of a tensor."""


def require_number(
    name: str,
    value: float | Tensor,
    rule: str,
    is_allowed: Callable[[float], bool] = lambda _: True,
) -> None:
    """Check a finite number, or a tensor ``[]`` that holds one.

    Args:
        name: Name of the option.
        value: What was given for it.
        rule: What is allowed, as the message says it.
        is_allowed: Returns whether the rule allows a finite number.

    Raises:
        ConfigError: It is not a finite number, or not allowed.
    """
    number: Any = value
    if isinstance(value, Tensor) and value.numel() == 1:
        number = value.item()
    is_number = issubclass(type(number), Real) and not isinstance(number, bool)
    # Compared with infinity, since a number may be a symbol of a graph of any length.
    if not is_number or not -math.inf < number < math.inf or not is_allowed(number):
        raise ConfigError(f"{name} must be {rule}, not {shorten(value)}")


def require_whole(
    name: str, value: SupportsIndex, least: int, reason: str = "", *, most: int = LARGEST_INDEX
) -> None:
    """Check a whole number.

    Args:
        name: Name of the option.
        value: What was given for it.
        least: The smallest number that is allowed.
        reason: Why, in words that follow the message.
        most: The largest number that is allowed.

    Raises:
        ConfigError: It is not a whole number from `least` to `most`.
    """
    number = least - 1
    with suppress(TypeError):
        number = number if isinstance(value, bool) else operator.index(value)
    if not least <= number <= most:
        has_limit = most < LARGEST_INDEX or number > most
        rule = f"{least} to {most:,}" if has_limit else f"{least} or more"
        raise ConfigError(f"{name} must be a whole number, {rule}, not {shorten(value)}{reason}")


def require_index(name: str, value: SupportsIndex, count: int) -> None:
    """Raise ConfigError where an option is not the index of one of `count` things."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value not in range(count):
        raise ConfigError(f"{name} {shorten(value)}: one of 0 to {count - 1} was expected.")


def require_callable(name: str, value: object, kind: str) -> None:
    """Raise ConfigError, which says the kind of function, where an option cannot be called."""
    if not callable(value):
        raise ConfigError(f"{name} must be {kind}, not {value!r}")
