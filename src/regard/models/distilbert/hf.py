"""How published checkpoints of DistilBERT name and store the weights of a `Bert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import (
    LabelHead,
    field_of,
    published_activation,
    read_activation,
    require_fields,
)
from regard.models.base.encoder import INITIAL_STD
from regard.models.base.encoder_checkpoints import (
    ACTIVATIONS,
    ONLY_VARIANT,
    TensorNames,
    encoder_format,
    require_encoder_settings,
)
from regard.models.bert.model import BertConfig

DISTILBERT_NAMES = TensorNames(
    prefix="distilbert.",
    layer="transformer.layer",
    query_key_value=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    block={
        "self_attention.output": "attention.out_lin",
        "attention_residual.norm": "sa_layer_norm",
        "feed_forward.inner": "ffn.lin1",
        "feed_forward.outer": "ffn.lin2",
        "feed_forward_residual.norm": "output_layer_norm",
    },
    head=("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    decoder="vocab_projector",
    label_head=LabelHead("pre_classifier", "classifier", activation="relu"),
)


def _read(fields: Mapping[str, Any]) -> BertConfig:
    require_fields(fields, ONLY_VARIANT)
    activation = read_activation(fields, "activation", "gelu", ACTIVATIONS)
    values = {
        "num_layers": field_of(fields, "n_layers", 6),
        "dim": field_of(fields, "dim", 768),
        "num_heads": field_of(fields, "n_heads", 12),
        "hidden_dim": field_of(fields, "hidden_dim", 3072),
        "dropout": field_of(fields, "dropout", 0.1),
        "activation": activation,
        "head_activation": activation,
        "max_positions": field_of(fields, "max_position_embeddings", 512),
        "num_segments": 0,
        "pad_id": field_of(fields, "pad_token_id", 0),
    }
    return BertConfig(**values)


def _write(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    only = {"position_offset": 0, "num_segments": 0, "has_pooler": False, "epsilon": 1e-12}
    only["head_activation"] = config.activation
    require_encoder_settings(config, "distilbert", only)
    architecture = "DistilBertForMaskedLM" if config.has_mlm_head else "DistilBertModel"
    return {
        "model_type": "distilbert",
        "architectures": [architecture],
        "vocab_size": vocab_size,
        "n_layers": config.num_layers,
        "dim": config.dim,
        "n_heads": config.num_heads,
        "hidden_dim": config.hidden_dim,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "seq_classif_dropout": config.dropout,
        "activation": published_activation(config.activation, "distilbert", ACTIVATIONS),
        "max_position_embeddings": config.max_positions,
        "pad_token_id": config.pad_id,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


DISTILBERT_FORMAT = encoder_format("distilbert", _read, _write, DISTILBERT_NAMES)
"""Checkpoints of DistilBERT."""
