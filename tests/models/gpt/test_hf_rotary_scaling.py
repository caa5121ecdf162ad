"""Rotary angles that are slowed down as in Llama 3.1: equal logits far beyond the first length."""

from __future__ import annotations

import json

import pytest
import torch
from tests.models.gpt.test_hf import SCALING
from tests.models.published_weights import spread

from regard.generation.decoders import causal_decoder
from regard.generation.native import NativeCausalDecoder
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig

VOCAB = 31
IDS = torch.randint(0, VOCAB, (2, 150), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs(transformers):
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        rope_parameters=SCALING | {"rope_theta": 1000.0},
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
def test_logits_are_those_of_transformers_and_others_without_scaling(theirs, folder):
    model, expected = read(folder), theirs(IDS).logits
    assert model.config.rotary_scaling == (8.0, 64.0, 1.0, 4.0)
    torch.testing.assert_close(model(IDS), expected, rtol=0, atol=2e-4 * float(expected.std()))
    for block in model.blocks:
        block.self_attention.rotary.scaling = None
    assert float((model(IDS) - expected).abs().max()) > 0.1 * float(expected.std())


@torch.no_grad()
def test_every_way_to_compute_has_the_same_angles(folder):
    model = read(folder)
    expected = model(IDS)
    decoder = causal_decoder(model)
    assert isinstance(decoder, NativeCausalDecoder)
    state = decoder.init_state()
    decoder.decode_step(IDS[:, :-1], state)
    torch.testing.assert_close(
        decoder.decode_step(IDS[:, -1:], state), expected[:, -1], rtol=0, atol=1e-4
    )
    program = torch.export.export(model, (IDS,)).module()
    torch.testing.assert_close(program(IDS), expected, rtol=0, atol=1e-4)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(IDS), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_is_written_has_old_and_new_fields_and_comes_back(theirs, folder, transformers):
    model, out = read(folder), folder.parent / "ours"
    write_hugging_face(out, model, model.config, CHECKPOINT_FORMATS["llama"], VOCAB)
    fields = json.loads((out / "config.json").read_text())
    assert fields["rope_scaling"] == SCALING
    assert fields["rope_parameters"] == SCALING | {"rope_theta": 1000.0}
    assert read_hugging_face(out).config == model.config
    again = transformers.LlamaForCausalLM.from_pretrained(out)
    assert torch.equal(again(IDS).logits, theirs(IDS).logits)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.5, 64.0, 1.0, 4.0), "factor must be 1 or more, not 0.5"),
        ((8.0, 0.0, 1.0, 4.0), "original_length must be 1 or more, not 0.0"),
        ((8.0, 64.0, 0.0, 4.0), "slow_turns must be above 0, not 0.0"),
        ((8.0, 64.0, 1.0, 1.0), r"fast_turns must be above slow_turns \(1.0\), not 1.0"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=f"rotary_scaling: {message}"):
        GptConfig(rotary_scaling=numbers)


def test_learned_positions_have_no_angles():
    with pytest.raises(ValueError, match="rotary_scaling must be none where positions are learned"):
        GptConfig(positions="learned", rotary_scaling=(8.0, 64.0, 1.0, 4.0))
