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
    FieldMapping,
    ParameterMapping,
    field_of,
    map_blocks,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.gpt.hf import map_tables
from regard.models.gpt.model import GptConfig

_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu"}
_FIELDS = (
    FieldMapping("num_layers", "num_hidden_layers", 32),
    FieldMapping("dim", "hidden_size", 4096),
    FieldMapping("num_heads", "num_attention_heads", 32),
    FieldMapping("hidden_dim", "intermediate_size", 11008),
    FieldMapping("epsilon", "rms_norm_eps", 1e-6),
    FieldMapping("activation", "hidden_act", "silu", _ACTIVATIONS),
    FieldMapping("bias", "mlp_bias", False),
    FieldMapping("max_positions", "max_position_embeddings", 2048),
    FieldMapping("tied", "tie_word_embeddings", False),
)
_ONLY_SETTINGS: dict[str, Any] = {"positions": "rotary", "norm_kind": "rms"}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_settings(fields, _FIELDS) | _ONLY_SETTINGS
    bias = values["bias"]
    if field_of(fields, "attention_bias", False) != bias:
        raise ConfigError(
            f"config.json: attention_bias={json.dumps(not bias)}: no such variant here, "
            f"it must equal mlp_bias ({json.dumps(bias)})."
        )
    require_fields(fields, {"partial_rotary_factor": 1.0})
    return GptConfig(
        **values,
        num_kv_heads=field_of(fields, "num_key_value_heads", values["num_heads"]),
        head_dim=field_of(fields, "head_dim", 0) or None,
        dropout=0.0,
        rotary_base=_read_rotary_base(fields),
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
    kind = "llama checkpoints"
    require_settings(config, _ONLY_SETTINGS, kind=kind)
    if config.dim % config.num_heads:
        raise ConfigError(
            f"model.dim={config.dim}: {kind} have multiples of num_heads ({config.num_heads}) only."
        )
    return {
        **write_settings(config, _FIELDS, kind=kind),
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.size_of_head,
        "attention_bias": config.bias,
        # Releases of transformers before 5 read the first, later ones the second.
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    projections = {"self_attention.query_key_value": (query, key, value)}
    if config.num_kv_heads not in (None, config.num_heads):
        projections = {
            "self_attention.query": (query,),
            "self_attention.key_value": (key, value),
        }
    block = {
        "self_attention.output": ("self_attn.o_proj",),
        "feed_forward.inner": ("mlp.gate_proj", "mlp.up_proj"),
        "feed_forward.outer": ("mlp.down_proj",),
        **projections,
        "attention_residual.norm": ("input_layernorm",),
        "feed_forward_residual.norm": ("post_attention_layernorm",),
    }
    return [
        *map_tables(config.tied, "model.embed_tokens.weight"),
        *(
            mapping
            for mapping in map_blocks("blocks", "model.layers", config.num_layers, block)
            # RMS norms have no biases, and linear maps may have none.
            if mapping.local.endswith(".weight") or (config.bias and "norm" not in mapping.local)
        ),
        ParameterMapping("norm.weight", ("model.norm.weight",)),
    ]


LLAMA_FORMAT = CheckpointFormat(
    "llama",
    _read,
    _write,
    _map_parameters,
    prefix="model.",
    ignored=(".rotary_emb.inv_freq",),
    tied_names={"lm_head.weight": "model.embed_tokens.weight"},
    tokenizer_class="LlamaTokenizer",
)
"""Checkpoints of Llama, SmolLM and others that have its format."""
