"""Presets of each family: dimensions, batch size and learning rate.

Those of the Transformer come from the experiments in ``docs/experiments.md``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from regard.models import (
    BertConfig,
    ConvS2SConfig,
    EncoderDecoderConfig,
    GptConfig,
    LongformerConfig,
    LstmConfig,
    MesaNetConfig,
    ModelConfig,
    ModernBertConfig,
    PatchTstConfig,
    T5Config,
    TransformerConfig,
    TransformerXlConfig,
    VitConfig,
)
from regard.setup.config import PresetName


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions, target tokens in a batch (at most), and peak learning rate."""

    model: ModelConfig
    batch_tokens: int
    learning_rate: float


FamilyPresets = dict[str, dict[PresetName, Preset]]
"""Presets of each family by their names."""
_BatchAndRate = tuple[int, float]
"""Batch tokens and peak learning rate."""
_SEQ2SEQ: tuple[_BatchAndRate, ...] = (1024, 8e-3), (1024, 6e-3), (4096, 2e-3)
_LANGUAGE_MODEL: tuple[_BatchAndRate, ...] = (2048, 8e-3), (4096, 6e-3), (8192, 2e-3)
_ENCODER: tuple[_BatchAndRate, ...] = (2048, 4e-3), (4096, 3e-3), (8192, 1e-3)


def _presets(
    rates: tuple[_BatchAndRate, ...], *, tiny: ModelConfig, small: ModelConfig, base: ModelConfig
) -> dict[PresetName, Preset]:
    """Combine the dimensions of tiny, small and base with their batch sizes and rates."""
    models: dict[PresetName, ModelConfig] = {"tiny": tiny, "small": small, "base": base}
    return {
        name: Preset(model=model, batch_tokens=batch_tokens, learning_rate=rate)
        for (name, model), (batch_tokens, rate) in zip(models.items(), rates, strict=True)
    }


def _by_family(*presets: dict[PresetName, Preset]) -> FamilyPresets:
    """Return the presets of families by the names that the families of their models have."""
    return {sizes["tiny"].model.family: sizes for sizes in presets}


_ROTARY_BASE = 10_000.0  # Su et al. 2021
_END_ID = 2  # of every vocabulary of regard, between the two texts of a pair
_FROM_SCRATCH: dict[str, Any] = {
    "norm": "pre",
    "num_segments": 0,
    "pooling": "mean",
    "epsilon": 1e-5,
}
"""Settings of an encoder that starts from random weights."""
_MODERN: dict[str, Any] = {"dropout": 0.1, "pooling": "mean", "rotary_base": _ROTARY_BASE}
"""The same of a ModernBERT: a larger base is for texts of 8,192 tokens (Warner et al. 2024)."""
_TRANSFORMERS: dict[PresetName, TransformerConfig] = {
    "tiny": TransformerConfig(
        num_encoder_layers=2,
        num_decoder_layers=2,
        dim=128,
        num_heads=4,
        hidden_dim=512,
        dropout=0.0,
    ),
    "small": TransformerConfig(
        num_encoder_layers=3, num_decoder_layers=3, dim=256, num_heads=4, hidden_dim=1024
    ),
    "base": TransformerConfig(norm="post"),
}
"""Sizes of the Transformer for translation, and of the parts of an encoder-decoder."""
SEQ2SEQ_PRESETS = _by_family(
    _presets(
        _SEQ2SEQ,
        **{name: replace(sizes, has_copy=True) for name, sizes in _TRANSFORMERS.items()},
    ),
    _presets(
        _SEQ2SEQ,
        tiny=T5Config(
            num_encoder_layers=2,
            num_decoder_layers=2,
            dim=128,
            num_heads=4,
            hidden_dim=512,
            dropout=0.0,
        ),
        small=T5Config(
            num_encoder_layers=3, num_decoder_layers=3, dim=256, num_heads=4, hidden_dim=1024
        ),
        base=T5Config(),  # the paper's "small", section 3.7
    ),
    _presets(
        _SEQ2SEQ,
        tiny=LstmConfig(num_encoder_layers=1, num_decoder_layers=1, dim=192, dropout=0.0),
        small=LstmConfig(dim=384),
        # Luong et al. 2015, section 4.1
        base=LstmConfig(num_encoder_layers=4, num_decoder_layers=4, dim=1000),
    ),
    _presets(
        _SEQ2SEQ,
        tiny=ConvS2SConfig(num_encoder_layers=3, num_decoder_layers=3, dim=128, dropout=0.0),
        small=ConvS2SConfig(num_encoder_layers=4, num_decoder_layers=4, dim=256),
        # Gehring et al. 2017, section 4.2: WMT'16 English-Romanian
        base=ConvS2SConfig(num_encoder_layers=20, num_decoder_layers=20),
    ),
)
"""Presets of encoder-decoders; those of ``encoder_decoder`` are added below. The Transformer copies
(``docs/experiments.md``)."""
LANGUAGE_MODEL_PRESETS = _by_family(
    _presets(
        _LANGUAGE_MODEL,
        tiny=GptConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
        small=GptConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
        base=GptConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
    ),
    _presets(
        _LANGUAGE_MODEL,
        tiny=TransformerXlConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=512, dropout=0.0),
        small=TransformerXlConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerXlConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
    _presets(
        _LANGUAGE_MODEL,
        tiny=MesaNetConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
        small=MesaNetConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
        base=MesaNetConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
    ),
    _presets(
        _LANGUAGE_MODEL,
        tiny=TransformerConfig(
            num_decoder_layers=4, dim=128, num_heads=4, hidden_dim=512, dropout=0.0
        ),
        small=TransformerConfig(num_decoder_layers=6, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerConfig(num_decoder_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
    _presets(
        _LANGUAGE_MODEL,
        tiny=LstmConfig(num_decoder_layers=2, dim=192, dropout=0.0),
        small=LstmConfig(num_decoder_layers=2, dim=512),
        # the large one of Zaremba et al. 2014
        base=LstmConfig(num_decoder_layers=2, dim=1500),
    ),
    _presets(
        _LANGUAGE_MODEL,
        tiny=ConvS2SConfig(num_decoder_layers=6, dim=128, kernel_width=4, dropout=0.0),
        small=ConvS2SConfig(num_decoder_layers=8, dim=256, kernel_width=4),
        # as deep and wide as GCNN-13 of Dauphin et al. 2017
        base=ConvS2SConfig(num_decoder_layers=13, dim=768, kernel_width=4),
    ),
)
"""Presets of decoders; all families have about as many weights as ``gpt``."""
ENCODER_PRESETS = _by_family(
    _presets(
        _ENCODER,
        tiny=BertConfig(num_layers=2, dim=128, num_heads=4, hidden_dim=512, **_FROM_SCRATCH),
        small=BertConfig(num_layers=4, dim=256, num_heads=4, hidden_dim=1024, **_FROM_SCRATCH),
        base=BertConfig(),
    ),
    _presets(
        _ENCODER,
        tiny=LongformerConfig(
            num_layers=2, dim=128, num_heads=4, hidden_dim=512, window=64, **_FROM_SCRATCH
        ),
        small=LongformerConfig(
            num_layers=4, dim=256, num_heads=4, hidden_dim=1024, window=128, **_FROM_SCRATCH
        ),
        base=LongformerConfig(),
    ),
    _presets(
        _ENCODER,
        tiny=ModernBertConfig(num_layers=2, dim=128, num_heads=4, hidden_dim=384, **_MODERN),
        small=ModernBertConfig(num_layers=4, dim=256, num_heads=4, hidden_dim=768, **_MODERN),
        base=ModernBertConfig(),
    ),
    _presets(
        _ENCODER,
        tiny=TransformerConfig(num_encoder_layers=2, dim=128, num_heads=4, hidden_dim=512),
        small=TransformerConfig(num_encoder_layers=4, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerConfig(num_encoder_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
)
"""Presets of encoders of text."""


def _for_questions(name: PresetName, preset: Preset) -> Preset:
    """Return a preset for answers in texts: a small BERT has rotary positions."""
    model = preset.model
    if isinstance(model, BertConfig) and name != "base":
        model = replace(model, rotary_base=_ROTARY_BASE)
    return replace(preset, model=model)


QUESTION_PRESETS: FamilyPresets = {
    family: {name: _for_questions(name, preset) for name, preset in presets.items()}
    for family, presets in ENCODER_PRESETS.items()
}
"""Presets of encoders that find answers: where is relative to the words that are looked for."""
INPUT_PRESETS = _by_family(
    _presets(
        _ENCODER,
        tiny=VitConfig(
            num_layers=4, dim=128, num_heads=4, hidden_dim=256, dropout=0.1, pooling="mean"
        ),
        small=VitConfig(num_layers=6, dim=192, num_heads=4, hidden_dim=576, pooling="mean"),
        base=VitConfig(),
    ),
)
"""Presets of encoders of images, recordings and series."""

_FORECASTER: tuple[_BatchAndRate, ...] = (2048, 2e-3), (4096, 1e-3), (8192, 5e-4)
FORECAST_PRESETS = _by_family(
    _presets(
        _FORECASTER,
        tiny=PatchTstConfig(num_members=3, hidden_dim=128),
        small=PatchTstConfig(num_members=3, dim=128, hidden_dim=512),
        base=PatchTstConfig(num_members=3, num_layers=4, dim=256, num_heads=8, hidden_dim=1024),
    ),
)
"""Presets of forecasters."""


def part_presets(family: str) -> dict[PresetName, Preset]:
    """Return the presets of a family that can be one part of an encoder-decoder."""
    return (ENCODER_PRESETS | LANGUAGE_MODEL_PRESETS)[family]


def part_sizes(family: str, preset: PresetName) -> Any:
    """Return the settings of one part of an encoder-decoder, as large as the Transformer's.

    >>> part_sizes("mesanet", "base").hidden_dim
    1536
    """
    whole = _TRANSFORMERS[preset]
    part: Any = part_presets(family)["small"].model
    return replace(
        part,
        num_layers=whole.num_encoder_layers,
        dim=whole.dim,
        num_heads=whole.num_heads,
        hidden_dim=whole.dim * part.hidden_dim // part.dim,
        dropout=whole.dropout,
    )


def _of_parts(name: PresetName) -> EncoderDecoderConfig:
    """Return the sizes of an encoder-decoder of the families that it has by default."""
    default = EncoderDecoderConfig()
    return EncoderDecoderConfig(
        encoder=part_sizes(default.encoder.family, name),
        decoder=part_sizes(default.decoder.family, name),
    )


SEQ2SEQ_PRESETS |= _by_family(
    _presets(_SEQ2SEQ, tiny=_of_parts("tiny"), small=_of_parts("small"), base=_of_parts("base"))
)
SUMMARIZATION_PRESETS: FamilyPresets = {
    family: {
        name: replace(preset, batch_tokens=max(4096, 2 * preset.batch_tokens))
        for name, preset in presets.items()
    }
    for family, presets in SEQ2SEQ_PRESETS.items()
}
"""Presets of encoder-decoders that summarize: batches are counted by the documents, which have
several times the tokens of summaries."""


def _for_answers(preset: Preset) -> Preset:
    """Return a preset for written answers: a Transformer reads which words are in the question."""
    model = preset.model
    if isinstance(model, TransformerConfig):
        model = replace(model, separator_id=_END_ID, positions="rotary")
    return replace(preset, model=model)


WRITTEN_ANSWER_PRESETS: FamilyPresets = {
    family: {name: _for_answers(preset) for name, preset in presets.items()}
    for family, presets in SUMMARIZATION_PRESETS.items()
}
"""Presets of encoder-decoders that write answers: where is relative to the words of a question."""
