"""How Qwen2 and Qwen2.5 checkpoints store the weights of a `Gpt`: as Llama's, with biases.

Names and defaults are those of ``transformers`` (``modeling_qwen2``): the maps to queries, keys and
values have biases and no other map has, and some layers may have a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import SettingError, field_of, setting_text
from regard.models.base.window_fields import (
    KINDS_OF_LAYERS,
    layers_with_window,
    read_window,
    window_setting,
)
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, read_llama, write_llama

QWEN_FIELDS = llama_fields(hidden_dim=22016, max_positions=32768)
"""The fields that Qwen's formats share with Llama's."""
QWEN_KV_HEADS = 32
"""Default of ``num_key_value_heads``."""
_FIRST_WINDOW = 28  # default of max_window_layers
_BIASES = {"bias": False, "attention_bias": False, "qkv_bias": True}


def read_windows(fields: Mapping[str, Any], num_layers: int) -> int | tuple[int, ...]:
    """Read the window of each layer.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.

    Returns:
        One number where all layers have the same, 0 for none.

    Raises:
        ConfigError: Some layers are to have a window, and there is none; or a field has another
            type.
    """
    window = read_window(fields) if field_of(fields, "use_sliding_window", False) else 0
    first = field_of(fields, "max_window_layers", _FIRST_WINDOW)
    has_windows = layers_with_window(
        fields, num_layers, lambda layer: window > 0 and layer >= first
    )
    if any(has_windows) and not window:
        raise ConfigError(
            f"config.json: layer_types has {KINDS_OF_LAYERS[True]}, and use_sliding_window and "
            "sliding_window give no window."
        )
    return window_setting([window if has_window else 0 for has_window in has_windows])


def window_fields(config: GptConfig, *, kind: str) -> dict[str, Any]:
    """Return the fields that hold the window of each layer.

    Args:
        config: The model's.
        kind: What is written, such as ``qwen2 checkpoints``.

    Returns:
        The values of the fields, by name.

    Raises:
        SettingError: Layers have windows of different sizes.
    """
    windows = config.windows()
    sizes = sorted(set(windows) - {0})
    if len(sizes) > 1:
        largest = tuple(sizes[-1] if size else 0 for size in windows)
        sentence = f"model.window={setting_text(windows)}: {kind} have one size of window only."
        raise SettingError([sentence], {"window": largest})
    # Releases of transformers before layer_types have windows after the first layers alone.
    num_full = next((layer for layer, size in enumerate(windows) if size), len(windows))
    return {
        "use_sliding_window": bool(sizes),
        "sliding_window": sizes[0] if sizes else None,
        "max_window_layers": num_full,
        "layer_types": [KINDS_OF_LAYERS[size > 0] for size in windows],
    }


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_llama(fields, QWEN_FIELDS, num_kv_heads=QWEN_KV_HEADS)
    window = read_windows(fields, values["num_layers"])
    return GptConfig(**values, qkv_bias=True, window=window)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    written = write_llama(
        config,
        vocab_size,
        QWEN_FIELDS,
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        only={**_BIASES, "qk_norm": False},
    )
    if config.head_dim is None:  # the format has this field for other sizes alone
        del written["head_dim"]
    return written | window_fields(config, kind="qwen2 checkpoints")


QWEN2_FORMAT = llama_format("qwen2", _read, _write, tokenizer_class="Qwen2Tokenizer")
"""Checkpoints of Qwen2 and Qwen2.5."""
