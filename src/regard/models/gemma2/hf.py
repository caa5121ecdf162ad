"""How Gemma 2 checkpoints store the weights of a `Gpt`: as Gemma's, with norms of outputs.

Names and defaults are those of ``transformers`` (``modeling_gemma2``): each sub-layer has a norm
before it and one after it, scores and logits are bounded, and every other layer has a window.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import FieldMapping, SettingError, field_of, setting_text
from regard.models.base.window_fields import (
    KINDS_OF_LAYERS,
    WINDOW,
    layers_with_window,
    read_window,
    window_setting,
)
from regard.models.gemma.hf import read_gemma, write_gemma
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format

_ACTIVATIONS: dict[str, Activation] = {
    "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh",
    "gelu": "geglu",
    "silu": "swiglu",
}


def gemma2_fields(*, max_positions: int) -> tuple[FieldMapping, ...]:
    """Return the fields that Gemma 2 and 3 share with Llama.

    Args:
        max_positions: Default of ``max_position_embeddings``.
    """
    return llama_fields(
        num_layers=26,
        dim=2304,
        num_heads=8,
        hidden_dim=9216,
        max_positions=max_positions,
        tied=True,
        activation=FieldMapping(
            "activation", "hidden_activation", "gelu_pytorch_tanh", _ACTIVATIONS
        ),
    )


_FIELDS = gemma2_fields(max_positions=8192)
_CAPS = {
    "attention_soft_cap": ("attn_logit_softcapping", 50.0),
    "logit_soft_cap": ("final_logit_softcapping", 30.0),
}
GEMMA2_KV_HEADS = 4
"""Default of ``num_key_value_heads``."""
_QUERY_SCALAR = 256.0  # default of query_pre_attn_scalar


def read_cap(fields: Mapping[str, Any], name: str, default: float | None) -> float | None:
    """Read a bound of scores or logits; null is none.

    Args:
        fields: All values of ``config.json``.
        name: Name of the field.
        default: Where it is missing.

    Returns:
        The bound; None where there is none.
    """
    value = fields.get(name, default)
    return None if value is None else field_of(fields, name, default or 1.0)


def read_scalar(fields: Mapping[str, Any]) -> float:
    """Read the number whose root divides scores, from the fields of ``config.json``.

    Returns:
        The number.

    Raises:
        ConfigError: It is not a number above 0.
    """
    scalar = field_of(fields, "query_pre_attn_scalar", _QUERY_SCALAR)
    if scalar <= 0:
        raise ConfigError(f"config.json: query_pre_attn_scalar={scalar:g}: must be above 0.")
    return scalar


def read_alternating_windows(
    fields: Mapping[str, Any], num_layers: int, has_window: Callable[[int], bool]
) -> int | tuple[int, ...]:
    """Read the window of each layer.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.
        has_window: Whether a layer has one where ``layer_types`` does not say it.

    Returns:
        One number where all layers have the same, 0 for none.

    Raises:
        ConfigError: A field has another type, or there are too many layers.
    """
    window, kinds = read_window(fields), layers_with_window(fields, num_layers, has_window)
    if any(kinds) and not window:
        raise ConfigError(
            f"config.json: sliding_window={json.dumps(None)}: some layers are "
            f"{KINDS_OF_LAYERS[True]}, which need one."
        )
    return window_setting([window if is_local else 0 for is_local in kinds])


def scalar_and_window_fields(config: GptConfig, *, kind: str) -> dict[str, Any]:
    """Return the fields of the factor on scores and of the windows of layers.

    Args:
        config: The model's.
        kind: What is written, such as ``gemma2 checkpoints``.

    Returns:
        The values of the fields, by name.

    Raises:
        SettingError: The factor is not that of a whole number, or windows differ in size.
    """
    scalar, windows = config.query_pre_attn_scalar or float(config.size_of_head), config.windows()
    if not scalar.is_integer():
        sentence = f"model.query_pre_attn_scalar={scalar}: {kind} have whole numbers only."
        raise SettingError([sentence], {"query_pre_attn_scalar": max(1.0, float(round(scalar)))})
    sizes = sorted(set(windows) - {0})
    if len(sizes) > 1:
        largest = tuple(sizes[-1] if size else 0 for size in windows)
        sentence = f"model.window={setting_text(windows)}: {kind} have one size of window only."
        raise SettingError([sentence], {"window": largest})
    return {
        "query_pre_attn_scalar": int(scalar),
        # `transformers` needs one even where no layer has it.
        "sliding_window": sizes[0] if sizes else WINDOW,
        "layer_types": [KINDS_OF_LAYERS[size > 0] for size in windows],
    }


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_gemma(fields, _FIELDS, num_kv_heads=GEMMA2_KV_HEADS)
    caps: dict[str, Any] = {name: read_cap(fields, *field) for name, field in _CAPS.items()}
    return GptConfig(
        **values,
        **caps,
        norm="sandwich",
        query_pre_attn_scalar=read_scalar(fields),
        window=read_alternating_windows(fields, values["num_layers"], lambda layer: layer % 2 == 0),
    )


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    written = write_gemma(
        config,
        vocab_size,
        _FIELDS,
        model_type="gemma2",
        architecture="Gemma2ForCausalLM",
        only={"norm": "sandwich", "qk_norm": False},
        own=(*_CAPS, "query_pre_attn_scalar"),
    )
    caps = {field: getattr(config, name) for name, (field, _) in _CAPS.items()}
    return written | caps | scalar_and_window_fields(config, kind="gemma2 checkpoints")


GEMMA2_FORMAT = llama_format("gemma2", _read, _write, tokenizer_class="GemmaTokenizer")
"""Checkpoints of Gemma 2."""
