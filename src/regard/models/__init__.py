"""Families of models, one file each, registered by what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from regard.layers.attention_config import AttentionConfig
from regard.models.base.checkpoint_format import Layout
from regard.models.base.classifier import Classifier
from regard.models.base.decoder import Decoder
from regard.models.base.encoder import Encoder
from regard.models.base.encoder_decoder import EncoderDecoder
from regard.models.base.model import Model
from regard.models.base.text_model import TextModel
from regard.models.bert import hf as bert_published
from regard.models.bert.model import Bert, BertConfig
from regard.models.conv_s2s import decoder_only as conv_decoder
from regard.models.conv_s2s.decoder_only import ConvDecoder
from regard.models.conv_s2s.model import ConvS2S, ConvS2SConfig
from regard.models.distilbert import hf as distilbert_published
from regard.models.encoder_decoder.model import Joined, JoinedConfig
from regard.models.gpt import hf as gpt_published
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.llama import hf as llama_published
from regard.models.longformer import hf as longformer_published
from regard.models.longformer.model import Longformer, LongformerConfig
from regard.models.lstm import decoder_only as lstm_decoder
from regard.models.lstm.decoder_only import LstmDecoder
from regard.models.lstm.model import LstmConfig, LstmEncoderDecoder
from regard.models.mesanet.model import MesaNet, MesaNetConfig
from regard.models.roberta import hf as roberta_published
from regard.models.transformer import decoder_only as transformer_decoder
from regard.models.transformer import encoder_only as transformer_encoder
from regard.models.transformer import hf as transformer_published
from regard.models.transformer.decoder_only import TransformerDecoder
from regard.models.transformer.encoder_only import TransformerEncoder
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig
from regard.models.vit import hf as vit_published
from regard.models.vit.model import Vit, VitConfig

ModelConfig = (
    TransformerConfig
    | LstmConfig
    | ConvS2SConfig
    | GptConfig
    | TransformerXlConfig
    | MesaNetConfig
    | BertConfig
    | LongformerConfig
    | JoinedConfig
    | VitConfig
)


class Family(NamedTuple):
    """One family.

    Args:
        config: Its settings.
        model: Makes the model of settings, vocabulary size and patterns.
        layouts: Published ones by their ``model_type``.
        summary: Tells the dimensions of the model in a line, where the settings have more than one
            role and tell of another.
    """

    config: type[ModelConfig]
    model: Callable[[Any, int, AttentionConfig], TextModel]
    layouts: Mapping[str, Layout] = {}
    summary: Callable[[Any, AttentionConfig], str] | None = None


class InputFamily(NamedTuple):
    """A family that reads images or rows of features instead of tokens.

    Args:
        config: Its settings.
        model: Makes the model of settings and patterns.
        layouts: Published ones by their ``model_type``.
    """

    config: type[ModelConfig]
    model: Callable[[Any, AttentionConfig], Model]
    layouts: Mapping[str, Layout] = {}


ENCODER_DECODERS: dict[str, Family] = {
    "transformer": Family(TransformerConfig, Transformer, transformer_published.PUBLISHED),
    "lstm": Family(LstmConfig, LstmEncoderDecoder),
    "conv_s2s": Family(ConvS2SConfig, ConvS2S),
    "encoder_decoder": Family(JoinedConfig, Joined),
}
"""Families that read a source and write a target."""
DECODERS: dict[str, Family] = {
    "gpt": Family(GptConfig, Gpt, gpt_published.PUBLISHED | llama_published.PUBLISHED),
    "transformer_xl": Family(TransformerXlConfig, TransformerXl),
    "mesanet": Family(MesaNetConfig, MesaNet),
    "transformer": Family(
        TransformerConfig, TransformerDecoder, summary=transformer_decoder.describe_decoder
    ),
    "lstm": Family(LstmConfig, LstmDecoder, summary=lstm_decoder.describe_decoder),
    "conv_s2s": Family(ConvS2SConfig, ConvDecoder, summary=conv_decoder.describe_decoder),
}
"""Families that continue a text."""
ENCODERS: dict[str, Family] = {
    "bert": Family(
        BertConfig,
        Bert,
        bert_published.PUBLISHED | roberta_published.PUBLISHED | distilbert_published.PUBLISHED,
    ),
    "longformer": Family(LongformerConfig, Longformer, longformer_published.PUBLISHED),
    "transformer": Family(
        TransformerConfig, TransformerEncoder, summary=transformer_encoder.describe_encoder
    ),
}
"""Families that read a text in both directions."""
INPUT_ENCODERS: dict[str, InputFamily] = {
    "vit": InputFamily(VitConfig, Vit, vit_published.PUBLISHED),
}
"""Families that read images, frames of recordings, or series."""
FAMILIES = DECODERS | ENCODERS | ENCODER_DECODERS
"""All families; one that has several roles as the encoder-decoder that its settings describe."""
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
    """Make the model that a configuration describes by itself, as in `FAMILIES`.

    Its weights are random. ``DECODERS["lstm"].model`` and its like make another role of it.

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
    "INPUT_ENCODERS",
    "LAYOUTS",
    "Bert",
    "BertConfig",
    "Classifier",
    "ConvDecoder",
    "ConvS2S",
    "ConvS2SConfig",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Family",
    "Gpt",
    "GptConfig",
    "InputFamily",
    "Joined",
    "JoinedConfig",
    "Longformer",
    "LongformerConfig",
    "LstmConfig",
    "LstmDecoder",
    "LstmEncoderDecoder",
    "MesaNet",
    "MesaNetConfig",
    "Model",
    "ModelConfig",
    "TextModel",
    "Transformer",
    "TransformerConfig",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerXl",
    "TransformerXlConfig",
    "Vit",
    "VitConfig",
    "family_of",
    "make_model",
]
