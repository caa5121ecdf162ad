"""Families of models: one folder each, and a registry for each role.

A new family is a folder and a line in the registry of its role (and of its exports below). Its
modules are imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from regard.lazy import Registry, import_lazily, load
from regard.settings.tagged import TaggedStructs

if TYPE_CHECKING:
    from regard.layers.attention_config import AttentionConfig
    from regard.models.base.checkpoint_format import CheckpointFormat
    from regard.models.base.classifier import Classifier
    from regard.models.base.decoder import Decoder
    from regard.models.base.encoder import Encoder
    from regard.models.base.encoder_decoder import EncoderDecoder
    from regard.models.base.model import FamilyConfig, Model
    from regard.models.base.span_model import SpanModel
    from regard.models.base.text_model import TextModel, mask_lengths
    from regard.models.bert.model import Bert, BertConfig
    from regard.models.conv_s2s.decoder_only import ConvDecoder
    from regard.models.conv_s2s.model import ConvS2S, ConvS2SConfig
    from regard.models.encoder_decoder.model import EncoderDecoderConfig, EncoderDecoderModel
    from regard.models.gpt.model import Gpt, GptConfig
    from regard.models.longformer.model import Longformer, LongformerConfig
    from regard.models.lstm.decoder_only import LstmDecoder
    from regard.models.lstm.model import LstmConfig, LstmEncoderDecoder
    from regard.models.mesanet.model import MesaNet, MesaNetConfig
    from regard.models.modernbert.model import ModernBert, ModernBertConfig
    from regard.models.patch_tst.model import PatchTst, PatchTstConfig
    from regard.models.t5.model import T5, T5Config
    from regard.models.transformer.decoder_only import TransformerDecoder
    from regard.models.transformer.encoder_only import TransformerEncoder
    from regard.models.transformer.model import Transformer, TransformerConfig
    from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig
    from regard.models.vit.model import Vit, VitConfig

import_lazily(__name__)


class _LazyFamily:
    """The parts of a family, which are imported when they are first used."""

    def __init__(
        self,
        config: str | type[FamilyConfig],
        model: str | Callable[..., Any],
        formats: Sequence[str] = (),
        summary: str = "summary",
    ) -> None:
        self._config, self._model = config, model
        self.format_names, self._summary = tuple(formats), summary

    @property
    def config(self) -> type[FamilyConfig]:
        """The class of its settings."""
        return _load(self._config)

    @property
    def formats(self) -> tuple[CheckpointFormat, ...]:
        """The formats of its published checkpoints."""
        return tuple(
            (CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS)[name] for name in self.format_names
        )

    def summary(self, config: FamilyConfig, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line, from settings and patterns."""
        return getattr(config, self._summary)(attention)


def _load(part: Any) -> Any:
    """Return a part of a family; one that is named as ``gpt.model.Gpt`` is imported."""
    return load(f"{__name__}.{part}") if isinstance(part, str) else part


M = TypeVar("M", bound="TextModel", covariant=True)


class Family(_LazyFamily, Generic[M]):
    """A family of models of text, in one role, whose base class is the type `M`.

    Args:
        config: The class of its settings, or its name, such as ``gpt.model.GptConfig``.
        model: What builds the model from settings, vocabulary size and patterns, or its name.
        formats: Names of the formats of its published checkpoints.
        summary: Method of the settings that describes the dimensions in a line.
    """

    @property
    def model(self) -> Callable[[Any, int, AttentionConfig], M]:
        """Builds the model from settings, vocabulary size and patterns."""
        return _load(self._model)


class InputFamily(_LazyFamily):
    """A family that reads images or rows of features instead of tokens.

    Args:
        config: The class of its settings, or its name, such as ``vit.model.VitConfig``.
        model: What builds the model from settings and patterns, or its name.
        formats: Names of the formats of its published checkpoints.
        summary: Method of the settings that describes the dimensions in a line.
    """

    @property
    def model(self) -> Callable[[Any, AttentionConfig], Model]:
        """Builds the model from settings and patterns."""
        return _load(self._model)


CHECKPOINT_FORMATS: Registry[CheckpointFormat] = Registry(
    {
        "marian": "regard.models.transformer.hf.MARIAN_FORMAT",
        "bart": "regard.models.transformer.hf.BART_FORMAT",
        "pegasus": "regard.models.transformer.hf.PEGASUS_FORMAT",
        "mbart": "regard.models.transformer.hf.MBART_FORMAT",
        "m2m_100": "regard.models.transformer.hf.M2M100_FORMAT",
        "t5": "regard.models.t5.hf.T5_FORMAT",
        "mt5": "regard.models.t5.hf.MT5_FORMAT",
        "umt5": "regard.models.t5.hf.UMT5_FORMAT",
        "gpt2": "regard.models.gpt.hf.GPT2_FORMAT",
        "gpt_neox": "regard.models.gpt_neox.hf.GPT_NEOX_FORMAT",
        "llama": "regard.models.llama.hf.LLAMA_FORMAT",
        "mistral": "regard.models.mistral.hf.MISTRAL_FORMAT",
        "qwen2": "regard.models.qwen2.hf.QWEN2_FORMAT",
        "qwen3": "regard.models.qwen3.hf.QWEN3_FORMAT",
        "gpt_neo": "regard.models.gpt_neo.hf.GPT_NEO_FORMAT",
        "opt": "regard.models.opt.hf.OPT_FORMAT",
        "olmo2": "regard.models.olmo2.hf.OLMO2_FORMAT",
        "phi3": "regard.models.phi3.hf.PHI3_FORMAT",
        "gemma": "regard.models.gemma.hf.GEMMA_FORMAT",
        "gemma2": "regard.models.gemma2.hf.GEMMA2_FORMAT",
        "gemma3_text": "regard.models.gemma3.hf.GEMMA3_FORMAT",
        "bert": "regard.models.bert.hf.BERT_FORMAT",
        "roberta": "regard.models.roberta.hf.ROBERTA_FORMAT",
        "xlm-roberta": "regard.models.xlm_roberta.hf.XLM_ROBERTA_FORMAT",
        "camembert": "regard.models.camembert.hf.CAMEMBERT_FORMAT",
        "distilbert": "regard.models.distilbert.hf.DISTILBERT_FORMAT",
        "electra": "regard.models.electra.hf.ELECTRA_FORMAT",
        "longformer": "regard.models.longformer.hf.LONGFORMER_FORMAT",
        "modernbert": "regard.models.modernbert.hf.MODERNBERT_FORMAT",
    }
)
"""Formats of published checkpoints of text, by their ``model_type``."""
INPUT_CHECKPOINT_FORMATS: Registry[CheckpointFormat] = Registry(
    {"vit": "regard.models.vit.hf.VIT_FORMAT"}
)
"""Formats of published checkpoints of models without text, by their ``model_type``."""

ENCODER_DECODERS: dict[str, Family[EncoderDecoder]] = {
    "transformer": Family(
        "transformer.model.TransformerConfig",
        "transformer.model.Transformer",
        ("marian", "bart", "pegasus", "mbart", "m2m_100"),
    ),
    "t5": Family("t5.model.T5Config", "t5.model.T5", ("t5", "mt5", "umt5")),
    "lstm": Family("lstm.model.LstmConfig", "lstm.model.LstmEncoderDecoder"),
    "conv_s2s": Family("conv_s2s.model.ConvS2SConfig", "conv_s2s.model.ConvS2S"),
    "encoder_decoder": Family(
        "encoder_decoder.model.EncoderDecoderConfig", "encoder_decoder.model.EncoderDecoderModel"
    ),
}
"""Families that read a source and write a target."""
DECODERS: dict[str, Family[Decoder]] = {
    "gpt": Family(
        "gpt.model.GptConfig",
        "gpt.model.Gpt",
        (
            "gpt2",
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "gpt_neox",
            "gpt_neo",
            "opt",
            "olmo2",
            "phi3",
            "gemma",
            "gemma2",
            "gemma3_text",
        ),
    ),
    "transformer_xl": Family(
        "transformer_xl.model.TransformerXlConfig", "transformer_xl.model.TransformerXl"
    ),
    "mesanet": Family("mesanet.model.MesaNetConfig", "mesanet.model.MesaNet"),
    "transformer": Family(
        "transformer.model.TransformerConfig",
        "transformer.decoder_only.TransformerDecoder",
        summary="decoder_summary",
    ),
    "lstm": Family(
        "lstm.model.LstmConfig", "lstm.decoder_only.LstmDecoder", summary="decoder_summary"
    ),
    "conv_s2s": Family(
        "conv_s2s.model.ConvS2SConfig",
        "conv_s2s.decoder_only.ConvDecoder",
        summary="decoder_summary",
    ),
}
"""Families that continue a text."""
ENCODERS: dict[str, Family[Encoder]] = {
    "bert": Family(
        "bert.model.BertConfig",
        "bert.model.Bert",
        ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"),
    ),
    "longformer": Family(
        "longformer.model.LongformerConfig", "longformer.model.Longformer", ("longformer",)
    ),
    "modernbert": Family(
        "modernbert.model.ModernBertConfig", "modernbert.model.ModernBert", ("modernbert",)
    ),
    "transformer": Family(
        "transformer.model.TransformerConfig",
        "transformer.encoder_only.TransformerEncoder",
        summary="encoder_summary",
    ),
}
"""Families that read a text in both directions."""
INPUT_ENCODERS: dict[str, InputFamily] = {
    "vit": InputFamily("vit.model.VitConfig", "vit.model.Vit", ("vit",))
}
"""Families that read images, frames of recordings, or series, and give labels."""
FORECASTERS: dict[str, InputFamily] = {
    "patch_tst": InputFamily("patch_tst.model.PatchTstConfig", "patch_tst.model.PatchTst")
}
"""Families that read the history of a series and give quantiles of what follows."""

FAMILIES = DECODERS | ENCODERS | ENCODER_DECODERS
"""All families of text; one with several roles is here as the encoder-decoder."""

if TYPE_CHECKING:
    ModelConfig = FamilyConfig
else:
    _ALL = ENCODER_DECODERS | FAMILIES | INPUT_ENCODERS | FORECASTERS
    ModelConfig = TaggedStructs("family", _ALL, lambda family: family.config)
    """The settings of any family; the setting ``family`` names it."""


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
    return FAMILIES[config.family].model(config, vocab_size, attention)


__all__ = [
    "CHECKPOINT_FORMATS",
    "DECODERS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "FAMILIES",
    "FORECASTERS",
    "INPUT_CHECKPOINT_FORMATS",
    "INPUT_ENCODERS",
    "T5",
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
    "ModernBert",
    "ModernBertConfig",
    "PatchTst",
    "PatchTstConfig",
    "SpanModel",
    "T5Config",
    "TextModel",
    "Transformer",
    "TransformerConfig",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerXl",
    "TransformerXlConfig",
    "Vit",
    "VitConfig",
    "make_model",
    "mask_lengths",
]
