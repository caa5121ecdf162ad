"""How Gemma 3 checkpoints of text store the weights of a `Gpt`: as Gemma 2's, with norms of heads.

Names and defaults are those of ``transformers`` (``modeling_gemma3``): queries and keys are
normalised, five of six layers have a window, and these have rotary angles with a base of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.rotary_scaling import PlainAngles
from regard.models.base.checkpoint_format import SettingError, field_of, require_fields
from regard.models.base.rotary_fields import read_scaling, scaling_fields
from regard.models.base.window_fields import KINDS_OF_LAYERS
from regard.models.gemma.hf import read_gemma, write_gemma
from regard.models.gemma2.hf import (
    GEMMA2_KV_HEADS,
    gemma2_fields,
    read_alternating_windows,
    read_cap,
    read_scalar,
    scalar_and_window_fields,
)
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_format

_FIELDS = gemma2_fields(max_positions=131072)
_LOCAL, _GLOBAL = KINDS_OF_LAYERS[True], KINDS_OF_LAYERS[False]
_BASES = {_GLOBAL: ("rope_theta", 1e6), _LOCAL: ("rope_local_base_freq", 1e4)}
_PERIOD = 6  # layers from one without a window to the next


def _read_ropes(fields: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the fields of the angles of both kinds of layers, where old and new files have them.

    Raises:
        ConfigError: They have another form.
    """
    by_layer = fields.get("rope_parameters") or {}
    scaling = fields.get("rope_scaling") or {}
    if not isinstance(by_layer, Mapping) or not by_layer.keys() <= _BASES.keys():
        raise ConfigError(
            f"config.json: rope_parameters={json.dumps(by_layer)[:80]}: an object with "
            f"{_GLOBAL} and {_LOCAL} was expected."
        )
    ropes = {kind: by_layer.get(kind) or {} for kind in _BASES}
    for name, rope in {**ropes, "rope_scaling": scaling}.items():
        if not isinstance(rope, Mapping):
            raise ConfigError(f"config.json: {name}={json.dumps(rope)}: an object was expected.")
        field = f"{name}.partial_rotary_factor"
        require_fields({field: rope.get("partial_rotary_factor")}, {field: 1.0})
    if scaling.get("type") is not None and scaling.get("rope_type") is None:
        raise ConfigError(
            f"config.json: rope_scaling.type={json.dumps(scaling['type'])}: releases of "
            "transformers from 5 on do not read this name of it.  Write rope_type."
        )
    return {**ropes, _GLOBAL: {**ropes[_GLOBAL], **scaling}}


def _read_rotary(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read the angles of both kinds of layers.

    Returns:
        The settings.

    Raises:
        ConfigError: They have another form, or ask for what is not computed here.
    """
    ropes = _read_ropes(fields)
    bases = {
        kind: field_of(ropes[kind], "rope_theta", field_of(fields, name, default))
        for kind, (name, default) in _BASES.items()
    }
    field = f"rope_parameters.{_LOCAL}"
    if read_scaling(fields, ropes[_LOCAL], field) != PlainAngles():
        raise ConfigError(
            f"config.json: {field}.rope_type={json.dumps(ropes[_LOCAL]['rope_type'])}: no such "
            "variant here, default alone is computed in these layers."
        )
    field = f"rope_parameters.{_GLOBAL}"
    rule = read_scaling(fields, ropes[_GLOBAL], field)
    if rule.depends_on_length:
        raise ConfigError(
            f"config.json: {field}.rope_type={json.dumps(rule.rope_type)}: no such variant here, "
            "angles of this model do not depend on the length of a text."
        )
    return {
        "rotary_base": bases[_GLOBAL],
        "local_rotary_base": bases[_LOCAL],
        "rotary_scaling": rule,
    }


def _read(fields: Mapping[str, Any]) -> GptConfig:
    require_fields(fields, {"attn_logit_softcapping": None})
    plain = {name: fields[name] for name in fields if not name.startswith("rope_")}
    values = read_gemma(plain, _FIELDS, num_kv_heads=GEMMA2_KV_HEADS) | _read_rotary(fields)
    period = field_of(fields, "sliding_window_pattern", _PERIOD)
    if period < 1:
        raise ConfigError(f"config.json: sliding_window_pattern={period}: must be 1 or more.")
    window = read_alternating_windows(
        fields, values["num_layers"], lambda layer: (layer + 1) % period != 0
    )
    if window == 0:
        values["local_rotary_base"] = None
    return GptConfig(
        **values,
        norm="sandwich",
        qk_norm=True,
        query_pre_attn_scalar=read_scalar(fields),
        logit_soft_cap=read_cap(fields, "final_logit_softcapping", None),
        window=window,
    )


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind = "gemma3_text checkpoints"
    written = write_gemma(
        config,
        vocab_size,
        _FIELDS,
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        only={"norm": "sandwich", "qk_norm": True},
        own=("logit_soft_cap", "query_pre_attn_scalar", "local_rotary_base"),
    )
    if (rule := config.rotary_scaling).depends_on_length:
        sentence = (
            f"model.rotary_scaling.rope_type={rule.rope_type}: {kind} have no angles here that "
            "depend on the length of a text."
        )
        raise SettingError([sentence], {"rotary_scaling.rope_type": "default"})
    is_plain = rule == PlainAngles()
    if config.local_rotary_base is None and any(config.windows()) and not is_plain:
        sentence = (
            f"model.local_rotary_base=none: {kind} have layers with a window only whose angles are "
            "not slowed down."
        )
        raise SettingError([sentence], {"local_rotary_base": config.rotary_base})
    local_base = config.local_rotary_base or config.rotary_base
    return {
        **written,
        **scalar_and_window_fields(config, kind=kind),
        "final_logit_softcapping": config.logit_soft_cap,
        "rope_local_base_freq": local_base,
        "rope_parameters": {
            _GLOBAL: {"rope_theta": config.rotary_base, **scaling_fields(rule)},
            _LOCAL: {"rope_theta": local_base, "rope_type": "default"},
        },
    }


GEMMA3_FORMAT = llama_format("gemma3_text", _read, _write, tokenizer_class="GemmaTokenizer")
"""Checkpoints of Gemma 3 that read text alone."""
