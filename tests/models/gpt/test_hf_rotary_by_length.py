"""Rotary angles that are others for long texts: equal logits up to that length, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.published_weights import spread

from regard.errors import ConfigError
from regard.generation.decoders import causal_decoder
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.layers.rotary_scaling import LongRopeScaling
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig
from regard.settings.binding import from_toml, to_toml

VOCAB, MOST = 31, 32
IDS = torch.randint(0, VOCAB, (2, 100), generator=torch.Generator().manual_seed(1))
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.0, 2.5, 4.0, 4.5],
    "original_max_position_embeddings": MOST,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, longrope": (
        "llama",
        {"max_position_embeddings": 128, "rope_parameters": LONGROPE | {"rope_theta": 1000.0}},
    ),
    "llama, longrope with its factor": (
        "llama",
        {
            "max_position_embeddings": 128,
            "rope_parameters": LONGROPE
            | {"rope_theta": 1000.0, "factor": 2.0, "attention_factor": 1.4},
        },
    ),
    "phi3, longrope": (
        "phi3",
        {
            "max_position_embeddings": 128,
            "original_max_position_embeddings": MOST,
            "pad_token_id": None,
            "rope_parameters": LONGROPE
            | {"rope_theta": 1000.0, "partial_rotary_factor": 0.5}
            | {name: LONGROPE[name][:2] for name in ("short_factor", "long_factor")},
        },
    ),
    "gpt_neox, dynamic": (
        "gpt_neox",
        {
            "max_position_embeddings": MOST,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1000.0}
            | {"partial_rotary_factor": 0.5},
        },
    ),
    "qwen2, dynamic": (
        "qwen2",
        {
            "max_position_embeddings": MOST,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1000.0},
        },
    ),
}


@pytest.fixture(scope="module", params=CASES)
def theirs(transformers, request):
    model_type, fields = CASES[request.param]
    config = transformers.AutoConfig.for_model(
        model_type,
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        eos_token_id=2,
        **fields,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    spread(model)
    return model


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def read(folder) -> Gpt:
    published = read_hugging_face(folder)
    model = Gpt(published.config, VOCAB).eval()
    published.load_into(model)
    return model


@torch.no_grad()
def difference(ours: Gpt, theirs, length: int) -> float:
    """Return the largest difference of logits in standard deviations of theirs."""
    ids = IDS[:, :length]
    expected = theirs(ids).logits
    return float((ours(ids) - expected).abs().max() / expected.std())


def test_texts_of_the_first_training_have_their_logits_and_longer_ones_no_positions(theirs, folder):
    model = read(folder)
    assert model.num_positions == model.config.longest_input(1000) == MOST
    assert difference(model, theirs, 100) > 0.1
    assert difference(model, theirs, MOST + 1) > 1e-3
    for length in (1, 7, MOST):
        assert difference(model, theirs, length) < 2e-4


@torch.no_grad()
def test_a_decoder_with_a_cache_has_the_same_logits(folder):
    model = read(folder)
    expected, decoder = model(IDS[:, :MOST]), causal_decoder(model)
    state = decoder.init_state()
    decoder.decode_step(IDS[:, : MOST - 1], state)
    last = decoder.decode_step(IDS[:, MOST - 1 : MOST], state)
    torch.testing.assert_close(last, expected[:, -1], rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_is_written_reads_long_texts_in_transformers_as_before(theirs, folder, transformers):
    model, out = read(folder), folder.parent / "ours"
    written_format = CHECKPOINT_FORMATS[theirs.config.model_type]
    write_hugging_face(out, model, model.config, written_format, VOCAB)
    assert read_hugging_face(out).config == model.config
    again = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    for length in (MOST, 100):
        assert torch.equal(again(IDS[:, :length]).logits, theirs(IDS[:, :length]).logits)


def test_the_first_name_of_the_rule_of_phi_is_read():
    fields = {"type": "su", "short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0]}
    config = CHECKPOINT_FORMATS["phi3"].read(
        {
            "hidden_size": 8,
            "num_attention_heads": 2,
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_scaling": fields,
        }
    )
    rule = config.rotary_scaling
    assert (config.max_positions, rule.factor, rule.long_factor) == (4096, 32.0, (3.0, 4.0))
    assert rule.attention_factor == pytest.approx(1.190238)
    assert from_toml(to_toml(config), GptConfig, name="config.toml") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long_factor": None}, "long_factor=null: a list of numbers was expected, which"),
        ({"short_factor": [1.0, "2"]}, 'short_factor=[1.0, "2"]: a list of numbers was expected'),
        ({"short_factor": [0.0] * 4}, "short_factor must have finite numbers above 0, not (0.0,"),
        ({"short_factor": [1.0]}, "long_factor must have as many numbers as short_factor (1)"),
        ({"long_mscale": 1.2}, "long_mscale=1.2: no such variant here"),
    ],
    ids=str,
)
def test_what_the_rule_needs_is_named(changes, message):
    fields = {"max_position_embeddings": 128, "rope_scaling": LONGROPE | changes}
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS["llama"].read(fields)
    assert str(caught.value).startswith(f"config.json: rope_scaling.{message}")


def test_a_divisor_for_each_pair_is_needed():
    rule = LongRopeScaling(short_factor=(1.0, 2.0), long_factor=(1.0, 2.0))
    with pytest.raises(ValueError, match="has 2 factors, and a head has 4 pairs"):
        GptConfig(dim=32, num_heads=4, rotary_scaling=rule)


def test_dynamic_angles_need_a_factor():
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS["llama"].read({"rope_scaling": {"type": "dynamic"}})
    assert str(caught.value) == (
        "config.json: rope_scaling.factor is missing, which dynamic needs."
    )
