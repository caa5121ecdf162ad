"""How Llama and SmolLM checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_llama``). A variant that `Gpt` does not
compute, such as stretched rotary angles, is refused by the field that asks for it. Mistral and Qwen
have the same fields and names, and a few of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    ParameterMapping,
    field_of,
    map_blocks,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.gpt.hf import PLAIN_ATTENTION, map_tables, with_every_bias
from regard.models.gpt.model import GptConfig

_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu"}
_ONLY_SETTINGS: dict[str, Any] = {"positions": "rotary", "norm_kind": "rms"}
_ROTARY_KINDS = ("default", "llama3")
_ORIGINAL_LENGTH = "original_max_position_embeddings"
_SCALING_FIELDS = ("factor", _ORIGINAL_LENGTH, "low_freq_factor", "high_freq_factor")
"""Fields of ``rope_type=llama3``, in the order of the numbers of `RotaryScaling`."""


def llama_fields(*, hidden_dim: int, max_positions: int) -> tuple[FieldMapping, ...]:
    """Return the fields that all formats like Llama's have.

    Args:
        hidden_dim: Default of ``intermediate_size``.
        max_positions: Default of ``max_position_embeddings``.
    """
    return (
        FieldMapping("num_layers", "num_hidden_layers", 32),
        FieldMapping("dim", "hidden_size", 4096),
        FieldMapping("num_heads", "num_attention_heads", 32),
        FieldMapping("hidden_dim", "intermediate_size", hidden_dim),
        FieldMapping("epsilon", "rms_norm_eps", 1e-6),
        FieldMapping("activation", "hidden_act", "silu", _ACTIVATIONS),
        FieldMapping("max_positions", "max_position_embeddings", max_positions),
        FieldMapping("tied", "tie_word_embeddings", False),
    )


_FIELDS = (
    *llama_fields(hidden_dim=11008, max_positions=2048),
    FieldMapping("bias", "mlp_bias", False),
)


def read_llama(
    fields: Mapping[str, Any],
    mappings: Sequence[FieldMapping],
    *,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """Read the settings that all formats like Llama's have.

    Args:
        fields: All values of ``config.json``.
        mappings: From `llama_fields`.
        num_kv_heads: Default of ``num_key_value_heads``; None is ``num_attention_heads``, as null
            is in every format.
        head_dim: Default of ``head_dim``; None is ``hidden_size / num_attention_heads``.

    Returns:
        The values of the settings, by name.

    Raises:
        ConfigError: A value is of another type, or asks for what is not computed here.
    """
    require_fields(fields, {"partial_rotary_factor": 1.0})
    values = read_settings(fields, mappings) | _ONLY_SETTINGS
    is_missing = "num_key_value_heads" not in fields
    default = num_kv_heads if is_missing and num_kv_heads is not None else values["num_heads"]
    return {
        **values,
        "num_kv_heads": field_of(fields, "num_key_value_heads", default),
        "head_dim": field_of(fields, "head_dim", head_dim or 0) or None,
        "dropout": 0.0,
        **_read_rotary(fields),
    }


def _read_rotary(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read the angles where old and new files have them; refuse those that grow in other ways."""
    base, scaling = field_of(fields, "rope_theta", 10000.0), None
    for name in ("rope_parameters", "rope_scaling"):  # of transformers from 5 on, and before
        rope = fields.get(name) or {}
        if not isinstance(rope, Mapping):
            raise ConfigError(f"config.json: {name}={json.dumps(rope)}: an object was expected.")
        kinds = {key: rope[key] for key in ("rope_type", "type") if rope.get(key) is not None}
        for key, kind in kinds.items():
            if kind not in _ROTARY_KINDS:
                raise ConfigError(
                    f"config.json: {name}.{key}={json.dumps(kind)}: no such variant here, known "
                    f"are {', '.join(_ROTARY_KINDS)}."
                )
        factor = f"{name}.partial_rotary_factor"
        require_fields({factor: rope.get("partial_rotary_factor")}, {factor: 1.0})
        if "llama3" in kinds.values():
            scaling = _read_scaling(rope, name)
        by_layer = [key for key, value in rope.items() if isinstance(value, Mapping)]
        if by_layer:
            raise ConfigError(
                f"config.json: {name}.{by_layer[0]}: no such variant here, all layers have the "
                "same angles."
            )
        base = field_of(rope, "rope_theta", base)
    return {"rotary_base": base, "rotary_scaling": scaling}


def _read_scaling(rope: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """Read how angles are slowed down.

    Args:
        rope: The values of the angles.
        name: Their name in ``config.json``.

    Returns:
        The setting of the model.

    Raises:
        ConfigError: A value is missing.
    """
    missing = [key for key in _SCALING_FIELDS if rope.get(key) is None]
    if missing:
        raise ConfigError(f"config.json: {name}.{missing[0]} is missing, which llama3 needs.")
    return tuple(field_of(rope, key, 1.0) for key in _SCALING_FIELDS)


def write_llama(
    config: GptConfig,
    vocab_size: int,
    mappings: Sequence[FieldMapping],
    *,
    model_type: str,
    architecture: str,
    only: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the fields that all formats like Llama's have.

    Args:
        config: The model's.
        vocab_size: Number of token ids.
        mappings: From `llama_fields`.
        model_type: Name of the format.
        architecture: Class of ``transformers``.
        only: The one value that the format has for settings of its own.

    Returns:
        The values of the fields, by name.

    Raises:
        SettingError: A setting has a value that the format has no field for.
    """
    kind = f"{model_type} checkpoints"
    require_settings(with_every_bias(config), _ONLY_SETTINGS | dict(only), kind=kind)
    return {
        **write_settings(config, mappings, kind=kind),
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": vocab_size,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.size_of_head,
        # Releases of transformers before 5 read the first, later ones the second.
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_theta": config.rotary_base, **_scaling_fields(config)},
        **({} if config.rotary_scaling is None else {"rope_scaling": _scaling_fields(config)}),
    }


def _scaling_fields(config: GptConfig) -> dict[str, Any]:
    """Return the fields of how angles are slowed down."""
    if config.rotary_scaling is None:
        return {"rope_type": "default"}
    numbers = dict(zip(_SCALING_FIELDS, config.rotary_scaling, strict=True))
    return {"rope_type": "llama3", **numbers, _ORIGINAL_LENGTH: int(numbers[_ORIGINAL_LENGTH])}


def map_llama(config: GptConfig) -> list[ParameterMapping]:
    """List the parameters of a model in a format like Llama's, tied ones once.

    Args:
        config: The model's.

    Returns:
        The mappings.
    """
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    inputs = {"self_attention.query_key_value": (query, key, value)}
    if config.num_kv_heads not in (None, config.num_heads):
        inputs = {
            "self_attention.query": (query,),
            "self_attention.key_value": (key, value),
        }
    output = {"self_attention.output": ("self_attn.o_proj",)}
    feed_forward = {
        "feed_forward.inner": ("mlp.gate_proj", "mlp.up_proj"),
        "feed_forward.outer": ("mlp.down_proj",),
    }
    norms = {
        "attention_residual.norm": ("input_layernorm",),
        "feed_forward_residual.norm": ("post_attention_layernorm",),
    }
    if config.qk_norm:
        norms["self_attention.query_norm"] = ("self_attn.q_norm",)
        norms["self_attention.key_norm"] = ("self_attn.k_norm",)
    complete = with_every_bias(config)
    has_bias = {
        **dict.fromkeys(inputs, complete.qkv_bias),
        **dict.fromkeys(output, complete.attention_bias),
        **dict.fromkeys(feed_forward, config.bias),
    }
    block = inputs | output | feed_forward | norms
    return [
        *map_tables(config.tied, "model.embed_tokens.weight"),
        *(
            mapping
            for mapping in map_blocks("blocks", "model.layers", config.num_layers, block)
            # RMS norms have no biases, and linear maps may have none.
            if mapping.local.endswith(".weight") or has_bias.get(_layer_of(mapping.local))
        ),
        ParameterMapping("norm.weight", ("model.norm.weight",)),
    ]


def _layer_of(parameter: str) -> str:
    """Return the name of a layer within its block, by that of a parameter.

    >>> _layer_of("blocks.0.feed_forward.inner.bias")
    'feed_forward.inner'
    """
    return ".".join(parameter.split(".")[2:-1])


def llama_format(
    model_type: str, read: Any, write: Any, *, tokenizer_class: str = "LlamaTokenizer"
) -> CheckpointFormat:
    """Return a format with Llama's names of tensors.

    Args:
        model_type: Its name in ``config.json``.
        read: See `CheckpointFormat`.
        write: See `CheckpointFormat`.
        tokenizer_class: See `CheckpointFormat`.
    """
    return CheckpointFormat(
        model_type,
        read,
        write,
        map_llama,
        prefix="model.",
        ignored=(".rotary_emb.inv_freq",),
        tied_names={"lm_head.weight": "model.embed_tokens.weight"},
        tokenizer_class=tokenizer_class,
    )


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_llama(fields, _FIELDS)
    has_bias = field_of(fields, "attention_bias", False)
    return GptConfig(**values, attention_bias=None if has_bias == values["bias"] else has_bias)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    has_bias = with_every_bias(config).attention_bias
    only = {"qkv_bias": has_bias, **PLAIN_ATTENTION}
    written = write_llama(
        config,
        vocab_size,
        _FIELDS,
        model_type="llama",
        architecture="LlamaForCausalLM",
        only=only,
    )
    if config.dim % config.num_heads:
        raise ConfigError(
            f"model.dim={config.dim}: llama checkpoints have multiples of num_heads "
            f"({config.num_heads}) only."
        )
    return written | {"attention_bias": has_bias}


LLAMA_FORMAT = llama_format("llama", _read, _write)
"""Checkpoints of Llama, SmolLM and others that have its format."""
