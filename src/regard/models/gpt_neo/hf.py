"""How GPT-Neo checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_gpt_neo``): products of queries and
keys are not scaled, their maps and that of values have no biases, and local layers have a window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    SettingError,
    field_of,
    map_blocks,
    map_layer,
    read_settings,
    require_settings,
    setting_text,
    under_own_names,
    write_settings,
)
from regard.models.base.window_fields import MOST_LAYERS, window_setting
from regard.models.gpt.hf import ACTIVATIONS, PLAIN_BLOCK, complete_sizes, map_tables
from regard.models.gpt.model import GptConfig

_FIELDS = (
    FieldMapping("num_layers", "num_layers", 24),
    FieldMapping("dim", "hidden_size", 2048),
    FieldMapping("num_heads", "num_heads", 16),
    FieldMapping("max_positions", "max_position_embeddings", 2048),
    FieldMapping("activation", "activation_function", "gelu_new", ACTIVATIONS),
    # GPT-Neo has three dropout rates; that of the sub-layers is taken for all.
    FieldMapping("dropout", "resid_dropout", 0.0),
    FieldMapping("epsilon", "layer_norm_epsilon", 1e-5),
    FieldMapping("tied", "tie_word_embeddings", True),
)
_ALIASES = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
_SETTINGS: dict[str, Any] = {
    "positions": "learned",
    "norm_kind": "layer",
    "bias": True,
    "qkv_bias": False,
    "query_pre_attn_scalar": 1.0,
}
_KINDS = {"global": False, "local": True}  # whether a layer has a window
_WINDOW = 256  # default of window_size
_QUERY_KEY_VALUE = tuple(f"attn.attention.{letter}_proj" for letter in "qkv")
_BLOCK = {
    "self_attention.query_key_value": _QUERY_KEY_VALUE,
    "self_attention.output": ("attn.attention.out_proj",),
    "feed_forward.inner": ("mlp.c_fc",),
    "feed_forward.outer": ("mlp.c_proj",),
    "attention_residual.norm": ("ln_1",),
    "feed_forward_residual.norm": ("ln_2",),
}


def _read_windows(fields: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Read the window of each layer, 0 for none, from ``attention_types``.

    Returns:
        One number for each layer.

    Raises:
        ConfigError: It has another form, or not one kind for each layer.
    """
    types = fields.get("attention_types") or [[["global", "local"], 12]]
    window, kinds = field_of(fields, "window_size", _WINDOW), _kinds_of_layers(types)
    if kinds is None or len(kinds) != num_layers or window < 1:
        raise ConfigError(
            f"config.json: attention_types={json.dumps(types)[:80]}, window_size={window}: lists "
            f"of {' and '.join(_KINDS)}, each with how often it is repeated, for {num_layers} "
            "layers, and a window of 1 or more were expected."
        )
    return tuple(window if _KINDS[kind] else 0 for kind in kinds)


def _kinds_of_layers(types: Any) -> list[str] | None:
    """Return the kind of each layer from ``attention_types``; None where it has another form."""
    if not isinstance(types, list):
        return None
    kinds: list[str] = []
    for item in types:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], list):
            return None
        names, count = item
        is_known = all(isinstance(name, str) and name in _KINDS for name in names)
        if not is_known or type(count) is not int or not 0 <= count <= MOST_LAYERS:
            return None
        kinds += count * names
    return kinds


def _read(fields: Mapping[str, Any]) -> GptConfig:
    fields = under_own_names(fields, _ALIASES)
    values = read_settings(fields, _FIELDS) | _SETTINGS
    windows = _read_windows(fields, values["num_layers"])
    return GptConfig(
        **values,
        hidden_dim=field_of(fields, "intermediate_size", 4 * values["dim"]),
        window=window_setting(windows),
    )


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind = "gpt_neo checkpoints"
    only = {
        **PLAIN_BLOCK,
        **_SETTINGS,
        "num_kv_heads": config.num_heads,
        "head_dim": config.dim // config.num_heads,
        "attention_bias": True,
        "qk_norm": False,
    }
    require_settings(complete_sizes(config), only, kind=kind)
    windows = config.windows()
    sizes = sorted(set(windows) - {0})
    if len(sizes) > 1:
        largest = tuple(sizes[-1] if size else 0 for size in windows)
        sentence = f"model.window={setting_text(windows)}: {kind} have one size of window only."
        raise SettingError([sentence], {"window": largest})
    names = {has_window: name for name, has_window in _KINDS.items()}
    return {
        **write_settings(config, _FIELDS, kind=kind),
        "architectures": ["GPTNeoForCausalLM"],
        "model_type": "gpt_neo",
        "vocab_size": vocab_size,
        "intermediate_size": config.hidden_dim,
        "attention_types": [[[names[size > 0]], 1] for size in windows],
        "attention_layers": [names[size > 0] for size in windows],
        "window_size": sizes[0] if sizes else _WINDOW,
        "embed_dropout": config.dropout,
        "attention_dropout": 0.0,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    blocks = map_blocks("blocks", "transformer.h", config.num_layers, _BLOCK)
    return [
        *map_tables(config.tied, "transformer.wte.weight"),
        ParameterMapping("embedding.positions.weight", ("transformer.wpe.weight",)),
        *(m for m in blocks if not m.local.endswith(".query_key_value.bias")),
        *map_layer("norm", "transformer.ln_f"),
    ]


GPT_NEO_FORMAT = CheckpointFormat(
    "gpt_neo",
    _read,
    _write,
    _map_parameters,
    prefix="transformer.",
    ignored=(".attn.attention.bias", ".attn.attention.masked_bias"),
    tied_names={"lm_head.weight": "transformer.wte.weight"},
    tokenizer_class="GPT2Tokenizer",
)
"""Checkpoints of GPT-Neo."""
