"""How published checkpoints of BERT name and store their weights (``modeling_bert``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import LabelHead
from regard.models.base.encoder_checkpoints import (
    TensorNames,
    encoder_format,
    read_encoder,
    write_encoder,
)
from regard.models.bert.model import BertConfig

BERT_NAMES = TensorNames(
    prefix="bert.",
    blocks="encoder.layer",
    block={
        "self_attention.query_key_value": (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
        ),
        "self_attention.output": ("attention.output.dense",),
        "attention_residual.norm": ("attention.output.LayerNorm",),
        "feed_forward.inner": ("intermediate.dense",),
        "feed_forward.outer": ("output.dense",),
        "feed_forward_residual.norm": ("output.LayerNorm",),
    },
    head=(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ),
    decoder="cls.predictions.decoder",
    label_head=LabelHead("bert.pooler.dense", "classifier"),
)


def _read(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**read_encoder(fields, pad_id=0, has_offset=False))


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    only = {"position_offset": 0, "head_activation": config.activation}
    return write_encoder(config, vocab_size, "Bert", only)


BERT_FORMAT = encoder_format(
    "bert", _read, _write, BERT_NAMES, tokenizer_class="BertTokenizer", reads_segments=True
)
"""Checkpoints of BERT."""
