"""Families of models, one file each, registered by what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from regard.layers.patterns import AttentionConfig
from regard.models import bert, gpt_published, longformer, transformer_published
from regard.models.bert import Bert, BertConfig
from regard.models.classifier import Classifier
from regard.models.conv_s2s import ConvS2S, ConvS2SConfig
from regard.models.decoder import Decoder
from regard.models.encoder import Encoder
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.gpt import Gpt, GptConfig
from regard.models.longformer import Longformer, LongformerConfig
from regard.models.lstm import LstmConfig, LstmEncoderDecoder
from regard.models.mesanet import MesaNet, MesaNetConfig
from regard.models.published import Layout
from regard.models.text_model import TextModel
from regard.models.transformer import Transformer, TransformerConfig
from regard.models.transformer_xl import TransformerXl, TransformerXlConfig

ModelConfig = (
    TransformerConfig
    | LstmConfig
    | ConvS2SConfig
    | GptConfig
    | TransformerXlConfig
    | MesaNetConfig
    | BertConfig
    | LongformerConfig
)


class Family(NamedTuple):
    """One family.

    Args:
        config: Its settings.
        model: Makes the model of settings, vocabulary size and patterns.
        layouts: Published ones by their ``model_type``.
    """

    config: type[ModelConfig]
    model: Callable[[Any, int, AttentionConfig], TextModel]
    layouts: Mapping[str, Layout] = {}


ENCODER_DECODERS: dict[str, Family] = {
    "transformer": Family(TransformerConfig, Transformer, transformer_published.PUBLISHED),
    "lstm": Family(LstmConfig, LstmEncoderDecoder),
    "conv_s2s": Family(ConvS2SConfig, ConvS2S),
}
"""Families that read a source and write a target."""
DECODERS: dict[str, Family] = {
    "gpt": Family(GptConfig, Gpt, gpt_published.PUBLISHED),
    "transformer_xl": Family(TransformerXlConfig, TransformerXl),
    "mesanet": Family(MesaNetConfig, MesaNet),
}
"""Families that continue a text."""
ENCODERS: dict[str, Family] = {
    "bert": Family(BertConfig, Bert, bert.PUBLISHED),
    "longformer": Family(LongformerConfig, Longformer, longformer.PUBLISHED),
}
"""Families that read a text in both directions."""
FAMILIES = ENCODER_DECODERS | DECODERS | ENCODERS
LAYOUTS: dict[str, Layout] = {
    model_type: layout
    for family in FAMILIES.values()
    for model_type, layout in family.layouts.items()
}
"""Published layouts of all families by their ``model_type``."""


def family_of(config: ModelConfig) -> str:
    """Name the family of a configuration.

    >>> family_of(ConvS2SConfig())
    'conv_s2s'
    """
    return str(config.__struct_config__.tag)


def make_model(config: ModelConfig, vocab_size: int, attention: AttentionConfig) -> TextModel:
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
    "DECODERS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "FAMILIES",
    "LAYOUTS",
    "Bert",
    "BertConfig",
    "Classifier",
    "ConvS2S",
    "ConvS2SConfig",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Family",
    "Gpt",
    "GptConfig",
    "Longformer",
    "LongformerConfig",
    "LstmConfig",
    "LstmEncoderDecoder",
    "MesaNet",
    "MesaNetConfig",
    "ModelConfig",
    "TextModel",
    "Transformer",
    "TransformerConfig",
    "TransformerXl",
    "TransformerXlConfig",
    "family_of",
    "make_model",
]
