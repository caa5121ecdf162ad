"""How Gemma checkpoints store the weights of a `Gpt`: as Llama's, with other norms and gates.

Names and defaults are those of ``transformers`` (``modeling_gemma``): the factors of norms are
1 + weight, embeddings are taken times ``sqrt(dim)``, and gates have a GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import FieldMapping, field_of, require_fields
from regard.models.gpt.hf import PLAIN_ATTENTION, with_every_bias
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, read_llama, write_llama

HEAD_DIM = 256
"""Default of ``head_dim``."""
# An early name of the releases means the approximation, too.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh",
    "gelu": "geglu_tanh",
    "silu": "swiglu",
}
_FIELDS = llama_fields(
    num_layers=28,
    dim=3072,
    num_heads=16,
    hidden_dim=24576,
    max_positions=8192,
    tied=True,
    activation=FieldMapping("activation", "hidden_act", "gelu_pytorch_tanh", _ACTIVATIONS),
)
GEMMA_SETTINGS: Mapping[str, Any] = {
    "norm_kind": "zero_centered_rms",
    "has_embedding_scale": True,
    "bias": False,
}
"""Settings of all models of Gemma."""


def read_gemma(
    fields: Mapping[str, Any], mappings: tuple[FieldMapping, ...], **read: Any
) -> dict[str, Any]:
    """Read the settings that all formats of Gemma have.

    Args:
        fields: All values of ``config.json``.
        mappings: From `llama_fields`.
        **read: Arguments of `read_llama`.

    Returns:
        The values of the settings, by name.

    Raises:
        ConfigError: A value is of another type, or asks for what is not computed here.
    """
    require_fields(fields, {"use_bidirectional_attention": False})
    values = read_llama(fields, mappings, head_dim=HEAD_DIM, **read)
    has_bias = field_of(fields, "attention_bias", False)
    return {**values, **GEMMA_SETTINGS, "attention_bias": has_bias or None}


def write_gemma(
    config: GptConfig,
    vocab_size: int,
    mappings: tuple[FieldMapping, ...],
    *,
    model_type: str,
    architecture: str,
    only: Mapping[str, Any],
    own: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the fields that all formats of Gemma have.

    Args:
        config: The model's.
        vocab_size: Number of token ids.
        mappings: From `llama_fields`.
        model_type: Name of the format.
        architecture: Class of ``transformers``.
        only: The one value that the format has for settings of its own.
        own: Settings that it has fields of its own for.

    Returns:
        The values of the fields, by name.

    Raises:
        ConfigError: A setting has a value that the format has no field for.
    """
    has_bias = with_every_bias(config).attention_bias
    written = write_llama(
        config,
        vocab_size,
        mappings,
        model_type=model_type,
        architecture=architecture,
        only={**GEMMA_SETTINGS, "qkv_bias": has_bias, **only},
        own=own,
    )
    if config.dim % config.num_heads:
        raise ConfigError(
            f"model.dim={config.dim}: {model_type} checkpoints have multiples of num_heads "
            f"({config.num_heads}) only."
        )
    return written | {"attention_bias": has_bias}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    return GptConfig(**read_gemma(fields, _FIELDS, num_kv_heads=16))


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    return write_gemma(
        config,
        vocab_size,
        _FIELDS,
        model_type="gemma",
        architecture="GemmaForCausalLM",
        only=PLAIN_ATTENTION,
    )


GEMMA_FORMAT = llama_format("gemma", _read, _write, tokenizer_class="GemmaTokenizer")
"""Checkpoints of Gemma."""
