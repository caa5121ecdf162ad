"""The published checkpoints of Vision Transformers: the layout ``vit`` of `transformers`.

Classifiers (``ViTForImageClassification``) and bare encoders (``ViTModel``), whose vector of an
image goes through a pooler.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import Layout, Place, field_of, require_fields
from regard.models.base.encoder_checkpoints import activation_of, pair_of, published_activation
from regard.models.vit.model import VitConfig

_PREFIX = "vit."
_BLOCK = {
    "attention_residual.norm": "layernorm_before",
    "self_attention.output": "attention.output.dense",
    "feed_forward_residual.norm": "layernorm_after",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
}


def _places(config: VitConfig) -> list[Place]:
    embeddings = f"{_PREFIX}embeddings"
    places = [
        Place("front_end.class_token", (f"{embeddings}.cls_token",)),
        Place("front_end.positions", (f"{embeddings}.position_embeddings",)),
        *pair_of("front_end.projection", f"{embeddings}.patch_embeddings.projection"),
        *pair_of("norm", f"{_PREFIX}layernorm"),
    ]
    for number in range(config.num_layers):
        ours, theirs = f"blocks.{number}", f"{_PREFIX}encoder.layer.{number}"
        maps = (f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value"))
        places += pair_of(f"{ours}.self_attention.query_key_value", *maps)
        for part, name in _BLOCK.items():
            places += pair_of(f"{ours}.{part}", f"{theirs}.{name}")
    if config.has_pooler:
        places += pair_of("pooler", f"{_PREFIX}pooler.dense")
    if config.num_labels:
        places += pair_of("head", "classifier")
    return places


def _read(fields: Mapping[str, Any]) -> VitConfig:
    dim = field_of(fields, "hidden_size", 768)
    require_fields(fields, {"qkv_bias": True, "pooler_act": "tanh", "pooler_output_size": dim})
    height, width = _sides(fields, "image_size", 224)
    patch_height, patch_width = _sides(fields, "patch_size", 16)
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
        "activation": activation_of(fields, "hidden_act"),
        "epsilon": field_of(fields, "layer_norm_eps", 1e-12),
        "num_labels": len(labels) if isinstance(labels, dict) else 2,
    }
    return VitConfig(**values)


def _sides(fields: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Read height and width, one number where they are equal."""
    given = fields.get(name)
    given = default if given is None else given
    sides = given if isinstance(given, list | tuple) else (given, given)
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise ConfigError(
            f"config.json: {name}={given!r}: expected a whole number, or two: height and width."
        )
    return sides[0], sides[1]


def _adapt(config: VitConfig, tensor_names: Set[str]) -> VitConfig:
    has_head = "classifier.weight" in tensor_names
    return msgspec.structs.replace(
        config,
        num_labels=config.num_labels if has_head else 0,
        has_pooler=any(name.endswith("pooler.dense.weight") for name in tensor_names),
    )


def _write(config: VitConfig, vocab_size: int) -> dict[str, Any]:  # noqa: ARG001 - has no words
    wanted: dict[str, Any] = {"input": "image", "pooling": "first"}
    if config.num_labels:
        wanted["has_pooler"] = False
    for name, only in wanted.items():
        if (given := getattr(config, name)) != only:
            raise ConfigError(
                f"model.{name}={given}: the layout vit of transformers has {only} only."
            )
    if config.activation == "swiglu":
        raise ConfigError("model.activation=swiglu: the layout vit of transformers has none gated.")
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
        "hidden_act": published_activation(config.activation),
        "layer_norm_eps": config.epsilon,
        "qkv_bias": True,
        "initializer_range": 0.02,
        **({"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else {}),
        **({"label2id": {label: i for i, label in enumerate(labels)}} if labels else {}),
    }


PUBLISHED: dict[str, Layout] = {
    "vit": Layout(
        read=_read,
        write=_write,
        places=_places,
        prefix=_PREFIX,
        ignored=("embeddings.mask_token",),  # of pre-training on masked patches
        adapt=_adapt,
    )
}
