"""How published checkpoints of RoBERTa name and lay out the weights of a `Bert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import LabelHead, Layout
from regard.models.base.encoder_checkpoints import (
    encoder_fields,
    encoder_layout,
    encoder_values,
    require_alike,
)
from regard.models.bert.hf import BERT_NAMES
from regard.models.bert.model import BertConfig

ROBERTA_NAMES = BERT_NAMES._replace(
    prefix="roberta.",
    head=("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    decoder="lm_head.decoder",
    labels=LabelHead(
        "classifier.dense",
        "classifier.out_proj",
        ignored=(".pooler.dense.weight", ".pooler.dense.bias"),
    ),
)


def _read(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**encoder_values(fields, pad_id=1, has_offset=True))


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    wanted = {"position_offset": config.pad_id + 1, "head_activation": "gelu"}
    require_alike("roberta", config, wanted)
    return encoder_fields(config, vocab_size, "Roberta")


PUBLISHED: dict[str, Layout] = {"roberta": encoder_layout(_read, _write, ROBERTA_NAMES)}
