"""How OPT checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_opt``): learned positions begin in the
third row of their table. Tables of another size than the states, and norms after the sub-layers
(both of the model of 350 million) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    map_blocks,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.gpt.hf import (
    ACTIVATIONS,
    PLAIN_ATTENTION,
    PLAIN_BLOCK,
    complete_sizes,
    map_tables,
)
from regard.models.gpt.model import GptConfig

_FIELDS = (
    FieldMapping("num_layers", "num_hidden_layers", 12),
    FieldMapping("dim", "hidden_size", 768),
    FieldMapping("num_heads", "num_attention_heads", 12),
    FieldMapping("hidden_dim", "ffn_dim", 3072),
    FieldMapping("max_positions", "max_position_embeddings", 2048),
    FieldMapping("activation", "activation_function", "relu", ACTIVATIONS),
    FieldMapping("bias", "enable_bias", True),
    FieldMapping("dropout", "dropout", 0.1),
    FieldMapping("tied", "tie_word_embeddings", True),
)
_ONLY_FIELDS = {
    "do_layer_norm_before": True,
    "layer_norm_elementwise_affine": True,
    "_remove_final_layer_norm": False,
}
_SETTINGS: dict[str, Any] = {
    "positions": "learned",
    "position_offset": 2,
    "norm_kind": "layer",
    "epsilon": 1e-5,
}
_STACK, _TABLE = "model.decoder", "model.decoder.embed_tokens.weight"
_QUERY_KEY_VALUE = tuple(f"self_attn.{letter}_proj" for letter in "qkv")
_BLOCK = {
    "self_attention.query_key_value": _QUERY_KEY_VALUE,
    "self_attention.output": ("self_attn.out_proj",),
    "feed_forward.inner": ("fc1",),
    "feed_forward.outer": ("fc2",),
    "attention_residual.norm": ("self_attn_layer_norm",),
    "feed_forward_residual.norm": ("final_layer_norm",),
}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_settings(fields, _FIELDS) | _SETTINGS
    require_fields(fields, _ONLY_FIELDS | {"word_embed_proj_dim": values["dim"]})
    return GptConfig(**values)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind = "opt checkpoints"
    only = {
        **PLAIN_ATTENTION,
        **PLAIN_BLOCK,
        **_SETTINGS,
        "num_kv_heads": config.num_heads,
        **dict.fromkeys(("attention_bias", "qkv_bias"), config.bias),
    }
    require_settings(complete_sizes(config), only, kind=kind)
    if config.dim != config.num_heads * config.size_of_head:
        raise ConfigError(
            f"model.head_dim={config.head_dim}: {kind} have heads of dim / num_heads only."
        )
    return {
        **write_settings(config, _FIELDS, kind=kind),
        **_ONLY_FIELDS,
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "vocab_size": vocab_size,
        "word_embed_proj_dim": config.dim,
        "attention_dropout": 0.0,
        "layerdrop": 0.0,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    positions = ParameterMapping(
        "embedding.positions.weight", (f"{_STACK}.embed_positions.weight",)
    )
    blocks = map_blocks("blocks", f"{_STACK}.layers", config.num_layers, _BLOCK)
    return [
        *map_tables(config.tied, _TABLE),
        positions,
        *(m for m in blocks if config.bias or "norm" in m.local or m.local.endswith(".weight")),
        *map_layer("norm", f"{_STACK}.final_layer_norm"),
    ]


OPT_FORMAT = CheckpointFormat(
    "opt",
    _read,
    _write,
    _map_parameters,
    prefix="model.",
    tied_names={"lm_head.weight": _TABLE},
    tokenizer_class="GPT2Tokenizer",
)
"""Checkpoints of OPT."""
