"""Rotary angles that are changed for long texts: equal logits far beyond the first length."""

from __future__ import annotations

import json

import pytest
import torch
from tests.models.gpt.test_hf import SCALING
from tests.models.published_weights import spread

from regard.generation.decoders import causal_decoder
from regard.generation.native import NativeCausalDecoder
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.layers.rotary_scaling import (
    LinearScaling,
    Llama3Scaling,
    PlainAngles,
    YarnScaling,
)
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig
from regard.settings.binding import bind, from_toml, parse_settings, to_toml

VOCAB = 31
IDS = torch.randint(0, VOCAB, (2, 150), generator=torch.Generator().manual_seed(1))
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
RULES = {
    "llama3": (SCALING, Llama3Scaling(factor=8.0, original_max_position_embeddings=64)),
    "linear": ({"rope_type": "linear", "factor": 4.0}, LinearScaling(factor=4.0)),
    "yarn": (YARN, YarnScaling(factor=4.0, original_max_position_embeddings=64)),
    "yarn that is set": (
        YARN | {"beta_fast": 4.0, "beta_slow": 2.0, "attention_factor": 1.5},
        YarnScaling(
            factor=4.0,
            original_max_position_embeddings=64,
            beta_fast=4.0,
            beta_slow=2.0,
            attention_factor=1.5,
        ),
    ),
}


@pytest.fixture(scope="module", params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(scope="module")
def theirs(transformers, rule):
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        rope_parameters=rule[0] | {"rope_theta": 1000.0},
    )
    model = transformers.LlamaForCausalLM(config).eval()
    spread(model)
    return model


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def read(folder):
    published = read_hugging_face(folder)
    model = Gpt(published.config, VOCAB).eval()
    published.load_into(model)
    return model


@torch.no_grad()
def test_logits_are_those_of_transformers_and_others_without_scaling(theirs, folder, rule):
    model, expected = read(folder), theirs(IDS).logits
    assert model.config.rotary_scaling == rule[1]
    torch.testing.assert_close(model(IDS), expected, rtol=0, atol=2e-4 * float(expected.std()))
    for block in model.blocks:
        block.self_attention.rotary.scaling = PlainAngles()
    assert float((model(IDS) - expected).abs().max()) > 0.1 * float(expected.std())


@torch.no_grad()
def test_the_compiled_decoder_has_the_same_angles(folder):
    model = read(folder)
    expected = model(IDS)
    decoder = causal_decoder(model)
    assert isinstance(decoder, NativeCausalDecoder)
    state = decoder.init_state()
    decoder.decode_step(IDS[:, :-1], state)
    torch.testing.assert_close(
        decoder.decode_step(IDS[:, -1:], state), expected[:, -1], rtol=0, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["yarn that is set"], indirect=True)  # the rules end in a table
@torch.no_grad()
def test_graphs_have_the_same_angles(folder):
    model = read(folder)
    expected = model(IDS)
    program = torch.export.export(model, (IDS,)).module()
    torch.testing.assert_close(program(IDS), expected, rtol=0, atol=1e-4)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(IDS), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_is_written_has_old_and_new_fields_and_comes_back(theirs, folder, transformers, rule):
    model, out = read(folder), folder.parent / "ours"
    write_hugging_face(out, model, model.config, CHECKPOINT_FORMATS["llama"], VOCAB)
    fields = json.loads((out / "config.json").read_text())
    assert fields["rope_scaling"].items() >= rule[0].items()
    assert fields["rope_parameters"] == fields["rope_scaling"] | {"rope_theta": 1000.0}
    assert read_hugging_face(out).config == model.config
    again = transformers.LlamaForCausalLM.from_pretrained(out)
    assert torch.equal(again(IDS).logits, theirs(IDS).logits)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"factor": 0.5}, "factor must be 1 or more, not 0.5"),
        (
            {"original_max_position_embeddings": 0},
            "original_max_position_embeddings must be 1 or more, not 0",
        ),
        ({"low_freq_factor": 0.0}, "low_freq_factor must be above 0, not 0.0"),
        (
            {"high_freq_factor": 1.0},
            r"high_freq_factor must be above low_freq_factor \(1.0\), not 1.0",
        ),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Llama3Scaling(**numbers)


def test_learned_positions_have_no_angles():
    with pytest.raises(ValueError, match="rotary_scaling must be default where positions are"):
        GptConfig(positions="learned", rotary_scaling=Llama3Scaling())


def test_the_weights_of_yarn_give_its_factor():
    rope = YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}
    scaling = CHECKPOINT_FORMATS["qwen3"].read({"rope_scaling": rope}).rotary_scaling
    assert scaling.attention_factor == pytest.approx(1.13862944 / 1.06931472)


def test_the_length_next_to_the_angles_counts_before_that_within():
    fields = {"original_max_position_embeddings": 32, "rope_scaling": YARN}
    scaling = CHECKPOINT_FORMATS["llama"].read(fields).rotary_scaling
    assert scaling.original_max_position_embeddings == 32


def test_settings_are_a_section_with_the_names_of_config_json():
    config = bind(GptConfig, parse_settings(["rotary_scaling.rope_type=yarn"]))
    assert config.rotary_scaling == YarnScaling()
    settings = ["rotary_scaling.rope_type=linear", "rotary_scaling.factor=3"]
    assert bind(GptConfig, parse_settings(settings)).rotary_scaling == LinearScaling(factor=3.0)
    assert from_toml(to_toml(config), GptConfig, name="config.toml") == config
