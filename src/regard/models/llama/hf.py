"""How Llama and SmolLM checkpoints name and store the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_llama``). A variant that `Gpt` does not
compute, such as angles that depend on the length, is refused by the field that asks for it. Mistral
and Qwen have the same fields and names, and a few of their own.
"""

from __future__ import annotations

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
    require_settings,
    write_settings,
)
from regard.models.base.rotary_fields import RotaryFields, write_rotary
from regard.models.gpt.hf import PLAIN_ATTENTION, PLAIN_BLOCK, map_tables, with_every_bias
from regard.models.gpt.model import GptConfig

_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu"}
_ONLY_SETTINGS: dict[str, Any] = {"positions": "rotary", "norm_kind": "rms"}


_ACTIVATION = FieldMapping("activation", "hidden_act", "silu", _ACTIVATIONS)


def llama_fields(
    *,
    hidden_dim: int,
    max_positions: int,
    num_layers: int = 32,
    dim: int = 4096,
    num_heads: int = 32,
    tied: bool = False,
    epsilon: float = 1e-6,
    activation: FieldMapping = _ACTIVATION,
) -> tuple[FieldMapping, ...]:
    """Return the fields that all formats like Llama's have.

    Args:
        hidden_dim: Default of ``intermediate_size``.
        max_positions: Default of ``max_position_embeddings``.
        num_layers: Default of ``num_hidden_layers``.
        dim: Default of ``hidden_size``.
        num_heads: Default of ``num_attention_heads``.
        tied: Default of ``tie_word_embeddings``.
        epsilon: Default of ``rms_norm_eps``.
        activation: Field of the activation.
    """
    return (
        FieldMapping("num_layers", "num_hidden_layers", num_layers),
        FieldMapping("dim", "hidden_size", dim),
        FieldMapping("num_heads", "num_attention_heads", num_heads),
        FieldMapping("hidden_dim", "intermediate_size", hidden_dim),
        FieldMapping("epsilon", "rms_norm_eps", epsilon),
        activation,
        FieldMapping("max_positions", "max_position_embeddings", max_positions),
        FieldMapping("tied", "tie_word_embeddings", tied),
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
    rotary: RotaryFields = RotaryFields(),  # noqa: B008 - an immutable value
) -> dict[str, Any]:
    """Read the settings that all formats like Llama's have.

    Args:
        fields: All values of ``config.json``.
        mappings: From `llama_fields`.
        num_kv_heads: Default of ``num_key_value_heads``; None is ``num_attention_heads``, as null
            is in every format.
        head_dim: Default of ``head_dim``; None is ``hidden_size / num_attention_heads``.
        rotary: Where the angles are.

    Returns:
        The values of the settings, by name.

    Raises:
        ConfigError: A value is of another type, or asks for what is not computed here.
    """
    values = read_settings(fields, mappings) | _ONLY_SETTINGS
    is_missing = "num_key_value_heads" not in fields
    default = num_kv_heads if is_missing and num_kv_heads is not None else values["num_heads"]
    return {
        **values,
        "num_kv_heads": field_of(fields, "num_key_value_heads", default),
        "head_dim": field_of(fields, "head_dim", head_dim or 0) or None,
        "dropout": 0.0,
        **rotary.read(fields),
    }


def write_llama(
    config: GptConfig,
    vocab_size: int,
    mappings: Sequence[FieldMapping],
    *,
    model_type: str,
    architecture: str,
    only: Mapping[str, Any],
    own: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the fields that all formats like Llama's have.

    Args:
        config: The model's.
        vocab_size: Number of token ids.
        mappings: From `llama_fields`.
        model_type: Name of the format.
        architecture: Class of ``transformers``.
        only: The one value that the format has for settings of its own.
        own: Settings that it has fields of its own for, which most formats do not have.

    Returns:
        The values of the fields, by name.

    Raises:
        SettingError: A setting has a value that the format has no field for.
    """
    kind = f"{model_type} checkpoints"
    plain = {name: value for name, value in PLAIN_BLOCK.items() if name not in own}
    require_settings(with_every_bias(config), {**_ONLY_SETTINGS, **plain, **only}, kind=kind)
    return {
        **write_settings(config, mappings, kind=kind),
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": vocab_size,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.size_of_head,
        **write_rotary(config.rotary_base, config.rotary_scaling, config.max_positions),
    }


_NORMS: Mapping[str, Mapping[str, str]] = {
    "pre": {
        "attention_residual.norm": "input_layernorm",
        "feed_forward_residual.norm": "post_attention_layernorm",
    },
    "sandwich": {
        "attention_residual.norm": "input_layernorm",
        "attention_residual.output_norm": "post_attention_layernorm",
        "feed_forward_residual.norm": "pre_feedforward_layernorm",
        "feed_forward_residual.output_norm": "post_feedforward_layernorm",
    },
    "output": {
        "attention_residual.output_norm": "post_attention_layernorm",
        "feed_forward_residual.output_norm": "post_feedforward_layernorm",
    },
}
"""Published names of the norms of a block, by their positions."""


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
    norms = {name: (remote,) for name, remote in _NORMS[config.norm].items()}
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
