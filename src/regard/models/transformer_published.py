"""How Marian checkpoints name and lay out the weights of a `Transformer`.

Names and defaults are those of ``transformers`` (``modeling_marian``, Junczys-Dowmunt et al. 2018,
the models of OPUS-MT). What `Transformer` does not compute is refused by the field that asks for
it: a model with other logits is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.encoder_decoder import Tied
from regard.models.published import Layout, Place, field_of, require_fields
from regard.models.published_encoders import pair_of
from regard.models.transformer import TransformerConfig

_BIAS = "final_logits_bias"
_SHARED = "model.shared.weight"
_SOURCE, _TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
_OUTPUT = "lm_head.weight"

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
# The last four stand in files of old releases, which knew BART's variants by them.
_ONLY = {
    "is_encoder_decoder": True,
    "is_decoder": False,
    "pruned_heads": {},
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
}
# Sizes that `transformers` has apart for the two sides, with its defaults.
_PAIRS = {
    ("encoder_attention_heads", "decoder_attention_heads"): 16,
    ("encoder_ffn_dim", "decoder_ffn_dim"): 4096,
    ("vocab_size", "decoder_vocab_size"): 58101,
}
_PAD_ID = 58100

_ENCODER_BLOCK = {
    "self_attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.output": ("self_attn.out_proj",),
    "attention_residual.norm": ("self_attn_layer_norm",),
    "feed_forward.inner": ("fc1",),
    "feed_forward.outer": ("fc2",),
    "feed_forward_residual.norm": ("final_layer_norm",),
}
_DECODER_BLOCK = {
    "self_residual.norm" if ours == "attention_residual.norm" else ours: theirs
    for ours, theirs in _ENCODER_BLOCK.items()
} | {
    "cross_attention.query": ("encoder_attn.q_proj",),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.output": ("encoder_attn.out_proj",),
    "cross_residual.norm": ("encoder_attn_layer_norm",),
}


def _read(fields: Mapping[str, Any]) -> TransformerConfig:
    """Read a ``config.json``; of its dropout rates that of the sub-layers holds for all."""
    require_fields(fields, _ONLY)
    num_heads, hidden_dim, _ = (_equal(fields, *names) for names in _PAIRS)
    return TransformerConfig(
        num_encoder_layers=field_of(fields, "encoder_layers", 12),
        num_decoder_layers=field_of(fields, "decoder_layers", 12),
        dim=field_of(fields, "d_model", 1024),
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        dropout=field_of(fields, "dropout", 0.1),
        norm="post",
        activation=_activation(fields),
        positions="sinusoidal_halves",
        max_positions=field_of(fields, "max_position_embeddings", 1024),
        tied=_tied(fields),
        has_embedding_scale=field_of(fields, "scale_embedding", False),
        has_output_bias=True,
        pad_id=field_of(fields, "pad_token_id", _PAD_ID),
        start_id=field_of(fields, "decoder_start_token_id", _PAD_ID),
    )


def _equal(fields: Mapping[str, Any], first: str, second: str) -> int:
    """Read a size that both sides of the model must have alike."""
    default = _PAIRS[first, second]
    one = field_of(fields, first, default)
    other = field_of(fields, second, one if second == "decoder_vocab_size" else default)
    if one != other:
        raise ConfigError(
            f"config.json: {first}={one}, {second}={other}: no such variant here, "
            "the two must be equal."
        )
    return one


def _activation(fields: Mapping[str, Any]) -> Activation:
    given = field_of(fields, "activation_function", "gelu")
    if given not in _ACTIVATIONS:
        raise ConfigError(
            f"config.json: activation_function={given}: no such variant here, "
            f"known are {', '.join(_ACTIVATIONS)}."
        )
    return _ACTIVATIONS[given]


def _tied(fields: Mapping[str, Any]) -> Tied:
    is_shared = field_of(fields, "share_encoder_decoder_embeddings", True)
    is_tied = field_of(fields, "tie_word_embeddings", True)
    if is_shared and not is_tied:
        raise ConfigError(
            "config.json: tie_word_embeddings=false: no such variant here where "
            "share_encoder_decoder_embeddings=true, tie_word_embeddings=true alone is computed."
        )
    return "all" if is_shared else "target" if is_tied else "none"


def _write(config: TransformerConfig, vocab_size: int) -> dict[str, Any]:
    for name, only in {"norm": "post", "positions": "sinusoidal_halves"}.items():
        if (given := getattr(config, name)) != only:
            raise ConfigError(f"{name}={given}: the layout marian has {only} only.")
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    if config.activation not in names:
        raise ConfigError(
            f"activation={config.activation}: the layout marian has {', '.join(names)} only."
        )
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": vocab_size,
        "decoder_vocab_size": vocab_size,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
        "d_model": config.dim,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.hidden_dim,
        "decoder_ffn_dim": config.hidden_dim,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "activation_function": names[config.activation],
        "max_position_embeddings": config.max_positions,
        "scale_embedding": config.has_embedding_scale,
        "share_encoder_decoder_embeddings": config.tied == "all",
        "tie_word_embeddings": config.tied != "none",
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.start_id,
        # By default a text that is cut off would end in token 0, whatever that is.
        "forced_eos_token_id": None,
    }


def _places(config: TransformerConfig) -> list[Place]:
    places = _tables(config.tied)
    if config.has_output_bias:
        places.append(Place("output_bias", (_BIAS,)))
    sides = (
        ("encoder", config.num_encoder_layers, _ENCODER_BLOCK),
        ("decoder", config.num_decoder_layers, _DECODER_BLOCK),
    )
    for side, num_layers, block in sides:
        for layer in range(num_layers):
            for ours, theirs in block.items():
                names = [f"model.{side}.layers.{layer}.{name}" for name in theirs]
                places += pair_of(f"{side}.{layer}.{ours}", *names)
    return places


def _tables(tied: Tied) -> list[Place]:
    """List the tables of tokens; tied ones go by the name of the output's."""
    if tied == "all":
        return [Place("output_weight", (_SHARED,))]
    source = Place("source_embedding.weight", (_SOURCE,))
    if tied == "target":
        return [source, Place("output_weight", (_TARGET,))]
    target = Place("target_embedding.weight", (_TARGET,))
    return [source, target, Place("output_weight", (_OUTPUT,))]


def _adapt(config: TransformerConfig, tensor_names: Set[str]) -> TransformerConfig:
    """Do without the biases of the tokens where a file has none: `transformers` takes zeros."""
    return msgspec.structs.replace(config, has_output_bias=_BIAS in tensor_names)


PUBLISHED: dict[str, Layout] = {
    "marian": Layout(
        read=_read,
        write=_write,
        places=_places,
        prefix="model.",
        ignored=("embed_positions.weight",),
        adapt=_adapt,
        twins=dict.fromkeys((_OUTPUT, _SOURCE, _TARGET), _SHARED),
    )
}
