"""How Qwen3 checkpoints store the weights of a `Gpt`: as Llama's, with norms of heads.

Names and defaults are those of ``transformers`` (``modeling_qwen3``): each head of queries and keys
is normalised before it is rotated, and some layers may have a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.models.base.checkpoint_format import field_of
from regard.models.gpt.hf import with_every_bias
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_format, read_llama, write_llama
from regard.models.qwen2.hf import QWEN_FIELDS, QWEN_KV_HEADS, read_windows, window_fields

_HEAD_DIM = 128  # of `transformers`, where config.json does not say it


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_llama(fields, QWEN_FIELDS, num_kv_heads=QWEN_KV_HEADS, head_dim=_HEAD_DIM)
    return GptConfig(
        **values,
        attention_bias=field_of(fields, "attention_bias", False) or None,
        qk_norm=True,
        window=read_windows(fields, values["num_layers"]),
    )


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    has_bias = with_every_bias(config).attention_bias
    written = write_llama(
        config,
        vocab_size,
        QWEN_FIELDS,
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        only={"bias": False, "qkv_bias": has_bias, "qk_norm": True},
    )
    windows = window_fields(config, kind="qwen3 checkpoints")
    return written | windows | {"attention_bias": has_bias}


QWEN3_FORMAT = llama_format("qwen3", _read, _write, tokenizer_class="Qwen2Tokenizer")
"""Checkpoints of Qwen3."""
