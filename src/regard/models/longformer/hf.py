"""How published checkpoints of Longformer name and lay out their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import Layout, Place, field_of
from regard.models.base.encoder_checkpoints import (
    Names,
    encoder_fields,
    encoder_layout,
    encoder_places,
    encoder_values,
    pair_of,
    require_alike,
)
from regard.models.longformer.model import LongformerConfig
from regard.models.roberta.hf import ROBERTA_NAMES

LONGFORMER_NAMES = ROBERTA_NAMES._replace(prefix="longformer.")


def _places(config: LongformerConfig, *, names: Names = LONGFORMER_NAMES) -> list[Place]:
    places = encoder_places(config, names=names)
    for number in range(config.num_layers):
        ours = f"blocks.{number}.self_attention"
        theirs = f"{names.prefix}{names.layer}.{number}.attention.self"
        places += pair_of(f"{ours}.global_query", f"{theirs}.query_global")
        places += pair_of(
            f"{ours}.global_key_value", f"{theirs}.key_global", f"{theirs}.value_global"
        )
    return places


def _read(fields: Mapping[str, Any]) -> LongformerConfig:
    window = fields.get("attention_window", 512)
    if isinstance(window, list):
        window = tuple(window)
    sizes = window if isinstance(window, tuple) else (window,)
    if not all(type(size) is int for size in sizes):
        raise ConfigError(
            f"config.json: attention_window={window!r}: expected a whole number or a list of them."
        )
    values = encoder_values(fields, pad_id=1, has_offset=True)
    # Without a mask of global tokens `transformers` has the first for classification only.
    names = fields.get("architectures") or []
    classifies = any(str(name).endswith("ForSequenceClassification") for name in names)
    num_global = field_of(fields, "num_global", int(classifies))
    return LongformerConfig(**values, window=window, num_global=num_global)


def _write(config: LongformerConfig, vocab_size: int) -> dict[str, Any]:
    wanted = {"position_offset": config.pad_id + 1, "head_activation": "gelu"}
    require_alike("longformer", config, wanted)
    return {
        **encoder_fields(config, vocab_size, "Longformer"),
        "attention_window": list(config.windows()),
        "num_global": config.num_global,
    }


PUBLISHED: dict[str, Layout] = {
    "longformer": encoder_layout(_read, _write, LONGFORMER_NAMES, places=_places)
}
