"""How Llama and SmolLM checkpoints name and lay out the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_llama``). A variant that `Gpt` does not
compute, such as stretched rotary angles, is refused by the field that asks for it: a model with
other logits is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import Layout, Place, field_of, require_fields
from regard.models.gpt.hf import _known, _require, _tables
from regard.models.gpt.model import GptConfig

_LLAMA_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu"}


def _read_llama(fields: Mapping[str, Any]) -> GptConfig:
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
        activation=_known("hidden_act", field_of(fields, "hidden_act", "silu"), _LLAMA_ACTIVATIONS),
        bias=bias,
        positions="rotary",
        max_positions=field_of(fields, "max_position_embeddings", 2048),
        rotary_base=_rotary_base(fields),
        tied=field_of(fields, "tie_word_embeddings", False),
    )


def _rotary_base(fields: Mapping[str, Any]) -> float:
    """Find the base where old and new files have it; refuse angles that grow in other ways."""
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


def _write_llama(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    _require("llama", config, {"positions": "rotary", "norm_kind": "rms", "activation": "swiglu"})
    if config.dim % config.num_heads:
        raise ConfigError(
            f"dim={config.dim}: the layout llama has multiples of num_heads "
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


def _llama_places(config: GptConfig) -> list[Place]:
    places = _tables(config.tied, "model.embed_tokens.weight")
    maps = {
        "self_attention.output": ("self_attn.o_proj",),
        "feed_forward.inner": ("mlp.gate_proj", "mlp.up_proj"),
        "feed_forward.outer": ("mlp.down_proj",),
    }
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    if config.num_kv_heads in (None, config.num_heads):
        maps["self_attention.query_key_value"] = (query, key, value)
    else:
        maps |= {"self_attention.query": (query,), "self_attention.key_value": (key, value)}
    norms = {
        "attention_residual.norm": "input_layernorm",
        "feed_forward_residual.norm": "post_attention_layernorm",
    }
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        for kind in ("weight", "bias") if config.bias else ("weight",):
            places += [
                Place(f"{ours}.{a}.{kind}", tuple(f"{theirs}.{part}.{kind}" for part in parts))
                for a, parts in maps.items()
            ]
        places += [Place(f"{ours}.{a}.weight", (f"{theirs}.{b}.weight",)) for a, b in norms.items()]
    return [*places, Place("norm.weight", ("model.norm.weight",))]


PUBLISHED: dict[str, Layout] = {
    "llama": Layout(
        read=_read_llama,
        write=_write_llama,
        places=_llama_places,
        prefix="model.",
        ignored=(".rotary_emb.inv_freq",),
        twins={"lm_head.weight": "model.embed_tokens.weight"},
    ),
}
