"""How published checkpoints of ModernBERT name and store their weights (``modeling_modernbert``).

Older files say by ``global_attn_every_n_layers`` which layers see all tokens, and have a field for
each base of rotary positions; those of ``transformers`` from 5 on list ``layer_types``, and have
``rope_parameters`` for either kind. Both are read, and both are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    LabelHead,
    ParameterMapping,
    SettingError,
    field_of,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    setting_text,
    write_settings,
)
from regard.models.base.encoder import INITIAL_STD
from regard.models.base.window_fields import KINDS_OF_LAYERS, layers_with_window
from regard.models.modernbert.model import ModernBertConfig

_KIND = "modernbert checkpoints"
_FIELDS = (
    FieldMapping("num_layers", "num_hidden_layers", 22),
    FieldMapping("dim", "hidden_size", 768),
    FieldMapping("num_heads", "num_attention_heads", 12),
    FieldMapping("hidden_dim", "intermediate_size", 1152),
    FieldMapping(
        "activation",
        "hidden_activation",
        "gelu",
        {"gelu": "geglu", "gelu_python": "geglu", "silu": "swiglu", "swish": "swiglu"},
    ),
    FieldMapping("epsilon", "norm_eps", 1e-5),
    # Of the rates that of the feed-forward networks holds for all.
    FieldMapping("dropout", "mlp_dropout", 0.0),
    FieldMapping("max_positions", "max_position_embeddings", 8192),
    FieldMapping("pad_id", "pad_token_id", 50283),
    FieldMapping("pooling", "classifier_pooling", "cls", {"cls": "first", "mean": "mean"}),
    FieldMapping("bias", "mlp_bias", False),
    FieldMapping("attention_bias", "attention_bias", False),
    FieldMapping("norm_bias", "norm_bias", False),
    FieldMapping("head_bias", "classifier_bias", False),
    FieldMapping("has_output_bias", "decoder_bias", True),
)
_HEAD_ACTIVATION = FieldMapping(
    "head_activation",
    "classifier_activation",
    "gelu",
    {"gelu": "gelu", "gelu_python": "gelu", "relu": "relu"},
)
_ONLY_SETTINGS = {"norm": "pre", "num_segments": 0}
_VOCAB_SIZE = 50368
_WINDOW = 128
_GLOBAL_EVERY = "global_attn_every_n_layers"
_DEFAULT_PERIOD = 3
_BASES = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}
"""The older field of the base of each kind of layers, and its default."""

_LABEL_HEAD = LabelHead("head.dense", "classifier", is_pooler=True)
_TABLE = "model.embeddings.tok_embeddings.weight"


def _read(fields: Mapping[str, Any]) -> ModernBertConfig:
    require_fields(fields, {"tie_word_embeddings": True, "rope_scaling": None})
    values = read_settings(fields, (*_FIELDS, _HEAD_ACTIVATION))
    # `transformers` would take another one for the angles alone.
    require_fields(fields, {"head_dim": values["dim"] // max(1, values["num_heads"])})
    num_tokens = field_of(fields, "vocab_size", _VOCAB_SIZE)
    if values["pad_id"] >= num_tokens:
        raise ConfigError(
            f"config.json: pad_token_id={values['pad_id']}: of {num_tokens:,} tokens (vocab_size) "
            "none has this id.  Set it to the id of the token that pads."
        )
    bases = {kind: _read_base(fields, kind) for kind in _BASES}
    base = bases["full_attention"] or _BASES["full_attention"][1]
    return ModernBertConfig(
        **values,
        pooler_activation=values["head_activation"],
        window=_read_windows(fields, values["num_layers"]),
        rotary_base=base,
        # Null in older files is the base of the other layers.
        local_rotary_base=bases["sliding_attention"] or base,
    )


def _read_windows(fields: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Read the windows of the layers.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.

    Returns:
        As few as alternate; 0 is none.

    Raises:
        ConfigError: A field has another type or is out of range, or two say different things.
    """
    window = field_of(fields, "local_attention", _WINDOW)
    period = field_of(fields, _GLOBAL_EVERY, _DEFAULT_PERIOD)
    sizes = {"local_attention": window, _GLOBAL_EVERY: period}
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(
                f"config.json: {name}={size}: a whole number of 1 or more was expected."
            )
    has_windows = layers_with_window(fields, num_layers, lambda layer: layer % period > 0)
    by_period = [layer % period > 0 for layer in range(num_layers)]
    if has_windows != by_period and fields.get(_GLOBAL_EVERY) is not None:
        raise ConfigError(
            f"config.json: layer_types differs from {_GLOBAL_EVERY}={period}: two values of one "
            "setting.  Take the wrong one out."
        )
    windows = tuple(window if has_window else 0 for has_window in has_windows)
    return windows[: _period_of(windows)]


def _period_of(windows: tuple[int, ...]) -> int:
    """Return after how many layers windows repeat.

    >>> _period_of((0, 8, 8, 0, 8))
    3
    """
    return next(
        period
        for period in range(1, len(windows) + 1)
        if all(windows[layer] == windows[layer - period] for layer in range(period, len(windows)))
    )


def _read_base(fields: Mapping[str, Any], kind: str) -> float | None:
    """Read the base of rotary positions in a kind of layers.

    Args:
        fields: All values of ``config.json``.
        kind: One of `_BASES`.

    Returns:
        The base; None where it is null.

    Raises:
        ConfigError: Angles are slowed down, or old and new fields differ.
    """
    name, default = _BASES[kind]
    rope = _rope_of(fields, kind)
    old, new = fields.get(name), rope.get("rope_theta")
    if old is not None and new is not None and old != new:
        raise ConfigError(
            f"config.json: {name}={json.dumps(old)} and rope_parameters.{kind}.rope_theta="
            f"{json.dumps(new)}: two values of one setting.  Take the wrong one out."
        )
    if new is None and name in fields and old is None:
        return None
    return field_of(rope, "rope_theta", field_of(fields, name, default))


def _rope_of(fields: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return what ``rope_parameters`` says of a kind of layers; refuse what is not computed."""
    parameters = fields.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping) or not parameters.keys() <= _BASES.keys():
        raise ConfigError(
            f"config.json: rope_parameters={json.dumps(parameters)[:80]}: an object with "
            f"{' and '.join(_BASES)} was expected."
        )
    rope = parameters.get(kind) or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(
            f"config.json: rope_parameters.{kind}={json.dumps(rope)[:80]}: an object was expected."
        )
    only = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
    prefix = f"rope_parameters.{kind}."
    require_fields(
        {prefix + name: rope.get(name) for name in only},
        {prefix + name: value for name, value in only.items()},
    )
    return rope


def _write(config: ModernBertConfig, vocab_size: int) -> dict[str, Any]:
    only: dict[str, Any] = dict(_ONLY_SETTINGS)
    head_activation = _HEAD_ACTIVATION
    if config.has_mlm_head:
        only["pooler_activation"] = config.head_activation
    else:
        head_activation = head_activation._replace(local="pooler_activation")
    require_settings(config, only, kind=_KIND)
    windows = config.windows()
    size, *different = dict.fromkeys(size for size in windows if size) or [_WINDOW]
    if different:
        raise SettingError(
            [
                f"model.window={setting_text(config.window)}: {_KIND} have one size for all layers "
                "with a window only."
            ],
            {"window": tuple(size if window else 0 for window in windows)},
        )
    kinds = [KINDS_OF_LAYERS[window > 0] for window in windows]
    period = _period_of(windows)
    is_regular = [window > 0 for window in windows[:period]] == [False] + [True] * (period - 1)
    bases = dict(zip(_BASES, (config.rotary_base, config.local_rotary_base), strict=True))
    return {
        **write_settings(config, (*_FIELDS, head_activation), kind=_KIND),
        "model_type": "modernbert",
        "architectures": ["ModernBertForMaskedLM" if config.has_mlm_head else "ModernBertModel"],
        "vocab_size": vocab_size,
        # By default they are those of its own vocabulary.
        "cls_token_id": None,
        "sep_token_id": None,
        "local_attention": size,
        "layer_types": kinds,
        # Releases of transformers before 5 read these, later ones the lists of kinds.
        **({_GLOBAL_EVERY: period} if is_regular else {}),
        **{_BASES[kind][0]: base for kind, base in bases.items()},
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()
        },
        "attention_dropout": 0.0,
        "embedding_dropout": config.dropout,
        "classifier_dropout": config.dropout,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


def _map_parameters(config: ModernBertConfig) -> list[ParameterMapping]:
    of_norms = _kinds(config.norm_bias)
    of_feed_forward, of_attention = _kinds(config.bias), _kinds(config.attention_bias)
    mappings = [
        ParameterMapping("output_weight", (_TABLE,)),
        *map_layer("embedding.norm", "model.embeddings.norm", kinds=of_norms),
        *map_layer("norm", "model.final_norm", kinds=of_norms),
    ]
    for number in range(config.num_layers):
        layers = {
            "attention_residual.norm": ("attn_norm", of_norms if number else ()),
            "self_attention.query_key_value": ("attn.Wqkv", of_attention),
            "self_attention.output": ("attn.Wo", of_attention),
            "feed_forward_residual.norm": ("mlp_norm", of_norms),
            "feed_forward.inner": ("mlp.Wi", of_feed_forward),
            "feed_forward.outer": ("mlp.Wo", of_feed_forward),
        }
        for local, (remote, kinds) in layers.items():
            names = f"blocks.{number}.{local}", f"model.layers.{number}.{remote}"
            mappings += map_layer(*names, kinds=kinds)
    if config.has_mlm_head or config.has_pooler:
        head = "head" if config.has_mlm_head else "pooler"
        mappings += map_layer(f"{head}.dense", "head.dense", kinds=_kinds(config.head_bias))
        mappings += map_layer(f"{head}.norm", "head.norm", kinds=of_norms)
    if config.has_mlm_head and config.has_output_bias:
        mappings.append(ParameterMapping("head.bias", ("decoder.bias",)))
    return mappings


def _kinds(has_bias: bool) -> tuple[str, ...]:
    """Return the parameters of a layer, which may have no bias."""
    return ("weight", "bias") if has_bias else ("weight",)


def _drop_missing_heads(config: ModernBertConfig, names: Set[str]) -> ModernBertConfig:
    """Leave out the heads of which a file has no tensors."""
    has_head = f"{_LABEL_HEAD.dense}.weight" in names
    has_labels = f"{_LABEL_HEAD.output}.weight" in names
    return msgspec.structs.replace(
        config, has_mlm_head=has_head and not has_labels, has_pooler=has_head
    )


MODERNBERT_FORMAT = CheckpointFormat(
    "modernbert",
    _read,
    _write,
    _map_parameters,
    prefix="model.",
    adapt=_drop_missing_heads,
    tied_names={"decoder.weight": _TABLE},
    label_head=_LABEL_HEAD,
    span_output=_LABEL_HEAD.output,
)
"""Checkpoints of ModernBERT."""
