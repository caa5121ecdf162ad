"""Checkpoint formats of decoders: what is read, and what is refused by its field."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig

SMALL = {"num_layers": 1, "dim": 8, "num_heads": 2, "hidden_dim": 8}
GPT2 = {"norm_kind": "layer", "activation": "gelu_tanh", "bias": True, "positions": "learned"}
LLAMA = {
    "positions": "rotary",
    "max_positions": 2048,
    "activation": "swiglu",
    "norm_kind": "rms",
    "dropout": 0.0,
}
SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def refusal(model_type: str, **fields) -> str:
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS[model_type].read(fields)
    return str(caught.value)


def test_an_empty_gpt2_file_is_the_published_small_model():
    assert CHECKPOINT_FORMATS["gpt2"].read({}) == GptConfig(
        num_layers=12, dim=768, num_heads=12, hidden_dim=3072, **GPT2, max_positions=1024
    )


def test_an_empty_llama_file_is_the_published_model_of_7_billion():
    assert CHECKPOINT_FORMATS["llama"].read({}) == GptConfig(
        num_layers=32,
        dim=4096,
        num_heads=32,
        num_kv_heads=32,
        hidden_dim=11008,
        epsilon=1e-6,
        tied=False,
        **LLAMA,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 5e5},
        {"rope_theta": 5e5, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_theta": 1.0, "rope_parameters": {"rope_theta": 5e5}},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 5e5}, "rope_parameters": None},
    ],
    ids=str,
)
def test_the_rotary_base_is_found_in_every_form(fields):
    assert CHECKPOINT_FORMATS["llama"].read(fields).rotary_base == 5e5


def test_the_rotary_base_is_written_for_old_and_new_releases_of_transformers():
    fields = CHECKPOINT_FORMATS["llama"].write(GptConfig(**SMALL, **LLAMA, rotary_base=77.0), 9)
    assert fields["rope_theta"] == 77.0
    assert fields["rope_parameters"] == {"rope_type": "default", "rope_theta": 77.0}


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx=true: no such variant here, "
            "scale_attn_by_inverse_layer_idx=false alone is computed.",
        ),
        (
            "gpt2",
            {"reorder_and_upcast_attn": True},
            "reorder_and_upcast_attn=true: no such variant here, "
            "reorder_and_upcast_attn=false alone is computed.",
        ),
        (
            "gpt2",
            {"scale_attn_weights": False},
            "scale_attn_weights=false: no such variant here, "
            "scale_attn_weights=true alone is computed.",
        ),
        (
            "gpt2",
            {"activation_function": "quick_gelu"},
            "activation_function=quick_gelu: no such variant here, "
            "known are gelu_new, gelu_pytorch_tanh, gelu_fast, gelu, gelu_python, relu.",
        ),
        (
            "gpt2",
            {"n_embd": "wide"},
            "n_embd='wide': expected a value such as 768, the default of transformers.",
        ),
        (
            "gpt2",
            {"tie_word_embeddings": 1},
            "tie_word_embeddings=1: expected a value such as True, the default of transformers.",
        ),
        (
            "llama",
            {"rope_scaling": {"type": "proportional", "factor": 2.0}},
            'rope_scaling.type="proportional": no such variant here, known are default, linear, '
            "llama3, yarn, dynamic, longrope, su.",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "rope_parameters.factor is missing, which yarn needs.",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": False}},
            "rope_parameters.truncate=false: no such variant here, rope_parameters.truncate=true "
            "alone is computed.",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "linear", "factor": 0.5}},
            "rope_scaling.factor must be 1 or more, not 0.5.",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "linear", "factor": "2"}},
            "factor='2': expected a value such as 1.0, the default of transformers.",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            "rope_parameters.original_max_position_embeddings is missing, which llama3 needs.",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor=0.5: no such variant here, "
            "rope_parameters.partial_rotary_factor=1.0 alone is computed.",
        ),
        (
            "llama",
            {"partial_rotary_factor": 0.5},
            "partial_rotary_factor=0.5: no such variant here, "
            "partial_rotary_factor=1.0 alone is computed.",
        ),
        (
            "llama",
            {"rope_parameters": ["default"]},
            'rope_parameters=["default"]: an object was expected.',
        ),
        (
            "llama",
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            "rope_parameters.full_attention: no such variant here, all layers have the same "
            "angles.",
        ),
        (
            "llama",
            {"hidden_act": "gelu"},
            "hidden_act=gelu: no such variant here, known are silu, swish.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(model_type, fields, message):
    assert refusal(model_type, **fields) == f"config.json: {message}"


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("gpt2", {}, "model.positions=rotary: gpt2 checkpoints have learned only."),
        (
            "gpt2",
            GPT2 | {"norm_kind": "rms"},
            "model.norm_kind=rms: gpt2 checkpoints have layer only.",
        ),
        ("gpt2", GPT2 | {"bias": False}, "model.bias=false: gpt2 checkpoints have true only."),
        ("gpt2", GPT2 | {"num_kv_heads": 1}, "model.num_kv_heads=1: gpt2 checkpoints have 2 only."),
        ("gpt2", GPT2 | {"head_dim": 8}, "model.head_dim=8: gpt2 checkpoints have 4 only."),
        (
            "gpt2",
            GPT2 | {"activation": "swiglu"},
            "model.activation=swiglu: gpt2 checkpoints have gelu_tanh, gelu, relu only.",
        ),
        ("llama", GPT2, "model.positions=learned: llama checkpoints have rotary only."),
        (
            "llama",
            {"activation": "relu"},
            "model.activation=relu: llama checkpoints have swiglu only.",
        ),
        (
            "llama",
            {"dim": 9, "head_dim": 4},
            "model.dim=9: llama checkpoints have multiples of num_heads (2) only.",
        ),
    ],
    ids=str,
)
def test_a_setting_that_a_format_lacks_is_not_written(model_type, changes, message):
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS[model_type].write(GptConfig(**SMALL | changes), 9)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "config",
    [
        GptConfig(**SMALL, **GPT2),
        GptConfig(**SMALL, **GPT2, tied=False, epsilon=1e-3, max_positions=7),
        GptConfig(**SMALL, **LLAMA, num_kv_heads=2, head_dim=4, tied=True),
        GptConfig(**SMALL, **LLAMA, num_kv_heads=1, head_dim=6, bias=True, rotary_base=77.0),
    ],
    ids=str,
)
def test_a_configuration_comes_back_and_every_parameter_has_its_place(config):
    checkpoint_format = CHECKPOINT_FORMATS["llama" if config.positions == "rotary" else "gpt2"]
    assert checkpoint_format.read(checkpoint_format.write(config, 9)) == config
    mapped = [mapping.local for mapping in checkpoint_format.map_parameters(config)]
    names = [name for name, _ in Gpt(config, 9).named_parameters()]
    assert sorted(mapped) == sorted(names)
