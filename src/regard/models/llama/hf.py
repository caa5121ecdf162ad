"""How Llama and SmolLM checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_llama``). A variant that `Gpt` does not
compute, such as stretched rotary angles, is refused by the field that asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    ParameterMapping,
    field_of,
    map_layer,
    read_activation,
    require_fields,
    require_settings,
)
from regard.models.gpt.hf import map_tables
from regard.models.gpt.model import GptConfig

_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu"}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    bias = field_of(fields, "mlp_bias", False)
    if field_of(fields, "attention_bias", False) != bias:
        raise ConfigError(
            f"config.json: attention_bias={json.dumps(not bias)}: no such variant here, "
            f"it must equal mlp_bias ({json.dumps(bias)})."
        )
    require_fields(fields, {"partial_rotary_factor": 1.0})
    num_heads = field_of(fields, "num_attention_heads", 32)
    return GptConfig(
        num_layers=field_of(fields, "num_hidden_layers", 32),
        dim=field_of(fields, "hidden_size", 4096),
        num_heads=num_heads,
        num_kv_heads=field_of(fields, "num_key_value_heads", num_heads),
        head_dim=field_of(fields, "head_dim", 0) or None,
        hidden_dim=field_of(fields, "intermediate_size", 11008),
        dropout=0.0,
        norm_kind="rms",
        epsilon=field_of(fields, "rms_norm_eps", 1e-6),
        activation=read_activation(fields, "hidden_act", "silu", _ACTIVATIONS),
        bias=bias,
        positions="rotary",
        max_positions=field_of(fields, "max_position_embeddings", 2048),
        rotary_base=_read_rotary_base(fields),
        tied=field_of(fields, "tie_word_embeddings", False),
    )


def _read_rotary_base(fields: Mapping[str, Any]) -> float:
    """Read the base where old and new files have it; refuse angles that grow in other ways."""
    base = field_of(fields, "rope_theta", 10000.0)
    for name in ("rope_parameters", "rope_scaling"):  # of transformers from 5 on, and before
        rope = fields.get(name) or {}
        if not isinstance(rope, Mapping):
            raise ConfigError(f"config.json: {name}={json.dumps(rope)}: an object was expected.")
        only = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
        require_fields(
            {f"{name}.{key}": value for key, value in rope.items()},
            {f"{name}.{key}": value for key, value in only.items()},
        )
        base = field_of(rope, "rope_theta", base)
    return base


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    only = {"positions": "rotary", "norm_kind": "rms", "activation": "swiglu"}
    require_settings(config, only, kind="llama checkpoints")
    if config.dim % config.num_heads:
        raise ConfigError(
            f"model.dim={config.dim}: llama checkpoints have multiples of num_heads "
            f"({config.num_heads}) only."
        )
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.dim,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.size_of_head,
        "intermediate_size": config.hidden_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.epsilon,
        "tie_word_embeddings": config.tied,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        # Releases of transformers before 5 read the first, later ones the second.
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    mappings = map_tables(config.tied, "model.embed_tokens.weight")
    linear = {
        "self_attention.output": ("self_attn.o_proj",),
        "feed_forward.inner": ("mlp.gate_proj", "mlp.up_proj"),
        "feed_forward.outer": ("mlp.down_proj",),
    }
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    if config.num_kv_heads in (None, config.num_heads):
        linear["self_attention.query_key_value"] = (query, key, value)
    else:
        linear |= {"self_attention.query": (query,), "self_attention.key_value": (key, value)}
    norms = {
        "attention_residual.norm": "input_layernorm",
        "feed_forward_residual.norm": "post_attention_layernorm",
    }
    kinds = ("weight", "bias") if config.bias else ("weight",)
    for number in range(config.num_layers):
        local, remote = f"blocks.{number}", f"model.layers.{number}"
        for layer, names in linear.items():
            stacked = (f"{remote}.{name}" for name in names)
            mappings += map_layer(f"{local}.{layer}", *stacked, kinds=kinds)
        for layer, name in norms.items():
            mappings += map_layer(f"{local}.{layer}", f"{remote}.{name}", kinds=("weight",))
    return [*mappings, ParameterMapping("norm.weight", ("model.norm.weight",))]


LLAMA_FORMAT = CheckpointFormat(
    "llama",
    _read,
    _write,
    _map_parameters,
    prefix="model.",
    ignored=(".rotary_emb.inv_freq",),
    tied_names={"lm_head.weight": "model.embed_tokens.weight"},
)
"""Checkpoints of Llama, SmolLM and others that have its format."""
