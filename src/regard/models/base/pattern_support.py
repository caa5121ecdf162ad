"""A check that refuses the patterns a family cannot use, with the reason and what to do."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.base.model import FamilyConfig

# What a family may lack: the settings without a use then, and what to do instead.
_UNUSED = {
    "decoder": (("decoder", "cross"), "attention.pattern is that of its tokens."),
    "self-attention": (
        ("pattern", "encoder", "decoder"),
        "attention.cross is that of the decoder over the source.",
    ),
    "attention": (AttentionConfig.__struct_fields__, "its cost is linear in the length."),
}


def check_patterns(
    config: FamilyConfig,
    attention: AttentionConfig,
    *,
    lacks: Literal["decoder", "self-attention", "attention"],
    allowed: Collection[str] = (),
) -> None:
    """Check that no pattern is set for a part that a family does not have.

    Args:
        config: Of the family.
        attention: The patterns.
        lacks: The part.
        allowed: Settings that the family has all the same.

    Raises:
        ConfigError: A setting without a use has been changed.
    """
    names, advice = _UNUSED[lacks]
    for name in names:
        value = getattr(attention, name)
        if name not in allowed and value != getattr(AttentionConfig(), name):
            raise ConfigError(
                f"attention.{name}={value}: {config.family} has no {lacks}.  Leave it out; {advice}"
            )
