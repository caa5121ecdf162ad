"""How checkpoints of translators and summarizers name and store the weights of a `Transformer`.

Names and defaults are those of ``transformers``: ``modeling_marian`` (Junczys-Dowmunt et al. 2018,
the models of OPUS-MT), ``modeling_bart`` (Lewis et al. 2020), ``modeling_pegasus`` (Zhang et al.
2020), ``modeling_mbart`` (Liu et al. 2020) and ``modeling_m2m_100`` (Fan et al. 2020, and NLLB,
Costa-jussà et al. 2022), which store the same blocks. What `Transformer` does not compute is
refused by the field that asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import partial
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.layers.positions import sinusoids
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    SettingError,
    field_of,
    map_blocks,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    under_own_names,
    write_settings,
)
from regard.models.base.encoder_decoder import Tied
from regard.models.transformer.model import TransformerConfig

_BIAS = "final_logits_bias"
_SHARED = "model.shared.weight"
_SOURCE, _TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
_OUTPUT = "lm_head.weight"

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
_ONLY_VARIANT = {"is_encoder_decoder": True, "is_decoder": False, "pruned_heads": {}}
# In files of old releases, which knew BART's variants by them.
_POST_NORM = {"normalize_before": False, "add_final_layer_norm": False}
_PRE_NORM = {"normalize_before": True, "add_final_layer_norm": True}
_FIELDS = (
    FieldMapping("num_encoder_layers", "encoder_layers", 12),
    FieldMapping("num_decoder_layers", "decoder_layers", 12),
    FieldMapping("dim", "d_model", 1024),
    FieldMapping("dropout", "dropout", 0.1),  # of the rates that of the sub-layers holds for all
    FieldMapping("activation", "activation_function", "gelu", _ACTIVATIONS),
    FieldMapping("max_positions", "max_position_embeddings", 1024),
    FieldMapping("has_embedding_scale", "scale_embedding", False),
)
# Sizes that `transformers` has for encoder and decoder each, with its defaults.
_PAIRS = {
    ("encoder_attention_heads", "decoder_attention_heads"): 16,
    ("encoder_ffn_dim", "decoder_ffn_dim"): 4096,
    ("vocab_size", "decoder_vocab_size"): 58101,
}
_ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
}


class _Variant(NamedTuple):
    """The differences between the formats.

    Args:
        model_type: In ``config.json``.
        architecture: Class of ``transformers`` that gives logits.
        only: Fields of ``config.json`` and the one value of each that is computed.
        settings: Settings of the model, and the one value of each that the format has.
        pad_id: Default of the padding token.
        start_id: Default of the token that begins a target.
        ignored: Passed to `CheckpointFormat`.
        tokenizer_class: Passed to `CheckpointFormat`.
        stores_positions: Whether files have the table of sinusoids.
        defaults: Values of fields of ``config.json`` where they are missing, if not BART's.
        has_bias: Whether each token may have a bias.
        counts_after_padding: Whether the first position is the one after the padding's number.
    """

    model_type: str
    architecture: str
    only: dict[str, Any]
    settings: dict[str, Any]
    pad_id: int
    start_id: int
    ignored: tuple[str, ...]
    tokenizer_class: str = "PreTrainedTokenizer"
    stores_positions: bool = False
    defaults: Mapping[str, Any] = {}
    has_bias: bool = True
    counts_after_padding: bool = False


_MARIAN = _Variant(
    model_type="marian",
    architecture="MarianMTModel",
    only=_ONLY_VARIANT
    | _POST_NORM
    | {"normalize_embedding": False, "static_position_embeddings": True},
    settings={
        "norm": "post",
        "positions": "sinusoidal_halves",
        "position_offset": 0,
        "has_embedding_norm": False,
    },
    pad_id=58100,
    start_id=58100,
    ignored=("embed_positions.weight",),
)
_BART = _Variant(
    model_type="bart",
    architecture="BartForConditionalGeneration",
    only=_ONLY_VARIANT
    | _POST_NORM
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
    ignored=("encoder.version", "decoder.version"),
    tokenizer_class="BartTokenizer",
)
_PEGASUS = _Variant(
    model_type="pegasus",
    architecture="PegasusForConditionalGeneration",
    only=_ONLY_VARIANT
    | _PRE_NORM
    | {
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "tie_word_embeddings": True,
    },
    settings=_MARIAN.settings | {"norm": "pre", "tied": "all"},
    pad_id=0,
    start_id=0,
    ignored=("embed_positions.weight",),
    tokenizer_class="PegasusTokenizer",
    stores_positions=True,
)
_MBART = _Variant(
    model_type="mbart",
    architecture="MBartForConditionalGeneration",
    only=_BART.only | _PRE_NORM,
    settings=_BART.settings | {"norm": "pre"},
    pad_id=1,
    start_id=0,  # the token that begins texts, unless the file says which language
    ignored=("encoder.version", "decoder.version"),
    tokenizer_class="MBartTokenizer",
)
_M2M100 = _Variant(
    model_type="m2m_100",
    architecture="M2M100ForConditionalGeneration",
    only=_ONLY_VARIANT | {"tie_word_embeddings": True},
    settings={
        "norm": "pre",
        "positions": "sinusoidal_fairseq",
        "has_embedding_norm": False,
        "has_output_bias": False,
        "tied": "all",
    },
    pad_id=1,
    start_id=2,
    ignored=("encoder.version", "decoder.version", "embed_positions.weights"),
    tokenizer_class="M2M100Tokenizer",
    defaults={"activation_function": "relu", "scale_embedding": True},
    has_bias=False,
    counts_after_padding=True,
)
# Other heads, by the ends of their names, and what they give.
_OTHER_HEADS = {
    "ForSequenceClassification": "labels of texts",
    "ForQuestionAnswering": "the positions of answers",
    "ForCausalLM": "the decoder alone",
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
    "self_residual.norm" if local == "attention_residual.norm" else local: remote
    for local, remote in _ENCODER_BLOCK.items()
} | {
    "cross_attention.query": ("encoder_attn.q_proj",),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.output": ("encoder_attn.out_proj",),
    "cross_residual.norm": ("encoder_attn_layer_norm",),
}


def _read(fields: Mapping[str, Any], *, variant: _Variant) -> TransformerConfig:
    names = fields.get("architectures")
    # Old files of the bare model list what can be built on it as well.
    name = str(names[0]) if isinstance(names, list) and names else ""
    for ending, output in _OTHER_HEADS.items():
        if name.endswith(ending):
            raise ConfigError(
                f"config.json: architectures={name}: gives {output}, and only "
                f"{variant.architecture}, which writes texts, is computed."
            )
    require_fields(fields, variant.only)
    named = {name: value for name, value in fields.items() if value is not None}
    fields = under_own_names({**variant.defaults, **named}, _ALIASES)
    num_heads, hidden_dim, _ = (_read_equal(fields, *names) for names in _PAIRS)
    values = read_settings(fields, _FIELDS) | {
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "has_output_bias": variant.has_bias,
        "tied": _read_tied(fields),
        "pad_id": field_of(fields, "pad_token_id", variant.pad_id),
        "start_id": field_of(fields, "decoder_start_token_id", variant.start_id),
    }
    if variant.counts_after_padding and values["start_id"] == values["pad_id"]:
        raise ConfigError(
            f"config.json: decoder_start_token_id={values['start_id']} is pad_token_id, too: the "
            "first token would have no position.  The two must differ."
        )
    return TransformerConfig(**values | variant.settings | _position_offset(variant, values))


def _position_offset(variant: _Variant, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of the first position where it follows from the padding, else nothing."""
    return {"position_offset": values["pad_id"] + 1} if variant.counts_after_padding else {}


def _read_equal(fields: Mapping[str, Any], encoder_name: str, decoder_name: str) -> int:
    """Read a size that must be the same in the encoder and the decoder."""
    default = _PAIRS[encoder_name, decoder_name]
    encoder = field_of(fields, encoder_name, default)
    default = encoder if decoder_name == "decoder_vocab_size" else default
    decoder = field_of(fields, decoder_name, default)
    if encoder != decoder:
        raise ConfigError(
            f"config.json: {encoder_name}={encoder}, {decoder_name}={decoder}: "
            "no such variant here, the two must be equal."
        )
    return encoder


def _read_tied(fields: Mapping[str, Any]) -> Tied:
    is_shared = field_of(fields, "share_encoder_decoder_embeddings", True)
    is_tied = field_of(fields, "tie_word_embeddings", True)
    if is_shared and not is_tied:
        raise ConfigError(
            "config.json: tie_word_embeddings=false: no such variant here where "
            "share_encoder_decoder_embeddings=true, tie_word_embeddings=true alone is computed."
        )
    return "all" if is_shared else "target" if is_tied else "none"


def _write(config: TransformerConfig, vocab_size: int, *, variant: _Variant) -> dict[str, Any]:
    kind = f"{variant.model_type} checkpoints"
    if config.separator_id is not None:
        sentence = f"model.separator_id={config.separator_id}: {kind} have no roles of tokens."
        raise SettingError([sentence], {"separator_id": None})
    if config.has_copy:
        sentence = f"model.has_copy=true: {kind} have no copy mechanism."
        raise SettingError([sentence], {"has_copy": False})
    offset = _position_offset(variant, {"pad_id": config.pad_id})
    require_settings(config, variant.settings | offset, kind=kind)
    fields = {
        **write_settings(config, _FIELDS, kind=kind),
        "architectures": [variant.architecture],
        "model_type": variant.model_type,
        "is_encoder_decoder": True,
        "vocab_size": vocab_size,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.hidden_dim,
        "decoder_ffn_dim": config.hidden_dim,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "tie_word_embeddings": config.tied != "none",
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.start_id,
        # By default a text that is cut off would end in token 0, whatever that is.
        "forced_eos_token_id": None,
    }
    if variant is _MARIAN:  # the others have one table for all
        fields["decoder_vocab_size"] = vocab_size
        fields["share_encoder_decoder_embeddings"] = config.tied == "all"
    return fields


def _map_parameters(config: TransformerConfig) -> list[ParameterMapping]:
    # Tied tables have the output's name.
    tables = {
        "all": {"output_weight": _SHARED},
        "target": {"source_embedding.weight": _SOURCE, "output_weight": _TARGET},
        "none": {
            "source_embedding.weight": _SOURCE,
            "target_embedding.weight": _TARGET,
            "output_weight": _OUTPUT,
        },
    }[config.tied]
    mappings = [ParameterMapping(local, (remote,)) for local, remote in tables.items()]
    for local, remote in (("source_embedding", "encoder"), ("target_embedding", "decoder")):
        if config.positions == "learned":
            table = f"model.{remote}.embed_positions.weight"
            mappings.append(ParameterMapping(f"{local}.positions.weight", (table,)))
        if config.has_embedding_norm:
            mappings += map_layer(f"{local}.norm", f"model.{remote}.layernorm_embedding")
    if config.norm == "pre":
        mappings += map_layer("encoder_norm", "model.encoder.layer_norm")
        mappings += map_layer("decoder_norm", "model.decoder.layer_norm")
    if config.has_output_bias:
        mappings.append(ParameterMapping("output_bias", (_BIAS,)))
    return [
        *mappings,
        *map_blocks("encoder", "model.encoder.layers", config.num_encoder_layers, _ENCODER_BLOCK),
        *map_blocks("decoder", "model.decoder.layers", config.num_decoder_layers, _DECODER_BLOCK),
    ]


def _sinusoid_tables(config: TransformerConfig) -> dict[str, Tensor]:
    return {
        f"model.{part}.embed_positions.weight": sinusoids(
            config.max_positions, config.dim, "halves"
        )
        for part in ("encoder", "decoder")
    }


def _drop_missing_bias(config: TransformerConfig, tensor_names: Set[str]) -> TransformerConfig:
    """Leave out the biases of the tokens where a file has none: `transformers` takes zeros."""
    return msgspec.structs.replace(config, has_output_bias=_BIAS in tensor_names)


MARIAN_FORMAT, BART_FORMAT, PEGASUS_FORMAT, MBART_FORMAT, M2M100_FORMAT = (
    CheckpointFormat(
        variant.model_type,
        partial(_read, variant=variant),
        partial(_write, variant=variant),
        _map_parameters,
        prefix="model.",
        ignored=variant.ignored,
        adapt=_drop_missing_bias if variant.has_bias else None,
        tied_names=dict.fromkeys((_OUTPUT, _SOURCE, _TARGET), _SHARED),
        tokenizer_class=variant.tokenizer_class,
        untrained=_sinusoid_tables if variant.stores_positions else None,
    )
    for variant in (_MARIAN, _BART, _PEGASUS, _MBART, _M2M100)
)
"""Checkpoints of Marian, BART, Pegasus, mBART, and M2M100 with NLLB."""
