"""Sizes of model with the batch and rate that suit them, by family.

The figures of the Transformer come from the experiments in ``docs/experiments.md``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from regard.models import (
    BertConfig,
    ConvS2SConfig,
    GptConfig,
    JoinedConfig,
    LongformerConfig,
    LstmConfig,
    MesaNetConfig,
    ModelConfig,
    TransformerConfig,
    TransformerXlConfig,
    VitConfig,
)
from regard.setup.config import Preset


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One preset: dimensions, most target tokens in a batch, peak learning rate."""

    model: ModelConfig
    batch_tokens: int
    learning_rate: float


Pace = tuple[tuple[int, float], tuple[int, float], tuple[int, float]]
"""Batch tokens and peak learning rate of tiny, small and base."""
SEQUENCE_TO_SEQUENCE: Pace = (1024, 8e-3), (1024, 6e-3), (4096, 2e-3)
LANGUAGE_MODEL: Pace = (2048, 8e-3), (4096, 6e-3), (8192, 2e-3)
ENCODER: Pace = (2048, 4e-3), (4096, 3e-3), (8192, 1e-3)


def sizes_of(
    pace: Pace, *, tiny: ModelConfig, small: ModelConfig, base: ModelConfig
) -> dict[Preset, Recipe]:
    """Give each preset its dimensions and the pace of its role."""
    names: tuple[Preset, ...] = ("tiny", "small", "base")
    return {
        name: Recipe(model=model, batch_tokens=batch_tokens, learning_rate=rate)
        for name, model, (batch_tokens, rate) in zip(names, (tiny, small, base), pace, strict=True)
    }


_FROM_SCRATCH: dict[str, Any] = {
    "norm": "pre",
    "num_segments": 0,
    "pooling": "mean",
    "epsilon": 1e-5,
}
"""What suits an encoder that nobody has trained before."""
RECIPES: dict[str, dict[Preset, Recipe]] = {
    "transformer": sizes_of(
        SEQUENCE_TO_SEQUENCE,
        tiny=TransformerConfig(
            num_encoder_layers=2,
            num_decoder_layers=2,
            dim=128,
            num_heads=4,
            hidden_dim=512,
            dropout=0.0,
        ),
        small=TransformerConfig(
            num_encoder_layers=3,
            num_decoder_layers=3,
            dim=256,
            num_heads=4,
            hidden_dim=1024,
            dropout=0.1,
        ),
        base=TransformerConfig(norm="post"),
    ),
    "lstm": sizes_of(
        SEQUENCE_TO_SEQUENCE,
        tiny=LstmConfig(num_encoder_layers=1, num_decoder_layers=1, dim=192, dropout=0.0),
        small=LstmConfig(dim=384),
        # Luong et al. 2015, section 4.1
        base=LstmConfig(num_encoder_layers=4, num_decoder_layers=4, dim=1000),
    ),
    "conv_s2s": sizes_of(
        SEQUENCE_TO_SEQUENCE,
        tiny=ConvS2SConfig(num_encoder_layers=3, num_decoder_layers=3, dim=128, dropout=0.0),
        small=ConvS2SConfig(num_encoder_layers=4, num_decoder_layers=4, dim=256),
        # Gehring et al. 2017, section 4.2: WMT'16 English-Romanian
        base=ConvS2SConfig(num_encoder_layers=20, num_decoder_layers=20),
    ),
    "bert": sizes_of(
        ENCODER,
        tiny=BertConfig(num_layers=2, dim=128, num_heads=4, hidden_dim=512, **_FROM_SCRATCH),
        small=BertConfig(num_layers=4, dim=256, num_heads=4, hidden_dim=1024, **_FROM_SCRATCH),
        base=BertConfig(),
    ),
    "longformer": sizes_of(
        ENCODER,
        tiny=LongformerConfig(
            num_layers=2, dim=128, num_heads=4, hidden_dim=512, window=64, **_FROM_SCRATCH
        ),
        small=LongformerConfig(
            num_layers=4, dim=256, num_heads=4, hidden_dim=1024, window=128, **_FROM_SCRATCH
        ),
        base=LongformerConfig(),
    ),
    "vit": sizes_of(
        ENCODER,
        tiny=VitConfig(
            num_layers=4,
            dim=128,
            num_heads=4,
            hidden_dim=256,
            dropout=0.1,
            pooling="mean",
        ),
        small=VitConfig(
            num_layers=6,
            dim=192,
            num_heads=4,
            hidden_dim=576,
            pooling="mean",
        ),
        base=VitConfig(),
    ),
    "transformer_xl": sizes_of(
        LANGUAGE_MODEL,
        tiny=TransformerXlConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=512, dropout=0.0),
        small=TransformerXlConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerXlConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
    "mesanet": sizes_of(
        LANGUAGE_MODEL,
        tiny=MesaNetConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
        small=MesaNetConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
        base=MesaNetConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
    ),
    "gpt": sizes_of(
        LANGUAGE_MODEL,
        tiny=GptConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
        small=GptConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
        base=GptConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
    ),
}


def side_of(family: str, preset: Preset) -> Any:
    """Size one side of an encoder-decoder as the Transformer's, to be trained from scratch.

    >>> side_of("mesanet", "base").hidden_dim
    1536
    """
    like, sizes = RECIPES["transformer"][preset].model, RECIPES[family]["small"].model
    assert isinstance(like, TransformerConfig)
    # A gated network of three quarters the width has about as many weights.
    is_gated = isinstance(sizes, GptConfig | MesaNetConfig)
    return msgspec.structs.replace(
        sizes,
        num_layers=like.num_encoder_layers,
        dim=like.dim,
        num_heads=like.num_heads,
        hidden_dim=3 * like.hidden_dim // 4 if is_gated else like.hidden_dim,
        dropout=like.dropout,
    )


RECIPES["encoder_decoder"] = {
    preset: msgspec.structs.replace(
        recipe,
        model=JoinedConfig(encoder=side_of("bert", preset), decoder=side_of("gpt", preset)),
    )
    for preset, recipe in RECIPES["transformer"].items()
}
