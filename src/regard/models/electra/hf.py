"""How published checkpoints of ELECTRA name and store the weights of a `Bert`.

Generators have the head of masked tokens. That of discriminators, whether a token was replaced, is
of no use to any model here: they are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import LabelHead, field_of
from regard.models.base.encoder_checkpoints import encoder_format, read_encoder, write_encoder
from regard.models.bert.hf import BERT_NAMES
from regard.models.bert.model import BertConfig

ELECTRA_NAMES = BERT_NAMES._replace(
    prefix="electra.",
    head=(
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head.bias",
    ),
    decoder="generator_lm_head",
    label_head=LabelHead("classifier.dense", "classifier.out_proj", activation="gelu"),
)
_DISCRIMINATOR = tuple(
    f"discriminator_predictions.{layer}.{kind}"
    for layer in ("dense", "dense_prediction")
    for kind in ("weight", "bias")
)
_DEFAULTS = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
"""Sizes of `transformers` that are not those of BERT."""
_EMBEDDING_SIZE = 128  # of `transformers`, where config.json names none


def _read(fields: Mapping[str, Any]) -> BertConfig:
    fields = _DEFAULTS | {name: value for name, value in fields.items() if value is not None}
    values = read_encoder(fields, pad_id=0, has_offset=False)
    size = field_of(fields, "embedding_size", _EMBEDDING_SIZE)
    return BertConfig(
        # The generator has gelu in its head whatever the blocks have.
        **values | {"head_activation": "gelu", "has_pooler": False},
        embedding_dim=None if size == values["dim"] else size,
    )


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    only = {
        "position_offset": 0,
        "head_activation": "gelu",
        "has_pooler": False,
        "embedding_dim": config.embedding_dim,
    }
    if config.embedding_dim == config.dim:
        only["embedding_dim"] = None  # `transformers` has no map between equal sizes
    fields = write_encoder(config, vocab_size, "Electra", only)
    return fields | {"embedding_size": config.table_dim}


ELECTRA_FORMAT = encoder_format(
    "electra",
    _read,
    _write,
    ELECTRA_NAMES,
    tokenizer_class="ElectraTokenizer",
    ignored=_DISCRIMINATOR,
    reads_segments=True,
)
"""Checkpoints of ELECTRA."""
