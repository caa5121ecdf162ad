"""Families of models: one folder each, and a registry for each role.

A new family is a folder and a line in the registry of its role (and of its exports below).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, NamedTuple

from regard.layers.attention_config import AttentionConfig
from regard.models.base.checkpoint_format import CheckpointFormat
from regard.models.base.classifier import Classifier
from regard.models.base.decoder import Decoder
from regard.models.base.encoder import Encoder
from regard.models.base.encoder_decoder import EncoderDecoder
from regard.models.base.model import FamilyConfig, Model
from regard.models.base.span_model import SpanModel
from regard.models.base.text_model import TextModel, mask_lengths
from regard.models.bert.hf import BERT_FORMAT
from regard.models.bert.model import Bert, BertConfig
from regard.models.conv_s2s.decoder_only import ConvDecoder
from regard.models.conv_s2s.model import ConvS2S, ConvS2SConfig
from regard.models.distilbert.hf import DISTILBERT_FORMAT
from regard.models.encoder_decoder.model import EncoderDecoderConfig, EncoderDecoderModel
from regard.models.gpt.hf import GPT2_FORMAT
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.llama.hf import LLAMA_FORMAT
from regard.models.longformer.hf import LONGFORMER_FORMAT
from regard.models.longformer.model import Longformer, LongformerConfig
from regard.models.lstm.decoder_only import LstmDecoder
from regard.models.lstm.model import LstmConfig, LstmEncoderDecoder
from regard.models.mesanet.model import MesaNet, MesaNetConfig
from regard.models.patch_tst.model import PatchTst, PatchTstConfig
from regard.models.roberta.hf import ROBERTA_FORMAT
from regard.models.transformer.decoder_only import TransformerDecoder
from regard.models.transformer.encoder_only import TransformerEncoder
from regard.models.transformer.hf import BART_FORMAT, MARIAN_FORMAT
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig
from regard.models.vit.hf import VIT_FORMAT
from regard.models.vit.model import Vit, VitConfig


def _own_summary(config: FamilyConfig, attention: AttentionConfig) -> str:
    return config.summary(attention)


class Family(NamedTuple):
    """A family of models of text, in one role.

    Args:
        config: Its settings.
        model: Builds the model from settings, vocabulary size and patterns.
        formats: Formats of its published checkpoints.
        summary: Describes the dimensions in a line, from settings and patterns.
    """

    config: type[FamilyConfig]
    model: Callable[[Any, int, AttentionConfig], TextModel]
    formats: tuple[CheckpointFormat, ...] = ()
    summary: Callable[[Any, AttentionConfig], str] = _own_summary


class InputFamily(NamedTuple):
    """A family that reads images or rows of features instead of tokens.

    Args:
        config: Its settings.
        model: Builds the model from settings and patterns.
        formats: Formats of its published checkpoints.
        summary: Describes the dimensions in a line, from settings and patterns.
    """

    config: type[FamilyConfig]
    model: Callable[[Any, AttentionConfig], Model]
    formats: tuple[CheckpointFormat, ...] = ()
    summary: Callable[[Any, AttentionConfig], str] = _own_summary


ENCODER_DECODERS: dict[str, Family] = {
    "transformer": Family(TransformerConfig, Transformer, (MARIAN_FORMAT, BART_FORMAT)),
    "lstm": Family(LstmConfig, LstmEncoderDecoder),
    "conv_s2s": Family(ConvS2SConfig, ConvS2S),
    "encoder_decoder": Family(EncoderDecoderConfig, EncoderDecoderModel),
}
"""Families that read a source and write a target."""
DECODERS: dict[str, Family] = {
    "gpt": Family(GptConfig, Gpt, (GPT2_FORMAT, LLAMA_FORMAT)),
    "transformer_xl": Family(TransformerXlConfig, TransformerXl),
    "mesanet": Family(MesaNetConfig, MesaNet),
    "transformer": Family(
        TransformerConfig, TransformerDecoder, summary=TransformerConfig.decoder_summary
    ),
    "lstm": Family(LstmConfig, LstmDecoder, summary=LstmConfig.decoder_summary),
    "conv_s2s": Family(ConvS2SConfig, ConvDecoder, summary=ConvS2SConfig.decoder_summary),
}
"""Families that continue a text."""
ENCODERS: dict[str, Family] = {
    "bert": Family(BertConfig, Bert, (BERT_FORMAT, ROBERTA_FORMAT, DISTILBERT_FORMAT)),
    "longformer": Family(LongformerConfig, Longformer, (LONGFORMER_FORMAT,)),
    "transformer": Family(
        TransformerConfig, TransformerEncoder, summary=TransformerConfig.encoder_summary
    ),
}
"""Families that read a text in both directions."""
INPUT_ENCODERS: dict[str, InputFamily] = {"vit": InputFamily(VitConfig, Vit, (VIT_FORMAT,))}
"""Families that read images, frames of recordings, or series, and give labels."""
FORECASTERS: dict[str, InputFamily] = {"patch_tst": InputFamily(PatchTstConfig, PatchTst)}
"""Families that read the history of a series and give quantiles of what follows."""

FAMILIES = DECODERS | ENCODERS | ENCODER_DECODERS
"""All families of text; one with several roles is here as the encoder-decoder."""
CHECKPOINT_FORMATS: dict[str, CheckpointFormat] = {
    layout.model_type: layout for family in FAMILIES.values() for layout in family.formats
}
"""Formats of published checkpoints of text, by their ``model_type``."""
INPUT_CHECKPOINT_FORMATS: dict[str, CheckpointFormat] = {
    layout.model_type: layout for family in INPUT_ENCODERS.values() for layout in family.formats
}
"""Formats of published checkpoints of models without text, by their ``model_type``."""

if TYPE_CHECKING:
    ModelConfig = FamilyConfig
else:
    _ALL = ENCODER_DECODERS | FAMILIES | INPUT_ENCODERS | FORECASTERS
    ModelConfig = reduce(or_, [family.config for family in _ALL.values()])
    """The settings of any family; the setting ``family`` names it."""


def family_of(config: ModelConfig) -> str:
    """Return the name of a configuration's family.

    >>> family_of(ConvS2SConfig())
    'conv_s2s'
    """
    return str(config.__struct_config__.tag)


def make_model(config: ModelConfig, vocab_size: int, attention: AttentionConfig) -> TextModel:
    """Build the model of a configuration with random weights, in its role in `FAMILIES`.

    For another role use its registry: ``DECODERS["lstm"].model(config, 8000, attention)``.

    Args:
        config: Dimensions, of any family.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.

    Returns:
        A model in training mode.

    Raises:
        ConfigError: The family cannot use a pattern that is set.
    """
    return FAMILIES[family_of(config)].model(config, vocab_size, attention)


__all__ = [
    "CHECKPOINT_FORMATS",
    "DECODERS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "FAMILIES",
    "FORECASTERS",
    "INPUT_CHECKPOINT_FORMATS",
    "INPUT_ENCODERS",
    "AttentionConfig",
    "Bert",
    "BertConfig",
    "CheckpointFormat",
    "Classifier",
    "ConvDecoder",
    "ConvS2S",
    "ConvS2SConfig",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderDecoderModel",
    "Family",
    "FamilyConfig",
    "Gpt",
    "GptConfig",
    "InputFamily",
    "Longformer",
    "LongformerConfig",
    "LstmConfig",
    "LstmDecoder",
    "LstmEncoderDecoder",
    "MesaNet",
    "MesaNetConfig",
    "Model",
    "ModelConfig",
    "PatchTst",
    "PatchTstConfig",
    "SpanModel",
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
    "mask_lengths",
]
