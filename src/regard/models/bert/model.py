"""BERT and its variants: encoders that are trained to tell masked tokens.

Devlin, Chang, Lee & Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers", 2019;
RoBERTa (Liu et al. 2019): one kind of segment, positions from ``pad_id + 1`` on; DistilBERT (Sanh
et al. 2019): no segments. Next-sentence prediction, which RoBERTa found to be of no use, is left
out. Cost of a pass: O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern
replaces length^2 by its number of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.layers.attention_config import AttentionConfig
from regard.models.base.checkpoint_format import LabelHead, Layout, field_of, require_fields
from regard.models.base.encoder import INITIAL_STD, Encoder, EncoderConfig
from regard.models.base.encoder_checkpoints import (
    BERT_NAMES,
    ONLY,
    ROBERTA_NAMES,
    Names,
    activation_of,
    encoder_fields,
    encoder_layout,
    encoder_values,
    published_activation,
    require_alike,
)
from regard.models.base.pattern_support import require_encoder_only


class BertConfig(EncoderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bert"):
    """The dimensions of a BERT; the defaults are those of BERT base."""


class Bert(Encoder):
    """The encoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: BertConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        require_encoder_only("bert", attention)
        mixers = map(config.block().self_attention, config.patterns(attention))
        super().__init__(config, vocab_size, mixers)


DISTILBERT_NAMES = Names(
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
    labels=LabelHead("pre_classifier", "classifier", activation="relu"),
)


def _read_bert(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**encoder_values(fields, pad_id=0, has_offset=False))


def _write_bert(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    require_alike("bert", config, {"position_offset": 0, "head_activation": config.activation})
    return encoder_fields(config, vocab_size, "Bert")


def _read_roberta(fields: Mapping[str, Any]) -> BertConfig:
    return BertConfig(**encoder_values(fields, pad_id=1, has_offset=True))


def _write_roberta(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    wanted = {"position_offset": config.pad_id + 1, "head_activation": "gelu"}
    require_alike("roberta", config, wanted)
    return encoder_fields(config, vocab_size, "Roberta")


def _read_distilbert(fields: Mapping[str, Any]) -> BertConfig:
    require_fields(fields, ONLY)
    activation = activation_of(fields, "activation")
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


def _write_distilbert(config: BertConfig, vocab_size: int) -> dict[str, Any]:
    wanted = {"position_offset": 0, "num_segments": 0, "has_pooler": False, "epsilon": 1e-12}
    require_alike("distilbert", config, {**wanted, "head_activation": config.activation})
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
        "activation": published_activation(config.activation),
        "max_position_embeddings": config.max_positions,
        "pad_token_id": config.pad_id,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


PUBLISHED: dict[str, Layout] = {
    "bert": encoder_layout(_read_bert, _write_bert, BERT_NAMES),
    "roberta": encoder_layout(_read_roberta, _write_roberta, ROBERTA_NAMES),
    "distilbert": encoder_layout(_read_distilbert, _write_distilbert, DISTILBERT_NAMES),
}
