"""Checks that refuse the patterns a family cannot use, with the reason and what to do."""

from __future__ import annotations

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig


def check_no_decoder(family: str, attention: AttentionConfig) -> None:
    """Check that no pattern of a decoder is set, for an encoder.

    Raises:
        ConfigError: ``attention.decoder`` or ``attention.cross`` has been changed.
    """
    reason = "has no decoder.  Leave it out; attention.pattern is that of its tokens."
    _require_unset(attention, ("decoder", "cross"), f"{family} {reason}")


def check_no_self_attention(family: str, attention: AttentionConfig) -> None:
    """Check that no pattern of self-attention is set, for a family without it.

    Raises:
        ConfigError: A setting other than ``attention.cross`` has been changed.
    """
    reason = (
        "has no self-attention.  "
        "Leave it out; attention.cross is that of the decoder over the source."
    )
    _require_unset(attention, ("pattern", "encoder", "decoder"), f"{family} {reason}")


def check_no_attention(family: str, attention: AttentionConfig, *names: str) -> None:
    """Check that no pattern is set, for a family without attention.

    Args:
        family: Its name.
        attention: The patterns.
        names: Of the settings that it cannot use.

    Raises:
        ConfigError: One of them has been changed.
    """
    reason = "has no attention.  Leave it out; its cost is linear in the length."
    _require_unset(attention, names, f"{family} {reason}")


def _require_unset(attention: AttentionConfig, names: tuple[str, ...], reason: str) -> None:
    default = AttentionConfig()
    for name in names:
        if (value := getattr(attention, name)) != getattr(default, name):
            raise ConfigError(f"attention.{name}={value}: {reason}")
