"""What follows the name of a pattern in its text form: numbers, as in ``local:2,0``."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import SupportsIndex

from regard.errors import ConfigError

_NUMBER = re.compile(r"[0-9]{1,18}")


def require_whole(call: object, number: SupportsIndex, hint: str = "") -> int:
    """Return a number of a pattern as an int.

    Args:
        call: The pattern, or the call as the caller wrote it; written out for a message alone.
        number: An int, or a whole number of another kind, such as NumPy's.
        hint: A sentence more.

    Returns:
        The number.

    Raises:
        ConfigError: It is not a whole number.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise ConfigError(f"{call}: {number!r} is not a whole number.{hint}")
    return operator.index(number)


def parse_numbers(
    arguments: str | None,
    text_form: str,
    *,
    counts: Sequence[int] | None = None,
    separator: str = ",",
) -> list[int]:
    """Read whole numbers.

    Args:
        arguments: What follows ``name:``; None without a colon.
        text_form: What is expected, for the message.
        counts: How many numbers there may be; None for one or more.
        separator: Between two numbers.

    Returns:
        The numbers, 0 or more each.

    Raises:
        ConfigError: Another count of numbers, or something that is not a whole number.
    """
    parts = [] if arguments is None else arguments.split(separator)
    fits = bool(parts) if counts is None else len(parts) in counts
    if not fits or not all(map(_NUMBER.fullmatch, parts)):
        raise ConfigError(f"expected {text_form}.")
    return [int(part) for part in parts]


def parse_causal_number(arguments: str | None, text_form: str) -> tuple[int, bool]:
    """Return one number, and whether ``,causal`` follows it; else raise ConfigError."""
    is_causal = arguments is not None and arguments.endswith(",causal")
    if arguments is not None:
        arguments = arguments.removesuffix(",causal")
    (number,) = parse_numbers(arguments, text_form, counts=(1,))
    return number, is_causal
