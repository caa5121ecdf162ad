"""How published checkpoints of BERT name and lay out their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import LabelHead, Layout
from regard.models.base.encoder_checkpoints import (
    Names,
    encoder_fields,
    encoder_layout,
    encoder_values,
    require_alike,
)
from regard.models.bert.model import BertConfig

BERT_NAMES = Names(
    prefix="bert.",
    layer="encoder.layer",
    query_key_value=("attention.self.query", "attention.self.key", "attention.self.value"),
    block={
        "self_attention.output": "attention.output.dense",
        "attention_residual.norm": "attention.output.LayerNorm",
        "feed_forward.inner": "intermediate.dense",
        "feed_forward.outer": "output.dense",
        "feed_forward_residual.norm": "output.LayerNorm",
    },
    head=(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ),
    decoder="cls.predictions.decoder",
    labels=LabelHead("bert.pooler.dense", "classifier"),
)


def _read(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**encoder_values(fields, pad_id=0, has_offset=False))


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    require_alike("bert", config, {"position_offset": 0, "head_activation": config.activation})
    return encoder_fields(config, vocab_size, "Bert")


PUBLISHED: dict[str, Layout] = {"bert": encoder_layout(_read, _write, BERT_NAMES)}
