"""How GPT-NeoX and Pythia checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_gpt_neox``). Attention and feed-forward
network read the same stream, a quarter of each head is rotated, and one tensor has the rows of
query, key and value of the first head, then those of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    field_of,
    map_blocks,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.base.rotary_fields import RotaryFields, write_rotary
from regard.models.gpt.hf import (
    ACTIVATIONS,
    PLAIN_ATTENTION,
    PLAIN_BLOCK,
    complete_sizes,
    map_tables,
)
from regard.models.gpt.model import GptConfig

_FIELDS = (
    FieldMapping("num_layers", "num_hidden_layers", 44),
    FieldMapping("dim", "hidden_size", 6144),
    FieldMapping("num_heads", "num_attention_heads", 64),
    FieldMapping("hidden_dim", "intermediate_size", 24576),
    FieldMapping("epsilon", "layer_norm_eps", 1e-5),
    FieldMapping("activation", "hidden_act", "gelu", ACTIVATIONS),
    FieldMapping("max_positions", "max_position_embeddings", 2048),
    FieldMapping("parallel_residual", "use_parallel_residual", True),
    # NeoX has two dropout rates; that of the sub-layers is taken for both.
    FieldMapping("dropout", "hidden_dropout", 0.0),
    FieldMapping("tied", "tie_word_embeddings", False),
)
_ROTARY = RotaryFields(base="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25)
_ONLY_SETTINGS: dict[str, Any] = {"positions": "rotary", "norm_kind": "layer", "bias": True}
_QUERY_KEY_VALUE = "self_attention.query_key_value"
_BLOCK = {
    _QUERY_KEY_VALUE: ("attention.query_key_value",),
    "self_attention.output": ("attention.dense",),
    "feed_forward.inner": ("mlp.dense_h_to_4h",),
    "feed_forward.outer": ("mlp.dense_4h_to_h",),
    "attention_residual.norm": ("input_layernorm",),
    "feed_forward_residual.norm": ("post_attention_layernorm",),
}
_OUTPUT = "embed_out.weight"


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_settings(fields, _FIELDS) | _ROTARY.read(fields) | _ONLY_SETTINGS
    # `transformers` would take another one for the angles alone.
    require_fields(fields, {"head_dim": values["dim"] // max(1, values["num_heads"])})
    has_bias = field_of(fields, "attention_bias", True)
    return GptConfig(**values, attention_bias=None if has_bias else False)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind, complete = "gpt_neox checkpoints", complete_sizes(config)
    own = ("parallel_residual", "rotary_fraction")
    only = {
        **_ONLY_SETTINGS,
        **PLAIN_ATTENTION,
        **{name: value for name, value in PLAIN_BLOCK.items() if name not in own},
        "num_kv_heads": config.num_heads,
        "qkv_bias": complete.attention_bias,
    }
    require_settings(complete, only, kind=kind)
    if config.dim != config.num_heads * config.size_of_head:
        raise ConfigError(
            f"model.head_dim={config.head_dim}: {kind} have heads of dim / num_heads only."
        )
    fraction = config.rotary_fraction
    return {
        **write_settings(config, _FIELDS, kind=kind),
        **write_rotary(
            config.rotary_base, config.rotary_scaling, config.max_positions, fraction=fraction
        ),
        "rotary_emb_base": config.rotary_base,
        "rotary_pct": fraction,
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": vocab_size,
        "attention_bias": complete.attention_bias,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    has_attention_bias = complete_sizes(config).attention_bias
    mappings = map_tables(config.tied, "gpt_neox.embed_in.weight", output=_OUTPUT)
    for mapping in map_blocks("blocks", "gpt_neox.layers", config.num_layers, _BLOCK):
        is_bias = ".self_attention." in mapping.local and mapping.local.endswith(".bias")
        if has_attention_bias or not is_bias:
            is_fused = f".{_QUERY_KEY_VALUE}." in mapping.local
            interleaved = (3, config.num_heads) if is_fused else (1, 1)
            mappings.append(mapping._replace(interleaved=interleaved))
    return [*mappings, *map_layer("norm", "gpt_neox.final_layer_norm")]


GPT_NEOX_FORMAT = CheckpointFormat(
    "gpt_neox",
    _read,
    _write,
    _map_parameters,
    prefix="gpt_neox.",
    ignored=(".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
    # Releases of transformers from 5 on have that name in memory.
    renamed=(("lm_head.weight", _OUTPUT),),
    tied_names={_OUTPUT: "gpt_neox.embed_in.weight"},
    tokenizer_class="GPTNeoXTokenizer",
)
"""Checkpoints of GPT-NeoX and Pythia."""
