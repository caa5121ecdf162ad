"""How Marian and BART checkpoints name and lay out the weights of a `Transformer`.

Names and defaults are those of ``transformers``: ``modeling_marian`` (Junczys-Dowmunt et al. 2018,
the models of OPUS-MT) and ``modeling_bart`` (Lewis et al. 2020), which lay out the same blocks.
What `Transformer` does not compute is refused by the field that asks for it: a model with other
logits is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import partial
from typing import Any, NamedTuple

import msgspec

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import Layout, Place, field_of, require_fields
from regard.models.base.encoder_checkpoints import pair_of
from regard.models.base.encoder_decoder import Tied
from regard.models.transformer.model import TransformerConfig

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
# The last two stand in files of old releases, which knew BART's variants by them.
_ONLY = {
    "is_encoder_decoder": True,
    "is_decoder": False,
    "pruned_heads": {},
    "normalize_before": False,
    "add_final_layer_norm": False,
}
# Sizes that `transformers` has apart for the two sides, with its defaults.
_PAIRS = {
    ("encoder_attention_heads", "decoder_attention_heads"): 16,
    ("encoder_ffn_dim", "decoder_ffn_dim"): 4096,
    ("vocab_size", "decoder_vocab_size"): 58101,
}


class _Kind(NamedTuple):
    """What tells one layout from the other.

    Args:
        model_type: In ``config.json``.
        architecture: Class of ``transformers`` that gives logits.
        only: Fields of ``config.json`` and the one value of each that is computed.
        settings: Of the model, and the one value of each that the layout has.
        pad_id: Where the file tells none.
        start_id: Where the file tells none.
    """

    model_type: str
    architecture: str
    only: dict[str, Any]
    settings: dict[str, Any]
    pad_id: int
    start_id: int


_MARIAN = _Kind(
    model_type="marian",
    architecture="MarianMTModel",
    only=_ONLY | {"normalize_embedding": False, "static_position_embeddings": True},
    settings={
        "norm": "post",
        "positions": "sinusoidal_halves",
        "position_offset": 0,
        "has_embedding_norm": False,
    },
    pad_id=58100,
    start_id=58100,
)
_BART = _Kind(
    model_type="bart",
    architecture="BartForConditionalGeneration",
    only=_ONLY
    | {
        "normalize_embedding": True,
        "static_position_embeddings": False,
        "tie_word_embeddings": True,
    },
    settings={
        "norm": "post",
        "positions": "learned",
        "position_offset": 2,
        "has_embedding_norm": True,
        "tied": "all",
    },
    pad_id=1,
    start_id=2,
)
# BART under another head, and what that gives.
_OTHER_HEADS = {
    "BartForSequenceClassification": "labels of texts",
    "BartForQuestionAnswering": "the places of answers",
    "BartForCausalLM": "the decoder alone",
}

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


def _read(fields: Mapping[str, Any], *, kind: _Kind) -> TransformerConfig:
    """Read a ``config.json``; of its dropout rates that of the sub-layers holds for all."""
    _require_text_out(fields)
    require_fields(fields, kind.only)
    num_heads, hidden_dim, _ = (_equal(fields, *names) for names in _PAIRS)
    values = {
        "tied": _tied(fields),
        "pad_id": field_of(fields, "pad_token_id", kind.pad_id),
        "start_id": field_of(fields, "decoder_start_token_id", kind.start_id),
    }
    return TransformerConfig(
        num_encoder_layers=field_of(fields, "encoder_layers", 12),
        num_decoder_layers=field_of(fields, "decoder_layers", 12),
        dim=field_of(fields, "d_model", 1024),
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        dropout=field_of(fields, "dropout", 0.1),
        activation=_activation(fields),
        max_positions=field_of(fields, "max_position_embeddings", 1024),
        has_embedding_scale=field_of(fields, "scale_embedding", False),
        has_output_bias=True,
        **values | kind.settings,
    )


def _require_text_out(fields: Mapping[str, Any]) -> None:
    """Refuse checkpoints with another head than that of tokens."""
    given = fields.get("architectures")
    # Old files of the bare model list what can be made of it as well.
    name = given[0] if isinstance(given, list) and given else None
    if name in _OTHER_HEADS:
        raise ConfigError(
            f"config.json: architectures={name}: gives {_OTHER_HEADS[name]}, and only "
            f"{_BART.architecture}, which writes texts, is computed."
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


def _write(config: TransformerConfig, vocab_size: int, *, kind: _Kind) -> dict[str, Any]:
    layout = kind.model_type
    for name, only in kind.settings.items():
        if (given := getattr(config, name)) != only:
            raise ConfigError(f"{name}={given}: the layout {layout} has {only} only.")
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    if config.activation not in names:
        raise ConfigError(
            f"activation={config.activation}: the layout {layout} has {', '.join(names)} only."
        )
    # Of Marian alone; BART has one table for all.
    tables = {
        "decoder_vocab_size": vocab_size,
        "share_encoder_decoder_embeddings": config.tied == "all",
    }
    return {
        "architectures": [kind.architecture],
        "model_type": layout,
        "is_encoder_decoder": True,
        "vocab_size": vocab_size,
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
        "tie_word_embeddings": config.tied != "none",
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.start_id,
        # By default a text that is cut off would end in token 0, whatever that is.
        "forced_eos_token_id": None,
        **(tables if kind is _MARIAN else {}),
    }


def _places(config: TransformerConfig) -> list[Place]:
    places = _tables(config.tied)
    for ours, side in (("source", "encoder"), ("target", "decoder")):
        if config.positions == "learned":
            table = f"model.{side}.embed_positions.weight"
            places.append(Place(f"{ours}_embedding.positions.weight", (table,)))
        if config.has_embedding_norm:
            norm = f"model.{side}.layernorm_embedding"
            places += pair_of(f"{ours}_embedding.norm", norm)
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


def _layout(kind: _Kind, ignored: tuple[str, ...]) -> Layout:
    return Layout(
        read=partial(_read, kind=kind),
        write=partial(_write, kind=kind),
        places=_places,
        prefix="model.",
        ignored=ignored,
        adapt=_adapt,
        twins=dict.fromkeys((_OUTPUT, _SOURCE, _TARGET), _SHARED),
    )


PUBLISHED: dict[str, Layout] = {
    "marian": _layout(_MARIAN, ("embed_positions.weight",)),
    "bart": _layout(_BART, ("encoder.version", "decoder.version")),
}
