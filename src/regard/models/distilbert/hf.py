"""How published checkpoints of DistilBERT name and store the weights of a `Bert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import (
    FieldMapping,
    LabelHead,
    read_settings,
    require_fields,
    require_settings,
    under_own_names,
    write_settings,
)
from regard.models.base.encoder import INITIAL_STD
from regard.models.base.encoder_checkpoints import (
    ACTIVATIONS,
    ONLY_SETTINGS,
    ONLY_VARIANT,
    TensorNames,
    encoder_format,
)
from regard.models.bert.model import BertConfig

DISTILBERT_NAMES = TensorNames(
    prefix="distilbert.",
    blocks="transformer.layer",
    block={
        "self_attention.query_key_value": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "self_attention.output": ("attention.out_lin",),
        "attention_residual.norm": ("sa_layer_norm",),
        "feed_forward.inner": ("ffn.lin1",),
        "feed_forward.outer": ("ffn.lin2",),
        "feed_forward_residual.norm": ("output_layer_norm",),
    },
    head=("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    decoder="vocab_projector",
    label_head=LabelHead("pre_classifier", "classifier", activation="relu"),
)


_FIELDS = (
    FieldMapping("num_layers", "n_layers", 6),
    FieldMapping("dim", "dim", 768),
    FieldMapping("num_heads", "n_heads", 12),
    FieldMapping("hidden_dim", "hidden_dim", 3072),
    FieldMapping("dropout", "dropout", 0.1),
    FieldMapping("activation", "activation", "gelu", ACTIVATIONS),
    FieldMapping("max_positions", "max_position_embeddings", 512),
    FieldMapping("pad_id", "pad_token_id", 0),
)
_ALIASES = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
}


def _read(fields: Mapping[str, Any]) -> BertConfig:
    require_fields(fields, ONLY_VARIANT)
    fields = under_own_names(fields, _ALIASES)
    values = read_settings(fields, _FIELDS)
    return BertConfig(**values, head_activation=values["activation"], num_segments=0)


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    kind = "distilbert checkpoints"
    only = {"position_offset": 0, "num_segments": 0, "has_pooler": False, "epsilon": 1e-12}
    only["head_activation"] = config.activation
    require_settings(config, ONLY_SETTINGS | only, kind=kind)
    return {
        **write_settings(config, _FIELDS, kind=kind),
        "model_type": "distilbert",
        "architectures": ["DistilBertForMaskedLM" if config.has_mlm_head else "DistilBertModel"],
        "vocab_size": vocab_size,
        "attention_dropout": 0.0,
        "seq_classif_dropout": config.dropout,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


DISTILBERT_FORMAT = encoder_format(
    "distilbert", _read, _write, DISTILBERT_NAMES, tokenizer_class="DistilBertTokenizer"
)
"""Checkpoints of DistilBERT."""
