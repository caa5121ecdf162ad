"""How GPT-2 checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_gpt2``). A variant that `Gpt` does not
compute is refused by the field that asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from regard.layers.feed_forward import Activation
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
    under_own_names,
    write_settings,
)
from regard.models.gpt.model import GptConfig

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
}
"""Activations of networks without gates, by their published names."""
_ONLY_VARIANT = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


_FIELDS = (
    FieldMapping("num_layers", "n_layer", 12),
    FieldMapping("dim", "n_embd", 768),
    FieldMapping("num_heads", "n_head", 12),
    FieldMapping("max_positions", "n_positions", 1024),
    FieldMapping("activation", "activation_function", "gelu_new", ACTIVATIONS),
    # GPT has three dropout rates; that of the sub-layers is taken for all.
    FieldMapping("dropout", "resid_pdrop", 0.1),
    FieldMapping("epsilon", "layer_norm_epsilon", 1e-5),
    FieldMapping("tied", "tie_word_embeddings", True),
)
_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
_ONLY_SETTINGS: dict[str, Any] = {"positions": "learned", "norm_kind": "layer", "bias": True}
PLAIN_ATTENTION: Mapping[str, Any] = {"qk_norm": False, "window": 0}
"""Settings of attention that looks back at all tokens, without norms of queries and keys."""
PLAIN_BLOCK: Mapping[str, Any] = {
    "norm": "pre",
    "parallel_residual": False,
    "rotary_fraction": 1.0,
    "local_rotary_base": None,
    "position_offset": 0,
    "query_pre_attn_scalar": None,
    "attention_soft_cap": None,
    "logit_soft_cap": None,
    "has_embedding_scale": False,
}
"""Settings of all formats that have no field for others."""
_BLOCK = {
    "self_attention.query_key_value": ("attn.c_attn",),
    "self_attention.output": ("attn.c_proj",),
    "feed_forward.inner": ("mlp.c_fc",),
    "feed_forward.outer": ("mlp.c_proj",),
    "attention_residual.norm": ("ln_1",),
    "feed_forward_residual.norm": ("ln_2",),
}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    require_fields(fields, _ONLY_VARIANT)
    fields = under_own_names(fields, _ALIASES)
    values = read_settings(fields, _FIELDS) | _ONLY_SETTINGS
    return GptConfig(**values, hidden_dim=field_of(fields, "n_inner", 4 * values["dim"]))


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind = "gpt2 checkpoints"
    only = {
        "num_kv_heads": config.num_heads,
        "head_dim": config.dim // config.num_heads,
        **dict.fromkeys(("attention_bias", "qkv_bias"), True),
        **PLAIN_ATTENTION,
        **PLAIN_BLOCK,
    }
    require_settings(complete_sizes(config), _ONLY_SETTINGS | only, kind=kind)
    return {
        **write_settings(config, _FIELDS, kind=kind),
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_inner": config.hidden_dim,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    mappings = map_tables(config.tied, "transformer.wte.weight")
    mappings.append(ParameterMapping("embedding.positions.weight", ("transformer.wpe.weight",)))
    for mapping in map_blocks("blocks", "transformer.h", config.num_layers, _BLOCK):
        is_matrix = mapping.local.endswith(".weight") and "norm" not in mapping.local
        mappings.append(mapping._replace(is_transposed=is_matrix))
    return [*mappings, *map_layer("norm", "transformer.ln_f")]


def with_every_bias(config: GptConfig) -> GptConfig:
    """Return the configuration with what its biases of attention follow, where none are set."""
    block = config.block()
    of_attention = block.has_attention_bias
    of_inputs = of_attention if config.qkv_bias is None else config.qkv_bias
    return msgspec.structs.replace(config, attention_bias=of_attention, qkv_bias=of_inputs)


def complete_sizes(config: GptConfig) -> GptConfig:
    """Return the configuration with the usual biases and sizes of heads, where none are set."""
    return msgspec.structs.replace(
        with_every_bias(config),
        num_kv_heads=config.num_kv_heads or config.num_heads,
        head_dim=config.size_of_head,
    )


def map_tables(
    tied: bool, remote: str, *, output: str = "lm_head.weight"
) -> list[ParameterMapping]:
    """Return the mappings of the tables of input and output; a tied one has the input's name.

    Args:
        tied: Whether they are one table.
        remote: Published name of the input's table.
        output: Published name of the output's.

    Returns:
        One mapping or two.
    """
    if tied:
        return [ParameterMapping("output_weight", (remote,))]
    return [
        ParameterMapping("embedding.weight", (remote,)),
        ParameterMapping("output_weight", (output,)),
    ]


GPT2_FORMAT = CheckpointFormat(
    "gpt2",
    _read,
    _write,
    _map_parameters,
    prefix="transformer.",
    ignored=(".attn.bias", ".attn.masked_bias"),
    tied_names={"lm_head.weight": "transformer.wte.weight"},
    tokenizer_class="GPT2Tokenizer",
)
"""Checkpoints of GPT-2."""
