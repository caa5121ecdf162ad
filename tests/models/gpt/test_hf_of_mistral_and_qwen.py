"""Formats of Mistral and Qwen: what is read, and what is refused by its field."""

from __future__ import annotations

import msgspec
import pytest

from regard.errors import ConfigError
from regard.hub.export.formats import choose_format
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig

SMALL = {"num_layers": 2, "dim": 8, "num_heads": 2, "hidden_dim": 8, "dropout": 0.0}
LARGE = {"num_layers": 32, "dim": 4096, "num_heads": 32, "epsilon": 1e-6, "tied": False}
QWEN2 = {"qkv_bias": True}
QWEN3 = {"qk_norm": True, "head_dim": 6}
LAYERS = {"num_hidden_layers": 3, "num_attention_heads": 32, "hidden_size": 64}


def read(model_type: str, **fields) -> GptConfig:
    return CHECKPOINT_FORMATS[model_type].read(fields)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        (
            "mistral",
            {"hidden_dim": 14336, "max_positions": 131072, "num_kv_heads": 8, "window": 4096},
        ),
        ("qwen2", QWEN2 | {"hidden_dim": 22016, "max_positions": 32768, "num_kv_heads": 32}),
        (
            "qwen3",
            {"qk_norm": True, "head_dim": 128, "hidden_dim": 22016}
            | {"max_positions": 32768, "num_kv_heads": 32},
        ),
    ],
)
def test_an_empty_file_has_the_defaults_of_transformers(model_type, expected):
    assert read(model_type) == GptConfig(**LARGE | expected, dropout=0.0)


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3"])
def test_keys_and_values_have_a_head_each_where_their_number_is_null(model_type):
    assert read(model_type, num_attention_heads=4, num_key_value_heads=None).num_kv_heads == 4


@pytest.mark.parametrize(
    ("model_type", "fields", "window"),
    [
        ("mistral", {"sliding_window": None}, 0),
        ("mistral", {"sliding_window": 7}, 7),
        ("mistral", {"sliding_window": 7, "layer_types": ["sliding_attention"] * 3}, 7),
        ("qwen2", {"sliding_window": 7}, 0),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 7}, 0),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}, 4096),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
            (0, 0, 7),
        ),
        ("qwen2", {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, 0),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 1}, (0, 4096, 4096)),
        (
            "qwen3",
            {
                "use_sliding_window": True,
                "sliding_window": 7,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (7, 0, 7),
        ),
    ],
    ids=str,
)
def test_the_windows_are_those_of_transformers(model_type, fields, window):
    assert read(model_type, **LAYERS, **fields).window == window


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        (
            "mistral",
            {"sliding_window": 0},
            "sliding_window=0: a whole number of 1 or more, or null for none, was expected.",
        ),
        (
            "mistral",
            {"sliding_window": 7, "layer_types": ["full_attention"] * 3},
            "layer_types differs from sliding_window=7, which all layers of a mistral checkpoint "
            "have.",
        ),
        (
            "qwen2",
            {"layer_types": ["sliding_attention"] * 3},
            "layer_types has sliding_attention, and use_sliding_window and sliding_window give no "
            "window.",
        ),
        (
            "qwen2",
            {"layer_types": ["full_attention"]},
            'layer_types=["full_attention"]: a list of 3 kinds, one for each layer, was expected.',
        ),
        (
            "qwen3",
            {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
            'layer_types has "chunked_attention": no such variant here, known are full_attention, '
            "sliding_attention.",
        ),
        (
            "qwen2",
            {"rope_scaling": {"type": ["ntk"], "factor": 4.0}},
            'rope_scaling.type=["ntk"]: no such variant here, known are default, linear, llama3, '
            "yarn, dynamic, longrope, su.",
        ),
        (
            "qwen3",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e6}},
            "rope_parameters.factor is missing, which dynamic needs.",
        ),
    ],
    ids=str,
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(model_type, fields, message):
    with pytest.raises(ConfigError) as caught:
        read(model_type, **LAYERS | fields)
    assert str(caught.value) == f"config.json: {message}"


def test_a_damaged_number_of_layers_fills_no_memory():
    fields = {"use_sliding_window": True, "num_hidden_layers": 10**12}
    with pytest.raises(ConfigError, match=r"num_hidden_layers=1000000000000: 100,000 or fewer"):
        read("qwen2", **fields)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"attention_bias": False, "bias": True}),
        ("mistral", {"window": 7, "head_dim": 6, "num_kv_heads": 1}),
        ("mistral", {}),
        ("qwen2", QWEN2),
        ("qwen2", QWEN2 | {"window": (0, 7), "num_kv_heads": 1, "head_dim": 6, "tied": False}),
        ("qwen3", QWEN3 | {"attention_bias": True, "rotary_base": 1e6}),
        ("qwen3", QWEN3 | {"window": (7, 0), "num_kv_heads": 1}),
    ],
    ids=str,
)
def test_a_configuration_is_written_in_its_format_and_comes_back(model_type, changes):
    config = GptConfig(**{"num_kv_heads": 2, "head_dim": 4} | SMALL | changes)
    model = Gpt(config, 9)
    checkpoint_format = choose_format(model, config, [], AttentionConfig(), model_type=model_type)
    assert checkpoint_format.model_type == model_type
    assert checkpoint_format.read(checkpoint_format.write(config, 9)) == config
    mapped = [mapping.local for mapping in checkpoint_format.map_parameters(config)]
    assert sorted(mapped) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        (
            "mistral",
            {"window": (0, 7)},
            "window=[0,7]: mistral checkpoints have one for all layers",
        ),
        (
            "qwen2",
            QWEN2 | {"window": (3, 7)},
            "window=[3,7]: qwen2 checkpoints have one size of window",
        ),
        ("qwen2", {}, "qkv_bias=false: qwen2 checkpoints have true"),
        ("qwen3", QWEN2 | {"qk_norm": True}, "qkv_bias=true: qwen3 checkpoints have false"),
        ("mistral", QWEN3, "qk_norm=true: mistral checkpoints have false"),
        ("llama", {"window": 7}, "window=7: llama checkpoints have 0"),
        ("llama", QWEN2, "qkv_bias=true: llama checkpoints have false"),
    ],
    ids=str,
)
def test_a_model_that_its_format_has_no_fields_for_is_refused(model_type, changes, message):
    config = GptConfig(**SMALL | changes)
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS[model_type].write(config, 9)
    assert str(caught.value) == f"model.{message} only."


def test_a_window_is_replaced_by_another_pattern():
    config = GptConfig(**SMALL, window=7)
    replaced = config.patterns(AttentionConfig(pattern="local:2"))
    assert [str(pattern) for pattern in replaced] == [
        str(pattern)
        for pattern in msgspec.structs.replace(config, window=0).patterns(
            AttentionConfig(pattern="local:2")
        )
    ]


@pytest.mark.parametrize(
    ("window", "message"),
    [(-1, "window must be 0 or more, not -1"), ((1, 2, 3), "one for each of 2 layers, not 3")],
)
def test_a_window_out_of_range_is_refused(window, message):
    with pytest.raises(ValueError, match=message):
        GptConfig(**SMALL, window=window)


def test_the_windows_are_in_the_summary():
    summary = GptConfig(**SMALL, window=(0, 7)).summary(AttentionConfig())
    assert summary.endswith("attention full, window 7 in 1 of 2 layers")
