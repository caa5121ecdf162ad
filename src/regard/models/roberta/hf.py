"""How published checkpoints of RoBERTa name and store the weights of a `Bert`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from regard.models.base.checkpoint_format import CheckpointFormat, LabelHead
from regard.models.base.encoder_checkpoints import encoder_format, read_encoder, write_encoder
from regard.models.bert.hf import BERT_NAMES
from regard.models.bert.model import BertConfig

ROBERTA_NAMES = BERT_NAMES._replace(
    prefix="roberta.",
    head=("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    decoder="lm_head.decoder",
    label_head=LabelHead(
        "classifier.dense",
        "classifier.out_proj",
        ignored=(".pooler.dense.weight", ".pooler.dense.bias"),
    ),
)


def _read(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**read_encoder(fields, pad_id=1, has_offset=True))


def _write(
    config: BertConfig, vocab_size: int, *, model_type: str, architecture: str
) -> dict[str, Any]:
    only = {"position_offset": config.pad_id + 1, "head_activation": "gelu"}
    return write_encoder(config, vocab_size, architecture, only, model_type=model_type)


def roberta_format(model_type: str, architecture: str) -> CheckpointFormat:
    """Build the format of checkpoints that are RoBERTa's but for the names of their classes.

    Args:
        model_type: Name in ``config.json``.
        architecture: Beginning of the names of its classes in `transformers`.

    Returns:
        The format.
    """
    write = partial(_write, model_type=model_type, architecture=architecture)
    return encoder_format(
        model_type, _read, write, ROBERTA_NAMES, tokenizer_class=f"{architecture}Tokenizer"
    )


ROBERTA_FORMAT = roberta_format("roberta", "Roberta")
"""Checkpoints of RoBERTa."""
