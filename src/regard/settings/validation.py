"""Checks of numbers in settings, called in the ``__post_init__`` of a configuration.

Each takes the configuration and the names of settings, and raises ``ValueError`` in the words that
`regard.settings.binding` asks for. A setting that is `None` passes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


def require_at_least(least: int, config: msgspec.Struct, *names: str) -> None:
    """Refuse settings below `least`.

    >>> class Sizes(msgspec.Struct):
    ...     dim: int = 0
    >>> require_at_least(1, Sizes(), "dim")
    Traceback (most recent call last):
    ...
    ValueError: dim must be 1 or more, not 0
    """
    _require(lambda value: value >= least, f"{least} or more", config, names)


def require_positive(config: msgspec.Struct, *names: str) -> None:
    """Refuse settings that are 0 or below."""
    _require(lambda value: value > 0, "above 0", config, names)


def require_rate(config: msgspec.Struct, *names: str) -> None:
    """Refuse settings that are no part of a whole, such as rates of dropout."""
    _require(lambda value: 0 <= value < 1, "at least 0 and below 1", config, names)


def require_share(config: msgspec.Struct, *names: str) -> None:
    """Refuse settings that are no share of something, of which all is one."""
    _require(lambda value: 0 < value <= 1, "above 0 and at most 1", config, names)


def require_multiple(config: msgspec.Struct, name: str, of: str) -> None:
    """Refuse a setting that is no multiple of another, which is 1 or more."""
    size, part = getattr(config, name), getattr(config, of)
    if size % part:
        raise ValueError(f"{name} must be a multiple of {of} ({part}): {size}")


def require_even_heads(dim: int, num_heads: int) -> None:
    """Refuse a size that is odd, as sinusoids cannot be, or does not fall into heads."""
    if dim < 2 or dim % 2 or dim % num_heads:
        raise ValueError(f"dim must be even and a multiple of num_heads ({num_heads}), not {dim}")


def _require(
    is_allowed: Callable[[float], bool], words: str, config: msgspec.Struct, names: tuple[str, ...]
) -> None:
    for name in names:
        if (value := getattr(config, name)) is not None and not is_allowed(value):
            raise ValueError(f"{name} must be {words}, not {value}")
