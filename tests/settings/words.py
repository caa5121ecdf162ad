"""Settings as typed, applied to a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from regard.settings.binding import bind, parse_settings

T = TypeVar("T", bound=msgspec.Struct)


def apply_settings(config: T, settings: Sequence[str]) -> T:
    """Return a copy of a configuration with settings applied."""
    return bind(type(config), parse_settings(settings), config)
