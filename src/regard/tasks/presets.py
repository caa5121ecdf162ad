"""Sizes of model with the batch and rate that suit them, and how `auto` chooses among them.

The figures of the Transformer come from the experiments in ``docs/experiments.md``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models import (
    BertConfig,
    ConvS2SConfig,
    GptConfig,
    LongformerConfig,
    LstmConfig,
    MesaNetConfig,
    ModelConfig,
    TransformerConfig,
    TransformerXlConfig,
    family_of,
)
from regard.tasks.run_config import Preset, RunConfig
from regard.training.config import FULL_BATCH


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
RECIPES: dict[str, dict[str, Recipe]] = {
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


_FEW_EPOCHS = 6.0
WITHOUT_RATE = FULL_BATCH - {"adam-then-cg"}


def drop_dropout(config: RunConfig, epochs: float) -> RunConfig:
    """Turn dropout off where no sentence will be seen often enough to be learned by heart.

    A rate that somebody chose stays.
    """
    chosen = any(setting.startswith("model.dropout=") for setting in config.settings)
    if epochs >= _FEW_EPOCHS or chosen or "dropout" in _changed(config.model):
        return config
    model = msgspec.structs.replace(config.model, dropout=0.0)
    return msgspec.structs.replace(config, model=model)


def suit_full_batch(config: RunConfig) -> RunConfig:
    """Fill in what methods need that see all rows at once, where nothing else was chosen.

    They compare values that differ by less than bf16's rounding, and want them to depend on the
    weights alone: float32, no dropout, no average of the weights.

    Raises:
        ConfigError: bf16 was asked for.
    """
    if config.optimizer.name not in FULL_BATCH:
        return config
    if config.training.precision == "bf16":
        raise ConfigError(
            f"training.precision=bf16: optimizer {config.optimizer.name} compares values that "
            "differ by less than bf16 can tell.  Take float32, or optimizer.name=muon."
        )
    replace = msgspec.structs.replace
    chosen = {setting.partition("=")[0] for setting in config.settings}
    average = config.training.average if "training.average" in chosen else 0.0
    dropout = config.model.dropout if "model.dropout" in chosen else 0.0
    return replace(
        config,
        training=replace(config.training, precision="float32", average=average),
        model=replace(config.model, dropout=dropout),
    )


def choose_preset(num_chars: int) -> Preset:
    """Choose a size by the characters of target text to learn from."""
    if num_chars < 2_000_000:
        return "tiny"
    return "small" if num_chars < 200_000_000 else "base"


def apply_preset(config: RunConfig, preset: Preset) -> RunConfig:
    """Fill in the dimensions, batch size and rate of a preset, where the configuration has none."""
    recipes = RECIPES[family_of(config.model)]
    if preset not in recipes:
        raise ConfigError(f"preset={preset}: one of auto, {', '.join(recipes)} was expected.")
    recipe = recipes[preset]
    replace = msgspec.structs.replace
    training, optimizer = config.training, config.optimizer
    rate = optimizer.learning_rate
    if rate is None and optimizer.name not in WITHOUT_RATE:
        rate = recipe.learning_rate
    return suit_full_batch(
        replace(
            config,
            preset=preset,
            model=replace(recipe.model, **_changed(config.model)),
            training=replace(training, batch_tokens=training.batch_tokens or recipe.batch_tokens),
            optimizer=replace(optimizer, learning_rate=rate),
        )
    )


def _changed(model: ModelConfig) -> dict[str, Any]:
    """Return the fields that differ from their defaults: somebody chose them."""
    default = msgspec.structs.asdict(type(model)())
    given = msgspec.structs.asdict(model)
    return {name: value for name, value in given.items() if value != default[name]}
