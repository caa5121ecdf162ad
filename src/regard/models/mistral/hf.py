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
from regard.models.base.window_fields import read_layer_types, read_window
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, read_llama, write_llama

_FIELDS = llama_fields(hidden_dim=14336, max_positions=131072)
_NUM_KV_HEADS = 8  # of `transformers`, where config.json does not say it
NO_BIASES = dict.fromkeys(("bias", "attention_bias", "qkv_bias"), False)
"""Settings of linear maps without biases."""


def one_window(config: GptConfig, *, kind: str) -> int | None:
    """Return the window that all layers have; None for none.

    Args:
        config: The model's.
        kind: What is written, such as ``mistral checkpoints``.

    Raises:
        SettingError: Layers have different windows.
    """
    window, *different = dict.fromkeys(config.windows())
    if different:
        raise SettingError(
            [f"model.window={setting_text(config.window)}: {kind} have one for all layers only."],
            {"window": window},
        )
    return window or None


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
