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
from regard.tasks.run_config import Preset


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One preset: dimensions, most target tokens in a batch, peak learning rate."""

    model: ModelConfig
    batch_tokens: int
    learning_rate: float


_FROM_SCRATCH: dict[str, Any] = {
    "norm": "pre",
    "num_segments": 0,
    "pooling": "mean",
    "epsilon": 1e-5,
}
"""What suits an encoder that nobody has trained before."""
RECIPES: dict[str, dict[Preset, Recipe]] = {
    "transformer": {
        "tiny": Recipe(
            model=TransformerConfig(
                num_encoder_layers=2,
                num_decoder_layers=2,
                dim=128,
                num_heads=4,
                hidden_dim=512,
                dropout=0.0,
            ),
            batch_tokens=1024,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=TransformerConfig(
                num_encoder_layers=3,
                num_decoder_layers=3,
                dim=256,
                num_heads=4,
                hidden_dim=1024,
                dropout=0.1,
            ),
            batch_tokens=1024,
            learning_rate=6e-3,
        ),
        "base": Recipe(
            model=TransformerConfig(norm="post"),
            batch_tokens=4096,
            learning_rate=2e-3,
        ),
    },
    "lstm": {
        "tiny": Recipe(
            model=LstmConfig(num_encoder_layers=1, num_decoder_layers=1, dim=192, dropout=0.0),
            batch_tokens=1024,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=LstmConfig(dim=384),
            batch_tokens=1024,
            learning_rate=6e-3,
        ),
        "base": Recipe(  # Luong et al. 2015, section 4.1
            model=LstmConfig(num_encoder_layers=4, num_decoder_layers=4, dim=1000),
            batch_tokens=4096,
            learning_rate=2e-3,
        ),
    },
    "conv_s2s": {
        "tiny": Recipe(
            model=ConvS2SConfig(num_encoder_layers=3, num_decoder_layers=3, dim=128, dropout=0.0),
            batch_tokens=1024,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=ConvS2SConfig(num_encoder_layers=4, num_decoder_layers=4, dim=256),
            batch_tokens=1024,
            learning_rate=6e-3,
        ),
        "base": Recipe(  # Gehring et al. 2017, section 4.2: WMT'16 English-Romanian
            model=ConvS2SConfig(num_encoder_layers=20, num_decoder_layers=20),
            batch_tokens=4096,
            learning_rate=2e-3,
        ),
    },
    "bert": {
        "tiny": Recipe(
            model=BertConfig(num_layers=2, dim=128, num_heads=4, hidden_dim=512, **_FROM_SCRATCH),
            batch_tokens=2048,
            learning_rate=4e-3,
        ),
        "small": Recipe(
            model=BertConfig(num_layers=4, dim=256, num_heads=4, hidden_dim=1024, **_FROM_SCRATCH),
            batch_tokens=4096,
            learning_rate=3e-3,
        ),
        "base": Recipe(model=BertConfig(), batch_tokens=8192, learning_rate=1e-3),
    },
    "longformer": {
        "tiny": Recipe(
            model=LongformerConfig(
                num_layers=2, dim=128, num_heads=4, hidden_dim=512, window=64, **_FROM_SCRATCH
            ),
            batch_tokens=2048,
            learning_rate=4e-3,
        ),
        "small": Recipe(
            model=LongformerConfig(
                num_layers=4, dim=256, num_heads=4, hidden_dim=1024, window=128, **_FROM_SCRATCH
            ),
            batch_tokens=4096,
            learning_rate=3e-3,
        ),
        "base": Recipe(model=LongformerConfig(), batch_tokens=8192, learning_rate=1e-3),
    },
    "vit": {
        "tiny": Recipe(
            model=VitConfig(
                num_layers=4,
                dim=128,
                num_heads=4,
                hidden_dim=256,
                dropout=0.1,
                pooling="mean",
            ),
            batch_tokens=2048,
            learning_rate=4e-3,
        ),
        "small": Recipe(
            model=VitConfig(
                num_layers=6,
                dim=192,
                num_heads=4,
                hidden_dim=576,
                pooling="mean",
            ),
            batch_tokens=4096,
            learning_rate=3e-3,
        ),
        "base": Recipe(model=VitConfig(), batch_tokens=8192, learning_rate=1e-3),
    },
    "transformer_xl": {
        "tiny": Recipe(
            model=TransformerXlConfig(
                num_layers=4, dim=128, num_heads=4, hidden_dim=512, dropout=0.0
            ),
            batch_tokens=2048,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=TransformerXlConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=1024),
            batch_tokens=4096,
            learning_rate=6e-3,
        ),
        "base": Recipe(
            model=TransformerXlConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=3072),
            batch_tokens=8192,
            learning_rate=2e-3,
        ),
    },
    "mesanet": {
        "tiny": Recipe(
            model=MesaNetConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
            batch_tokens=2048,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=MesaNetConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
            batch_tokens=4096,
            learning_rate=6e-3,
        ),
        "base": Recipe(
            model=MesaNetConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
            batch_tokens=8192,
            learning_rate=2e-3,
        ),
    },
    "gpt": {
        "tiny": Recipe(
            model=GptConfig(num_layers=4, dim=128, num_heads=4, hidden_dim=384, dropout=0.0),
            batch_tokens=2048,
            learning_rate=8e-3,
        ),
        "small": Recipe(
            model=GptConfig(num_layers=6, dim=256, num_heads=4, hidden_dim=768),
            batch_tokens=4096,
            learning_rate=6e-3,
        ),
        "base": Recipe(
            model=GptConfig(num_layers=12, dim=768, num_heads=12, hidden_dim=2048),
            batch_tokens=8192,
            learning_rate=2e-3,
        ),
    },
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
