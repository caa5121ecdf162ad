"""How OLMo 2 checkpoints store the weights of a `Gpt`: as Llama's, with norms at other positions.

Names and defaults are those of ``transformers`` (``modeling_olmo2``): what each sub-layer adds is
normalised, and so are the queries and the keys of all heads together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import field_of
from regard.models.gpt.hf import with_every_bias
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, read_llama, write_llama

_FIELDS = llama_fields(hidden_dim=11008, max_positions=2048, epsilon=1e-5)
_SETTINGS = {"bias": False, "norm": "output", "qk_norm": "joint"}


def _read(fields: Mapping[str, Any]) -> GptConfig:
    has_bias = field_of(fields, "attention_bias", False)
    values = read_llama(fields, _FIELDS) | _SETTINGS
    return GptConfig(**values, attention_bias=has_bias or None)


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    has_bias = with_every_bias(config).attention_bias
    written = write_llama(
        config,
        vocab_size,
        _FIELDS,
        model_type="olmo2",
        architecture="Olmo2ForCausalLM",
        only={**_SETTINGS, "qkv_bias": has_bias, "window": 0},
    )
    if config.head_dim is None:  # the format has this field for other sizes alone
        del written["head_dim"]
    return written | {"attention_bias": has_bias}


OLMO2_FORMAT = llama_format("olmo2", _read, _write, tokenizer_class="GPT2Tokenizer")
"""Checkpoints of OLMo 2."""
