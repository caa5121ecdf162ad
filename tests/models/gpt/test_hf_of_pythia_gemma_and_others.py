"""Formats of Pythia, GPT-Neo, OPT, OLMo 2, Phi-3 and Gemma: what is read, and what is refused."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError
from regard.hub.export.formats import choose_format
from regard.layers.attention_config import AttentionConfig
from regard.layers.rotary_scaling import LinearScaling, PlainAngles
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.hf import complete_sizes
from regard.models.gpt.model import Gpt, GptConfig

SMALL = {"num_layers": 2, "dim": 8, "num_heads": 2, "hidden_dim": 8, "dropout": 0.0}
CLASSES = {
    "gpt_neox": "GPTNeoXConfig",
    "gpt_neo": "GPTNeoConfig",
    "opt": "OPTConfig",
    "olmo2": "Olmo2Config",
    "phi3": "Phi3Config",
    "gemma": "GemmaConfig",
    "gemma2": "Gemma2Config",
    "gemma3_text": "Gemma3TextConfig",
}
LAYERS = {"norm_kind": "layer", "bias": True}
PYTHIA = LAYERS | {"activation": "gelu", "parallel_residual": True, "rotary_fraction": 0.5}
NEO = LAYERS | {
    "activation": "gelu_tanh",
    "positions": "learned",
    "qkv_bias": False,
    "query_pre_attn_scalar": 1.0,
}
OPT = LAYERS | {"activation": "relu", "positions": "learned", "position_offset": 2}
OLMO = {"norm": "output", "qk_norm": "joint"}
GEMMA = {
    "norm_kind": "zero_centered_rms",
    "activation": "geglu_tanh",
    "has_embedding_scale": True,
    "head_dim": 6,
}
GEMMA2 = GEMMA | {"norm": "sandwich", "query_pre_attn_scalar": 24.0}
GEMMA3 = GEMMA2 | {"qk_norm": True}


def read(model_type: str, **fields) -> GptConfig:
    return CHECKPOINT_FORMATS[model_type].read(fields)


@pytest.mark.parametrize("model_type", CLASSES)
def test_an_empty_file_has_the_defaults_of_transformers(model_type, transformers):
    fields = getattr(transformers, CLASSES[model_type])().to_dict()
    checkpoint_format = CHECKPOINT_FORMATS[model_type]
    assert checkpoint_format.read({}) == checkpoint_format.read(fields)


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    [
        ("gpt_neox", {"rotary_pct": 1.0, "rotary_emb_base": 50}, {"rotary_fraction": 1.0}),
        ("gpt_neox", {"rotary_emb_base": 50}, {"rotary_base": 50.0, "rotary_fraction": 0.25}),
        (
            "gpt_neox",
            {"rotary_pct": 0.5, "rope_parameters": {"partial_rotary_factor": 0.75}},
            {"rotary_fraction": 0.75},
        ),
        ("gpt_neox", {"use_parallel_residual": False}, {"parallel_residual": False}),
        ("gpt_neox", {"attention_bias": False}, {"bias": True, "attention_bias": False}),
        ("phi3", {"partial_rotary_factor": 0.75}, {"rotary_fraction": 0.75, "window": 0}),
        ("phi3", {"sliding_window": 2047}, {"window": 2047}),
        ("gemma", {"hidden_act": "gelu"}, {"activation": "geglu_tanh"}),
        ("gpt_neox", {"hidden_act": "gelu_fast"}, {"activation": "gelu_tanh"}),
        ("gemma2", {"hidden_activation": "gelu"}, {"activation": "geglu"}),
        ("gemma2", {"attn_logit_softcapping": None}, {"attention_soft_cap": None}),
        (
            "gemma2",
            {"num_hidden_layers": 3, "sliding_window": 7},
            {"window": (7, 0, 7), "logit_soft_cap": 30.0, "attention_soft_cap": 50.0},
        ),
        (
            "gemma3_text",
            {"num_hidden_layers": 4, "sliding_window": 7, "sliding_window_pattern": 3},
            {"window": (7, 7, 0, 7), "rotary_base": 1e6, "local_rotary_base": 1e4},
        ),
        (
            "gemma3_text",
            {"rope_theta": 5.0, "rope_local_base_freq": 7.0}
            | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {
                "rotary_base": 5.0,
                "local_rotary_base": 7.0,
                "rotary_scaling": LinearScaling(factor=8.0),
            },
        ),
        (
            "gemma3_text",
            {"num_hidden_layers": 1, "layer_types": ["full_attention"]},
            {"window": 0, "local_rotary_base": None, "rotary_scaling": PlainAngles()},
        ),
        (
            "gpt_neo",
            {"num_hidden_layers": 3, "window_size": 9}
            | {"attention_types": [[["global", "local"], 1], [["local"], 1]]},
            {"window": (0, 9, 9)},
        ),
    ],
    ids=str,
)
def test_fields_are_obeyed(model_type, fields, expected):
    config = read(model_type, **fields)
    assert {name: getattr(config, name) for name in expected} == expected


LOCAL = {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("gpt_neox", {"head_dim": 6}, "head_dim=6: no such variant here, head_dim=96 alone is "),
        ("opt", {"word_embed_proj_dim": 512}, "word_embed_proj_dim=512: no such variant here, "),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before=false: no such variant"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention=true: no "),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar=0: must be above 0."),
        (
            "gemma2",
            {"num_hidden_layers": 1, "sliding_window": None},
            "sliding_window=null: some layers are sliding_attention, which need one.",
        ),
        ("gemma2", {"num_hidden_layers": 10**12}, "num_hidden_layers=1000000000000: 100,000 or"),
        ("gemma3_text", {"attn_logit_softcapping": 9.0}, "attn_logit_softcapping=9.0: no such"),
        ("gemma3_text", {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters={"),
        (
            "gemma3_text",
            {"rope_parameters": LOCAL},
            'rope_parameters.sliding_attention.rope_type="linear": no such variant here, default ',
        ),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern=0: must be 1 or "),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}},
            "rope_scaling.long_factor=null: a list of numbers was expected, which longrope needs.",
        ),
        (
            "gemma3_text",
            {"rope_scaling": {"type": "linear", "factor": 8.0}},
            'rope_scaling.type="linear": releases of transformers from 5 on do not read this name '
            "of it.  Write rope_type.",
        ),
        (
            "gemma3_text",
            {"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}},
            'rope_parameters.full_attention.rope_type="dynamic": no such variant here, angles of '
            "this model do not depend on the length of a text.",
        ),
        (
            "phi3",
            {"rope_scaling": {"type": "yarn", "factor": 2.0}, "max_position_embeddings": 9},
            'rope_type="yarn": no such variant here, phi3 checkpoints have default and longrope '
            "alone.",
        ),
        (
            "gpt_neo",
            {"num_layers": 2, "attention_types": [[["global", "sparse"], 1]]},
            'attention_types=[[["global", "sparse"], 1]], window_size=256: lists of global and ',
        ),
        ("gpt_neo", {"num_layers": 3}, 'attention_types=[[["global", "local"], 12]], window_size='),
    ],
    ids=str,
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(model_type, fields, message):
    with pytest.raises(ConfigError) as caught:
        read(model_type, **fields)
    assert str(caught.value).startswith(f"config.json: {message}")


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("gpt_neox", PYTHIA),
        ("gpt_neox", PYTHIA | {"attention_bias": False, "tied": False, "rotary_base": 50.0}),
        ("gpt_neo", NEO | {"window": (0, 7)}),
        ("gpt_neo", NEO),
        ("opt", OPT),
        ("opt", OPT | {"bias": False, "tied": False}),
        ("olmo2", OLMO | {"num_kv_heads": 1}),
        ("phi3", {"num_kv_heads": 1, "rotary_fraction": 0.5, "window": 7, "dropout": 0.2}),
        ("phi3", {"rotary_fraction": 0.5}),
        ("gemma", GEMMA | {"attention_bias": True}),
        ("gemma2", GEMMA2 | {"window": (7, 0), "attention_soft_cap": 3.0, "num_kv_heads": 1}),
        ("gemma3_text", GEMMA3 | {"window": (7, 0), "local_rotary_base": 9.0}),
        ("gemma3_text", GEMMA3 | {"rotary_scaling": LinearScaling(factor=8.0)}),
    ],
    ids=str,
)
def test_a_configuration_is_written_in_its_format_and_comes_back(model_type, changes):
    config = GptConfig(**SMALL | changes)
    model = Gpt(config, 9)
    checkpoint_format = choose_format(model, config, [], AttentionConfig(), model_type=model_type)
    assert checkpoint_format.model_type == model_type
    again = checkpoint_format.read(checkpoint_format.write(config, 9))
    assert complete_sizes(again).block() == complete_sizes(config).block()
    assert (again.windows(), again.tied, again.logit_soft_cap, again.position_offset) == (
        config.windows(),
        config.tied,
        config.logit_soft_cap,
        config.position_offset,
    )
    mapped = [mapping.local for mapping in checkpoint_format.map_parameters(config)]
    assert sorted(mapped) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("llama", {"parallel_residual": True}, "parallel_residual=true: llama checkpoints have f"),
        ("mistral", {"rotary_fraction": 0.5}, "rotary_fraction=0.5: mistral checkpoints have 1.0"),
        ("gpt2", OPT | {"activation": "gelu"}, "position_offset=2: gpt2 checkpoints have 0 only."),
        ("qwen3", OLMO, "norm=output: qwen3 checkpoints have pre only."),
        ("gpt_neox", PYTHIA | {"num_kv_heads": 1}, "num_kv_heads=1: gpt_neox checkpoints have 2 "),
        ("gemma", GEMMA2, "norm=sandwich: gemma checkpoints have pre only."),
        ("gemma2", GEMMA3, "qk_norm=true: gemma2 checkpoints have false only."),
        (
            "gemma2",
            GEMMA2 | {"query_pre_attn_scalar": 2.5},
            "query_pre_attn_scalar=2.5: gemma2 checkpoints have whole numbers only.",
        ),
        (
            "gemma3_text",
            GEMMA3 | {"window": 7, "rotary_scaling": LinearScaling(factor=2.0)},
            "local_rotary_base=none: gemma3_text checkpoints have layers with a window only whose ",
        ),
        (
            "phi3",
            {"rotary_scaling": LinearScaling(factor=2.0)},
            "rotary_scaling.rope_type=linear: phi3 checkpoints have default and longrope only.",
        ),
        ("phi3", {"window": (7, 0)}, "window=[7,0]: phi3 checkpoints have one for all layers only"),
        ("olmo2", OLMO | {"window": 7}, "window=7: olmo2 checkpoints have 0 only."),
    ],
    ids=str,
)
def test_a_model_that_its_format_has_no_fields_for_is_refused(model_type, changes, message):
    config = GptConfig(**SMALL | changes)
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS[model_type].write(config, 9)
    assert str(caught.value).startswith(f"model.{message}")
