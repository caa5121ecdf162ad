"""How published checkpoints of Longformer name and store their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import ParameterMapping, field_of, map_blocks
from regard.models.base.encoder_checkpoints import (
    encoder_format,
    map_encoder,
    read_encoder,
    write_encoder,
)
from regard.models.longformer.model import LongformerConfig
from regard.models.roberta.hf import ROBERTA_NAMES

LONGFORMER_NAMES = ROBERTA_NAMES._replace(prefix="longformer.")
_END_ID = 2  # of `transformers`, where config.json names no separator

_GLOBAL_ATTENTION = {
    "self_attention.global_query": ("attention.self.query_global",),
    "self_attention.global_key_value": (
        "attention.self.key_global",
        "attention.self.value_global",
    ),
}


def _map_parameters(config: LongformerConfig) -> list[ParameterMapping]:
    blocks = "longformer.encoder.layer"
    return [
        *map_encoder(config, names=LONGFORMER_NAMES),
        *map_blocks("blocks", blocks, config.num_layers, _GLOBAL_ATTENTION),
    ]


def _read(fields: Mapping[str, Any]) -> LongformerConfig:
    window = fields.get("attention_window", 512)
    if isinstance(window, list):
        window = tuple(window)
    sizes = window if isinstance(window, tuple) else (window,)
    if not all(type(size) is int for size in sizes):
        raise ConfigError(
            f"config.json: attention_window={window!r}: expected a whole number or a list of them."
        )
    values = read_encoder(fields, pad_id=1, has_offset=True)
    # Without a mask of global tokens `transformers` has the first for classification, those of the
    # question for answers, and none for all else.
    listed = fields.get("architectures")
    names = [str(name) for name in (listed if isinstance(listed, list) else [listed])]
    classifies = any(name.endswith("ForSequenceClassification") for name in names)
    answers = any(name.endswith("ForQuestionAnswering") for name in names)
    return LongformerConfig(
        **values,
        window=window,
        num_global=field_of(fields, "num_global", int(classifies)),
        question_end_id=field_of(fields, "sep_token_id", _END_ID) if answers else None,
    )


def _write(config: LongformerConfig, vocab_size: int) -> dict[str, Any]:
    only = {"position_offset": config.pad_id + 1, "head_activation": "gelu"}
    return {
        **write_encoder(config, vocab_size, "Longformer", only),
        "attention_window": list(config.windows()),
        "num_global": config.num_global,
        **({} if config.question_end_id is None else {"sep_token_id": config.question_end_id}),
    }


LONGFORMER_FORMAT = encoder_format(
    "longformer",
    _read,
    _write,
    LONGFORMER_NAMES,
    map_parameters=_map_parameters,
    tokenizer_class="LongformerTokenizer",
    has_global_questions=True,
)
"""Checkpoints of Longformer."""
