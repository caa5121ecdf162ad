"""Checks of arguments that are part of no configuration, such as the sizes of a layer."""

from __future__ import annotations

from collections.abc import Callable

from regard.errors import ConfigError
from regard.settings.binding import check_type


def check_count(value: object, name: str, least: int = 1) -> None:
    """Check a size that is not part of a struct, such as the number of token ids.

    Args:
        value: An argument.
        name: Name of the argument, for the message.
        least: Smallest size that is allowed.

    Raises:
        ConfigError: It is not a whole number, or too small.
    """
    number = check_type(value, int, name)
    if not isinstance(number, int) or number < least:
        raise ConfigError(f"{name}={value}: {name} must be {least} or more, not {value}")


def check_number(
    value: object, name: str, allowed: str, is_allowed: Callable[[float], bool]
) -> None:
    """Check a number that is not part of a struct, such as a rate.

    Args:
        value: An argument.
        name: Name of the argument, for the message.
        allowed: What is allowed, in words.
        is_allowed: Returns whether a number is; false for what is not finite.

    Raises:
        ConfigError: It is not a number, or not allowed.

    >>> check_number(1.5, "decay", "at least 0 and below 1", lambda decay: 0 <= decay < 1)
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: decay=1.5: decay must be at least 0 and below 1.
    """
    number = check_type(value, float, name)
    if not isinstance(number, float) or not is_allowed(number):
        raise ConfigError(f"{name}={value}: {name} must be {allowed}.")
