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
    FieldMapping,
    ParameterMapping,
    label_fields,
    map_blocks,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.base.encoder_checkpoints import BLOCK_FIELDS
from regard.models.vit.model import VitConfig

_PREFIX = "vit."
_BLOCK = {
    "self_attention.query_key_value": (
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    ),
    "attention_residual.norm": ("layernorm_before",),
    "self_attention.output": ("attention.output.dense",),
    "feed_forward_residual.norm": ("layernorm_after",),
    "feed_forward.inner": ("intermediate.dense",),
    "feed_forward.outer": ("output.dense",),
}
_FIELDS = (
    *BLOCK_FIELDS,
    FieldMapping("channels", "num_channels", 3),
    FieldMapping("dropout", "hidden_dropout_prob", 0.0),
)


def _map_parameters(config: VitConfig) -> list[ParameterMapping]:
    embeddings = f"{_PREFIX}embeddings"
    mappings = [
        ParameterMapping("front_end.class_token", (f"{embeddings}.cls_token",)),
        ParameterMapping("front_end.positions", (f"{embeddings}.position_embeddings",)),
        *map_layer("front_end.projection", f"{embeddings}.patch_embeddings.projection"),
        *map_layer("norm", f"{_PREFIX}layernorm"),
    ]
    mappings += map_blocks("blocks", f"{_PREFIX}encoder.layer", config.num_layers, _BLOCK)
    if config.has_pooler:
        mappings += map_layer("pooler", f"{_PREFIX}pooler.dense")
    if config.num_labels:
        mappings += map_layer("head", "classifier")
    return mappings


def _read(fields: Mapping[str, Any]) -> VitConfig:
    values = read_settings(fields, _FIELDS)
    only = {
        "qkv_bias": True,
        "pooler_act": "tanh",
        "pooler_output_size": values["dim"],
        "head_dim": values["dim"] // max(1, values["num_heads"]),
    }
    require_fields(fields, only)
    height, width = _read_size(fields, "image_size", 224)
    patch_height, patch_width = _read_size(fields, "patch_size", 16)
    labels = fields.get("id2label")
    return VitConfig(
        **values,
        height=height,
        width=width,
        patch_height=patch_height,
        patch_width=patch_width,
        num_labels=len(labels) if isinstance(labels, dict) else 2,
    )


def _read_size(fields: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Read height and width, one number where they are equal."""
    value = fields.get(name)
    value = default if value is None else value
    size = value if isinstance(value, list | tuple) else (value, value)
    if len(size) != 2 or not all(type(length) is int for length in size):
        raise ConfigError(
            f"config.json: {name}={value!r}: expected a whole number, or two: height and width."
        )
    return size[0], size[1]


def _drop_missing_heads(config: VitConfig, tensor_names: Set[str]) -> VitConfig:
    """Leave out the head and the pooler where a file has no tensors of them."""
    has_head = "classifier.weight" in tensor_names
    return msgspec.structs.replace(
        config,
        num_labels=config.num_labels if has_head else 0,
        has_pooler=any(name.endswith("pooler.dense.weight") for name in tensor_names),
    )


def _write(config: VitConfig, vocab_size: int) -> dict[str, Any]:  # noqa: ARG001 - has no words
    kind = "vit checkpoints"
    only: dict[str, Any] = {"input": "image", "pooling": "first"}
    if config.num_labels:
        only["has_pooler"] = False
    require_settings(config, only, kind=kind)
    fields = {
        **write_settings(config, _FIELDS, kind=kind),
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if config.num_labels else "ViTModel"],
        "image_size": [config.height, config.width],
        "patch_size": [config.patch_height, config.patch_width],
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
        "initializer_range": 0.02,
    }
    if config.num_labels:
        fields |= label_fields([f"LABEL_{number}" for number in range(config.num_labels)])
    return fields


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
