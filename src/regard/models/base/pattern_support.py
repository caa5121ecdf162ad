"""Patterns that a family has no use for are refused, with the reason and what to do."""

from __future__ import annotations

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig


def require_encoder_only(family: str, attention: AttentionConfig) -> None:
    """Refuse patterns of a decoder for a family that has none.

    Raises:
        ConfigError: ``attention.decoder`` or ``attention.cross`` has been changed.
    """
    reason = "has no decoder.  Leave it out; attention.pattern tells how its tokens attend."
    _require_unset(attention, ("decoder", "cross"), f"{family} {reason}")


def require_no_self_attention(family: str, attention: AttentionConfig) -> None:
    """Refuse patterns of self-attention for a family that has none.

    Raises:
        ConfigError: A setting other than ``attention.cross`` has been changed.
    """
    reason = (
        "has no self-attention.  "
        "Leave it out; attention.cross tells how the decoder attends to the source."
    )
    _require_unset(attention, ("pattern", "encoder", "decoder"), f"{family} {reason}")


def require_no_attention(family: str, attention: AttentionConfig, *names: str) -> None:
    """Refuse patterns for a family that has no attention.

    Args:
        family: Its name.
        attention: The patterns.
        names: Those that it has no use for.

    Raises:
        ConfigError: One of them has been changed.
    """
    reason = (
        "has no attention, and so no pattern of it.  "
        "Leave it out; its cost is linear in the length."
    )
    _require_unset(attention, names, f"{family} {reason}")


def _require_unset(attention: AttentionConfig, names: tuple[str, ...], reason: str) -> None:
    default = AttentionConfig()
    for name in names:
        if (given := getattr(attention, name)) != getattr(default, name):
            raise ConfigError(f"attention.{name}={given}: {reason}")
