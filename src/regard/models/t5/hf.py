"""How T5, mT5 and umT5 checkpoints name and store the weights of a `T5`.

Names and defaults are those of ``transformers``: ``modeling_t5`` (Raffel et al. 2020; T5 v1.1 and
Flan-T5 are settings of it), ``modeling_mt5`` (Xue et al. 2021) and ``modeling_umt5`` (Chung et al.
2023). What `T5` does not compute is refused by the field that asks for it.

``tie_word_embeddings`` says whether states are scaled before they are mapped to logits, and since
version 5 ``scale_decoder_outputs`` does. Whether the output has a table of its own is decided by
the tensors: version 5 writes true in the former in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import partial
from typing import Any, NamedTuple

import msgspec

from regard.errors import ConfigError
from regard.layers.feed_forward import GATED, Activation
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    field_of,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    under_own_names,
    write_settings,
)
from regard.models.t5.model import T5Config

_SHARED, _OUTPUT = "shared.weight", "lm_head.weight"
_SCALE, _TIED = "scale_decoder_outputs", "tie_word_embeddings"

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gated-gelu": "geglu_tanh",
    "gated-gelu_new": "geglu_tanh",
    "gated-gelu_pytorch_tanh": "geglu_tanh",
    "gated-silu": "swiglu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
}
_ONLY_VARIANT = {"is_encoder_decoder": True, "is_decoder": False, "pruned_heads": {}}
_ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# Other heads, by the ends of their names, and what they give.
_OTHER_HEADS = {
    "EncoderModel": "the states of the encoder alone",
    "ForSequenceClassification": "labels of texts",
    "ForTokenClassification": "labels of tokens",
    "ForQuestionAnswering": "the positions of answers",
}


class _Variant(NamedTuple):
    """The differences between the formats.

    Args:
        model_type: In ``config.json``.
        architecture: Class of ``transformers`` that gives logits.
        num_layers: Default of the blocks of a stack.
        num_heads: Default.
        hidden_dim: Default.
        activation: Default.
        shares_buckets: Whether the layers of a stack share one table of distances.
        may_scale: Whether the states may be scaled before they are mapped to logits.
    """

    model_type: str
    architecture: str
    num_layers: int
    num_heads: int
    hidden_dim: int
    activation: str
    shares_buckets: bool = True
    may_scale: bool = True

    @property
    def fields(self) -> tuple[FieldMapping, ...]:
        """The fields of the settings."""
        return (
            FieldMapping("num_encoder_layers", "num_layers", self.num_layers),
            FieldMapping("dim", "d_model", 512),
            FieldMapping("num_heads", "num_heads", self.num_heads),
            FieldMapping("head_dim", "d_kv", 64),
            FieldMapping("hidden_dim", "d_ff", self.hidden_dim),
            FieldMapping("dropout", "dropout_rate", 0.1),
            FieldMapping("activation", "feed_forward_proj", self.activation, _ACTIVATIONS),
            FieldMapping("epsilon", "layer_norm_epsilon", 1e-6),
            FieldMapping("num_buckets", "relative_attention_num_buckets", 32),
            FieldMapping("max_distance", "relative_attention_max_distance", 128),
        )


_T5 = _Variant("t5", "T5ForConditionalGeneration", 6, 8, 2048, "relu")
_MT5 = _Variant("mt5", "MT5ForConditionalGeneration", 8, 6, 1024, "gated-gelu", may_scale=False)
_UMT5 = _Variant(
    "umt5", "UMT5ForConditionalGeneration", 8, 6, 1024, "gated-gelu", shares_buckets=False
)


def _read(fields: Mapping[str, Any], *, variant: _Variant) -> T5Config:
    names = fields.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    for ending, output in _OTHER_HEADS.items():
        if name.endswith(ending):
            raise ConfigError(
                f"config.json: architectures={name}: gives {output}, and only "
                f"{variant.architecture}, which writes texts, is computed."
            )
    require_fields(fields, _ONLY_VARIANT)
    fields = under_own_names(fields, _ALIASES)
    values = read_settings(fields, variant.fields)
    pad_id = field_of(fields, "pad_token_id", 0)
    is_scaled = variant.may_scale and field_of(fields, _SCALE, field_of(fields, _TIED, True))
    return T5Config(
        **values,
        num_decoder_layers=field_of(fields, "num_decoder_layers", values["num_encoder_layers"]),
        shares_buckets=variant.shares_buckets,
        tied="all" if is_scaled else "inputs",
        has_output_scale=is_scaled,
        pad_id=pad_id,
        start_id=field_of(fields, "decoder_start_token_id", pad_id),
    )


def _write(config: T5Config, vocab_size: int, *, variant: _Variant) -> dict[str, Any]:
    kind = f"{variant.model_type} checkpoints"
    only: dict[str, Any] = {"shares_buckets": variant.shares_buckets}
    if not variant.may_scale:
        only["has_output_scale"] = False
    elif config.has_output_scale:
        only["tied"] = "all"
    require_settings(config, only, kind=kind)
    return {
        **write_settings(config, variant.fields, kind=kind),
        "architectures": [variant.architecture],
        "model_type": variant.model_type,
        "is_encoder_decoder": True,
        "vocab_size": vocab_size,
        "num_decoder_layers": config.num_decoder_layers,
        "d_kv": config.size_of_head,
        # Releases of transformers before 5 read the first, later ones the second.
        _TIED: config.has_output_scale,
        _SCALE: config.has_output_scale,
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.start_id,
    }


def _map_parameters(config: T5Config) -> list[ParameterMapping]:
    # A tied table has the output's name.
    tables = {"output_weight": _SHARED}
    if config.tied == "inputs":
        tables = {"source_embedding.weight": _SHARED, "output_weight": _OUTPUT}
    mappings = [ParameterMapping(local, (remote,)) for local, remote in tables.items()]
    for stack, num_layers in (
        ("encoder", config.num_encoder_layers),
        ("decoder", config.num_decoder_layers),
    ):
        for layer in range(num_layers):
            mappings += _map_block(config, stack, layer)
        mappings += _map_weight(f"{stack}_norm", f"{stack}.final_layer_norm")
    return mappings


def _map_block(config: T5Config, stack: str, layer: int) -> list[ParameterMapping]:
    local, remote = f"{stack}.{layer}", f"{stack}.block.{layer}.layer"
    is_decoder = stack == "decoder"
    attention = f"{remote}.0.SelfAttention"
    residual = "self_residual" if is_decoder else "attention_residual"
    mappings = [
        *_map_weight(
            f"{local}.self_attention.query_key_value", *(f"{attention}.{x}" for x in "qkv")
        ),
        *_map_weight(f"{local}.self_attention.output", f"{attention}.o"),
        *_map_weight(f"{local}.{residual}.norm", f"{remote}.0.layer_norm"),
    ]
    if layer == 0 or not config.shares_buckets:
        name = f"{local}.self_attention.position_bias.weight"
        table = f"{attention}.relative_attention_bias.weight"
        mappings.append(ParameterMapping(name, (table,), is_transposed=True))
    if is_decoder:
        cross = f"{remote}.1.EncDecAttention"
        mappings += [
            *_map_weight(f"{local}.cross_attention.query", f"{cross}.q"),
            *_map_weight(f"{local}.cross_attention.key_value", f"{cross}.k", f"{cross}.v"),
            *_map_weight(f"{local}.cross_attention.output", f"{cross}.o"),
            *_map_weight(f"{local}.cross_residual.norm", f"{remote}.1.layer_norm"),
        ]
    last = f"{remote}.{2 if is_decoder else 1}"
    inner = ("wi_0", "wi_1") if config.activation in GATED else ("wi",)
    return [
        *mappings,
        *_map_weight(
            f"{local}.feed_forward.inner", *(f"{last}.DenseReluDense.{name}" for name in inner)
        ),
        *_map_weight(f"{local}.feed_forward.outer", f"{last}.DenseReluDense.wo"),
        *_map_weight(f"{local}.feed_forward_residual.norm", f"{last}.layer_norm"),
    ]


_map_weight = partial(map_layer, kinds=("weight",))
"""Returns the mapping of a layer without biases, which no layer has."""


def _find_output(config: T5Config, tensor_names: Set[str]) -> T5Config:
    """Give the output a table of its own where a file has one that states are not scaled for."""
    is_own = _OUTPUT in tensor_names and not config.has_output_scale
    return msgspec.structs.replace(config, tied="inputs" if is_own else "all")


T5_FORMAT, MT5_FORMAT, UMT5_FORMAT = (
    CheckpointFormat(
        variant.model_type,
        partial(_read, variant=variant),
        partial(_write, variant=variant),
        _map_parameters,
        # The first releases gave attention over the source a table that nothing reads.
        ignored=("EncDecAttention.relative_attention_bias.weight",),
        adapt=_find_output,
        tied_names={
            _OUTPUT: _SHARED,
            "encoder.embed_tokens.weight": _SHARED,
            "decoder.embed_tokens.weight": _SHARED,
        },
        tokenizer_class="T5Tokenizer",
    )
    for variant in (_T5, _MT5, _UMT5)
)
"""Checkpoints of T5, mT5 and umT5."""
