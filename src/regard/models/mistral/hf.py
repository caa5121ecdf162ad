"""How Mistral checkpoints store the weights of a `Gpt`: as Llama's, with a window.

Names and defaults are those of ``transformers`` (``modeling_mistral``), where no linear map has a
bias. A token sees ``sliding_window`` tokens, itself counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import SettingError, setting_text
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, read_llama, write_llama

_FIELDS = llama_fields(hidden_dim=14336, max_positions=131072)
_NUM_KV_HEADS = 8  # of `transformers`, where config.json does not say it
WINDOW = 4096
"""Default of ``sliding_window``."""
NO_BIASES = dict.fromkeys(("bias", "attention_bias", "qkv_bias"), False)
"""Settings of linear maps without biases."""
KINDS_OF_LAYERS = {False: "full_attention", True: "sliding_attention"}
"""Names of layers in ``layer_types``, by whether they have a window."""


def read_window(fields: Mapping[str, Any]) -> int:
    """Read ``sliding_window``, the tokens that a token sees, itself counted.

    Args:
        fields: All values of ``config.json``.

    Returns:
        The window; 0 where it is null, which is none. Where it is missing it has the default of
        ``transformers``.

    Raises:
        ConfigError: It is not a whole number of 1 or more.
    """
    window = fields.get("sliding_window", WINDOW)
    if window is None:
        return 0
    if type(window) is not int or window < 1:
        raise ConfigError(
            f"config.json: sliding_window={json.dumps(window)}: a whole number of 1 or more, or "
            "null for none, was expected."
        )
    return window


def read_layer_types(fields: Mapping[str, Any], num_layers: int) -> list[bool] | None:
    """Read ``layer_types``: whether each layer has a window.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.

    Returns:
        Of each layer; None where the file does not say it.

    Raises:
        ConfigError: It is not a list with one known kind for each layer.
    """
    kinds = fields.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise ConfigError(
            f"config.json: layer_types={json.dumps(kinds)[:80]}: a list of {num_layers} kinds, one "
            "for each layer, was expected."
        )
    names = {name: has_window for has_window, name in KINDS_OF_LAYERS.items()}
    for kind in kinds:
        if not isinstance(kind, str) or kind not in names:
            raise ConfigError(
                f"config.json: layer_types has {json.dumps(kind)}: no such variant here, known are "
                f"{', '.join(names)}."
            )
    return [names[kind] for kind in kinds]


def one_window(config: GptConfig, *, kind: str) -> int | None:
    """Return the window that all layers have; None for none.

    Args:
        config: The model's.
        kind: What is written, such as ``mistral checkpoints``.

    Raises:
        SettingError: Layers have different windows.
    """
    first, *others = dict.fromkeys(config.windows())
    if others:
        raise SettingError(
            [f"model.window={setting_text(config.window)}: {kind} have one for all layers only."],
            {"window": first},
        )
    return first or None


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_llama(fields, _FIELDS, num_kv_heads=_NUM_KV_HEADS)
    window = read_window(fields)
    has_windows = read_layer_types(fields, values["num_layers"])
    if has_windows is not None and has_windows != [window > 0] * values["num_layers"]:
        raise ConfigError(
            f"config.json: layer_types differs from sliding_window={json.dumps(window or None)}, "
            "which all layers of a mistral checkpoint have."
        )
    return GptConfig(**values, window=window)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    written = write_llama(
        config,
        vocab_size,
        _FIELDS,
        model_type="mistral",
        architecture="MistralForCausalLM",
        only={**NO_BIASES, "qk_norm": False},
    )
    return written | {"sliding_window": one_window(config, kind="mistral checkpoints")}


MISTRAL_FORMAT = llama_format("mistral", _read, _write)
"""Checkpoints of Mistral."""
