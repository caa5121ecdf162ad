"""The published checkpoints of Vision Transformers: the format ``vit`` of `transformers`.

Classifiers (``ViTForImageClassification``) and bare encoders (``ViTModel``), whose vector of an
image goes through a pooler.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    ParameterMapping,
    field_of,
    map_layer,
    published_activation,
    read_activation,
    require_fields,
    require_settings,
)
from regard.models.base.encoder_checkpoints import ACTIVATIONS
from regard.models.vit.model import VitConfig

_PREFIX = "vit."
_BLOCK = {
    "attention_residual.norm": "layernorm_before",
    "self_attention.output": "attention.output.dense",
    "feed_forward_residual.norm": "layernorm_after",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
}


def _map_parameters(config: VitConfig) -> list[ParameterMapping]:
    embeddings = f"{_PREFIX}embeddings"
    mappings = [
        ParameterMapping("front_end.class_token", (f"{embeddings}.cls_token",)),
        ParameterMapping("front_end.positions", (f"{embeddings}.position_embeddings",)),
        *map_layer("front_end.projection", f"{embeddings}.patch_embeddings.projection"),
        *map_layer("norm", f"{_PREFIX}layernorm"),
    ]
    for number in range(config.num_layers):
        local, remote = f"blocks.{number}", f"{_PREFIX}encoder.layer.{number}"
        stacked = (f"{remote}.attention.attention.{part}" for part in ("query", "key", "value"))
        mappings += map_layer(f"{local}.self_attention.query_key_value", *stacked)
        for layer, name in _BLOCK.items():
            mappings += map_layer(f"{local}.{layer}", f"{remote}.{name}")
    if config.has_pooler:
        mappings += map_layer("pooler", f"{_PREFIX}pooler.dense")
    if config.num_labels:
        mappings += map_layer("head", "classifier")
    return mappings


def _read(fields: Mapping[str, Any]) -> VitConfig:
    dim = field_of(fields, "hidden_size", 768)
    require_fields(fields, {"qkv_bias": True, "pooler_act": "tanh", "pooler_output_size": dim})
    height, width = _read_size(fields, "image_size", 224)
    patch_height, patch_width = _read_size(fields, "patch_size", 16)
    labels = fields.get("id2label")
    values = {
        "height": height,
        "width": width,
        "channels": field_of(fields, "num_channels", 3),
        "patch_height": patch_height,
        "patch_width": patch_width,
        "num_layers": field_of(fields, "num_hidden_layers", 12),
        "dim": dim,
        "num_heads": field_of(fields, "num_attention_heads", 12),
        "hidden_dim": field_of(fields, "intermediate_size", 3072),
        "dropout": field_of(fields, "hidden_dropout_prob", 0.0),
        "activation": read_activation(fields, "hidden_act", "gelu", ACTIVATIONS),
        "epsilon": field_of(fields, "layer_norm_eps", 1e-12),
        "num_labels": len(labels) if isinstance(labels, dict) else 2,
    }
    return VitConfig(**values)


def _read_size(fields: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Read height and width, one number where they are equal."""
    value = fields.get(name)
    value = default if value is None else value
    sides = value if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise ConfigError(
            f"config.json: {name}={value!r}: expected a whole number, or two: height and width."
        )
    return sides[0], sides[1]


def _drop_missing_heads(config: VitConfig, tensor_names: Set[str]) -> VitConfig:
    """Leave out the head and the pooler where a file has no tensors of them."""
    has_head = "classifier.weight" in tensor_names
    return msgspec.structs.replace(
        config,
        num_labels=config.num_labels if has_head else 0,
        has_pooler=any(name.endswith("pooler.dense.weight") for name in tensor_names),
    )


def _write(config: VitConfig, vocab_size: int) -> dict[str, Any]:  # noqa: ARG001 - has no words
    only: dict[str, Any] = {"input": "image", "pooling": "first"}
    if config.num_labels:
        only["has_pooler"] = False
    require_settings(config, only, kind="vit checkpoints")
    labels = [f"LABEL_{number}" for number in range(config.num_labels)]
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if labels else "ViTModel"],
        "image_size": [config.height, config.width],
        "patch_size": [config.patch_height, config.patch_width],
        "num_channels": config.channels,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.dim,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden_dim,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": published_activation(config.activation, "vit", ACTIVATIONS),
        "layer_norm_eps": config.epsilon,
        "qkv_bias": True,
        "initializer_range": 0.02,
        **({"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else {}),
        **({"label2id": {label: i for i, label in enumerate(labels)}} if labels else {}),
    }


VIT_FORMAT = CheckpointFormat(
    "vit",
    _read,
    _write,
    _map_parameters,
    prefix=_PREFIX,
    ignored=("embeddings.mask_token",),  # of pre-training on masked patches
    adapt=_drop_missing_heads,
)
"""Checkpoints of Vision Transformers."""
