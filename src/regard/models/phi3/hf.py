"""How Phi-3 checkpoints store the weights of a `Gpt`: as Llama's, with a window and fused tensors.

Names and defaults are those of ``transformers`` (``modeling_phi3``): one tensor has the rows of
query, key and value, another those of both halves of the gated feed-forward network. The folders of
long texts (``longrope``) are read for texts of their first training's length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import ParameterMapping, SettingError, field_of
from regard.models.base.rotary_fields import RotaryFields, write_rotary
from regard.models.base.window_fields import read_window
from regard.models.gpt.model import GptConfig
from regard.models.llama.hf import llama_fields, llama_format, map_llama, read_llama, write_llama
from regard.models.mistral.hf import NO_BIASES, one_window

_FIELDS = llama_fields(num_layers=32, dim=3072, hidden_dim=8192, max_positions=4096, epsilon=1e-5)
_ROTARY = RotaryFields(default_fraction=1.0)
_RULES = ("default", "longrope")  # of angles
_QUERY_KEY_VALUE, _GATED = "self_attn.qkv_proj", "mlp.gate_up_proj"


def _read(fields: Mapping[str, Any]) -> GptConfig:
    values = read_llama(fields, _FIELDS, rotary=_ROTARY)
    rope_type = values["rotary_scaling"].rope_type
    if rope_type not in _RULES:
        raise ConfigError(
            f"config.json: rope_type={json.dumps(rope_type)}: no such variant here, phi3 "
            f"checkpoints have {' and '.join(_RULES)} alone."
        )
    # Phi has two dropout rates; that of the sub-layers is taken for both.
    values["dropout"] = field_of(fields, "resid_pdrop", 0.0)
    return GptConfig(**values, window=read_window({"sliding_window": None, **fields}))


def _write(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    kind = "phi3 checkpoints"
    written = write_llama(
        config,
        vocab_size,
        _FIELDS,
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        only={**NO_BIASES, "qk_norm": False},
        own=("rotary_fraction",),
    )
    if (rule := config.rotary_scaling.rope_type) not in _RULES:
        rules = " and ".join(_RULES)
        sentence = f"model.rotary_scaling.rope_type={rule}: {kind} have {rules} only."
        raise SettingError([sentence], {"rotary_scaling.rope_type": "default"})
    if config.head_dim is None:  # the format has this field for other sizes alone
        del written["head_dim"]
    return {
        **written,
        **write_rotary(
            config.rotary_base,
            config.rotary_scaling,
            config.max_positions,
            fraction=config.rotary_fraction,
        ),
        "sliding_window": one_window(config, kind=kind),
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        # It is filled up with others, which few vocabularies have.
        "pad_token_id": None,
    }


def _map_parameters(config: GptConfig) -> list[ParameterMapping]:
    """List the parameters; those of query, and of key and value, are rows of one tensor."""
    num_queries = config.num_heads * config.size_of_head
    num_rows = num_queries + 2 * (config.num_kv_heads or config.num_heads) * config.size_of_head
    fused = {
        "self_attention.query_key_value": (_QUERY_KEY_VALUE, None),
        "self_attention.query": (_QUERY_KEY_VALUE, (0, num_queries, num_rows)),
        "self_attention.key_value": (_QUERY_KEY_VALUE, (num_queries, num_rows, num_rows)),
        "feed_forward.inner": (_GATED, None),
    }
    mappings = []
    for mapping in map_llama(config):
        layer = mapping.local.removesuffix(".weight").split(".", 2)[-1]
        if layer in fused:
            name, rows = fused[layer]
            number = mapping.local.split(".")[1]
            remote = (f"model.layers.{number}.{name}.weight",)
            mappings.append(mapping._replace(remote=remote, rows=rows))
        else:
            mappings.append(mapping)
    return mappings


PHI3_FORMAT = llama_format("phi3", _read, _write, tokenizer_class="LlamaTokenizer")._replace(
    map_parameters=_map_parameters
)
"""Checkpoints of Phi-3 and Phi-4."""
