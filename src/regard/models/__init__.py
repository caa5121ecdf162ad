"""Families of models, one file each; `FAMILIES` names those that translate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from regard.layers.patterns import AttentionConfig
from regard.models.conv_s2s import ConvS2S, ConvS2SConfig
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.lstm import LstmConfig, LstmEncoderDecoder
from regard.models.transformer import Transformer, TransformerConfig

ModelConfig = TransformerConfig | LstmConfig | ConvS2SConfig


class Family(NamedTuple):
    """A family's settings and its model, made of settings, vocabulary size and patterns."""

    config: type[ModelConfig]
    model: Callable[[Any, int, AttentionConfig], EncoderDecoder[Any]]


FAMILIES: dict[str, Family] = {
    "transformer": Family(TransformerConfig, Transformer),
    "lstm": Family(LstmConfig, LstmEncoderDecoder),
    "conv_s2s": Family(ConvS2SConfig, ConvS2S),
}


def family_of(config: ModelConfig) -> str:
    """Name the family of a configuration.

    >>> family_of(ConvS2SConfig())
    'conv_s2s'
    """
    return str(config.__struct_config__.tag)


def make_model(
    config: ModelConfig, vocab_size: int, attention: AttentionConfig
) -> EncoderDecoder[Any]:
    """Make the model of a configuration, with random weights.

    Args:
        config: Dimensions, of any family.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.

    Raises:
        ConfigError: The family has no use for a pattern that is set.
    """
    return FAMILIES[family_of(config)].model(config, vocab_size, attention)


__all__ = [
    "FAMILIES",
    "ConvS2S",
    "ConvS2SConfig",
    "EncoderDecoder",
    "Family",
    "LstmConfig",
    "LstmEncoderDecoder",
    "ModelConfig",
    "Transformer",
    "TransformerConfig",
    "family_of",
    "make_model",
]
