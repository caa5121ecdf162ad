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
    ParameterMapping,
    field_of,
    map_layer,
    published_activation,
    read_activation,
    require_fields,
    require_settings,
)
from regard.models.gpt.model import GptConfig

_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
_ONLY_VARIANT = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    """Read a ``config.json``; of its three dropout rates that of the sub-layers holds for all."""
    require_fields(fields, _ONLY_VARIANT)
    dim = field_of(fields, "n_embd", 768)
    return GptConfig(
        num_layers=field_of(fields, "n_layer", 12),
        dim=dim,
        num_heads=field_of(fields, "n_head", 12),
        hidden_dim=field_of(fields, "n_inner", 4 * dim),
        dropout=field_of(fields, "resid_pdrop", 0.1),
        norm_kind="layer",
        epsilon=field_of(fields, "layer_norm_epsilon", 1e-5),
        activation=read_activation(fields, "activation_function", "gelu_new", _ACTIVATIONS),
        bias=True,
        positions="learned",
        max_positions=field_of(fields, "n_positions", 1024),
        tied=field_of(fields, "tie_word_embeddings", True),
    )


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    # Sizes left out are the usual ones.
    complete = msgspec.structs.replace(
        config, num_kv_heads=config.num_kv_heads or config.num_heads, head_dim=config.size_of_head
    )
    only = {
        "positions": "learned",
        "norm_kind": "layer",
        "bias": True,
        "num_kv_heads": config.num_heads,
        "head_dim": config.dim // config.num_heads,
    }
    require_settings(complete, only, kind="gpt2 checkpoints")
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_layer": config.num_layers,
        "n_embd": config.dim,
        "n_head": config.num_heads,
        "n_inner": config.hidden_dim,
        "n_positions": config.max_positions,
        "activation_function": published_activation(config.activation, "gpt2", _ACTIVATIONS),
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "layer_norm_epsilon": config.epsilon,
        "tie_word_embeddings": config.tied,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    mappings = map_tables(config.tied, "transformer.wte.weight")
    mappings.append(ParameterMapping("embedding.positions.weight", ("transformer.wpe.weight",)))
    linear = {
        "self_attention.query_key_value": "attn.c_attn",
        "self_attention.output": "attn.c_proj",
        "feed_forward.inner": "mlp.c_fc",
        "feed_forward.outer": "mlp.c_proj",
    }
    norms = {"attention_residual.norm": "ln_1", "feed_forward_residual.norm": "ln_2"}
    for number in range(config.num_layers):
        local, remote = f"blocks.{number}", f"transformer.h.{number}"
        for layer, name in linear.items():
            weight, bias = map_layer(f"{local}.{layer}", f"{remote}.{name}")
            mappings += [weight._replace(is_transposed=True), bias]
        for layer, name in norms.items():
            mappings += map_layer(f"{local}.{layer}", f"{remote}.{name}")
    return [*mappings, *map_layer("norm", "transformer.ln_f")]


def map_tables(tied: bool, remote: str) -> list[ParameterMapping]:
    """List the mappings of the tables of input and output; a tied one has the input's name.

    Args:
        tied: Whether they are one table.
        remote: Published name of the input's table.
    """
    if tied:
        return [ParameterMapping("output_weight", (remote,))]
    return [
        ParameterMapping("embedding.weight", (remote,)),
        ParameterMapping("output_weight", ("lm_head.weight",)),
    ]


GPT2_FORMAT = CheckpointFormat(
    "gpt2",
    _read,
    _write,
    _map_parameters,
    prefix="transformer.",
    ignored=(".attn.bias", ".attn.masked_bias"),
    tied_names={"lm_head.weight": "transformer.wte.weight"},
)
"""Checkpoints of GPT-2."""
