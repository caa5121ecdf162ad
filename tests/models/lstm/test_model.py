"""Recurrent encoder-decoders: every variant of attention and of the encoder, the paper's parts."""

import msgspec
import pytest
import torch
from tests.models.whole_and_stepwise import (
    assert_decodes_as_it_reads,
    assert_every_parameter_gets_a_gradient,
    assert_padding_changes_nothing,
)

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.lstm.model import LstmConfig, LstmEncoderDecoder

SMALL = LstmConfig(num_encoder_layers=2, num_decoder_layers=2, dim=8, dropout=0.1)
SOURCE = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12], [1, 13, 14, 15]])
VARIANTS = [
    {"attention": "none"},
    {"attention": "bahdanau"},
    {"attention": "luong"},
    {"attention": "luong", "luong_score": "dot"},
    {"attention": "luong", "input_feeding": False},
    {"bidirectional": False},
    {"bidirectional": False, "reverse_source": True, "attention": "none"},
    {"num_encoder_layers": 1, "num_decoder_layers": 3},
    {"num_encoder_layers": 3, "num_decoder_layers": 1, "attention": "none"},
    {"attention": "bahdanau", "num_decoder_layers": 1},
]


def build(attention_settings=None, **changes):
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL, **changes)
    attention = AttentionConfig(**attention_settings or {})
    model = LstmEncoderDecoder(config, 20, attention).double().eval()
    model.compute_dtype = torch.float64
    return model


@pytest.fixture(params=VARIANTS, ids=str)
def model(request):
    return build(**request.param)


def test_decoding_token_by_token_equals_the_whole_pass(model):
    assert_decodes_as_it_reads(model, SOURCE, TARGET, select_at=2)


def test_padding_of_the_source_changes_nothing(model):
    assert_padding_changes_nothing(model, SOURCE, TARGET, length=3)


def test_every_parameter_gets_a_gradient(model):
    assert_every_parameter_gets_a_gradient(model, SOURCE, TARGET)


def test_second_derivatives_exist(model):
    parameters = list(model.parameters())
    loss = model(SOURCE, TARGET).logsumexp(-1).sum()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    product = torch.autograd.grad(sum((g * g).sum() for g in gradients), parameters)
    assert all(torch.isfinite(entry).all() for entry in product)


def test_without_attention_the_decoder_starts_from_the_encoders_last_states():
    model = build(attention="none", bidirectional=False)
    state = model.init_state(SOURCE)
    assert state.memory is None
    for started, final in zip(state.layers, model.encode(SOURCE).finals, strict=True):
        assert torch.equal(started.hidden, final.hidden)
        assert torch.equal(started.cell, final.cell)


def test_the_top_layers_start_from_the_encoders_top_layers():
    model = build(num_encoder_layers=3, num_decoder_layers=2)
    finals = model.encode(SOURCE).finals
    for started, final in zip(model.init_state(SOURCE).layers, finals[1:], strict=True):
        assert torch.equal(started.cell, final.cell)


def test_a_reversed_source_ends_with_its_first_token():
    forward = build(attention="none", bidirectional=False, num_encoder_layers=1)
    backward = build(
        attention="none", bidirectional=False, num_encoder_layers=1, reverse_source=True
    )
    source = SOURCE[:1]
    expected = forward.encode(source.flip(1)).finals[0].hidden
    torch.testing.assert_close(backward.encode(source).finals[0].hidden, expected)


def test_luong_attention_feeds_its_output_to_the_next_step():
    model = build()
    state = model.init_state(SOURCE)
    assert not state.fed.any()
    logits = model.decode_step(TARGET[:, 0], state)
    torch.testing.assert_close(model.logits(state.fed), logits)


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
@pytest.mark.parametrize("cross", ["local:1", "local:2|global:0", "top_k:2", "causal"])
def test_patterns_of_cross_attention_decode_as_they_read(attention, cross):
    assert_decodes_as_it_reads(
        build({"cross": cross}, attention=attention), SOURCE, TARGET, select_at=2
    )


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_the_aligning_attention_tells_weights_that_sum_to_one(attention, input_feeding):
    model = build(attention=attention, input_feeding=input_feeding)
    records = []
    assert model.alignment_attention is not None
    model.alignment_attention.on_attention = records.append
    model.hidden_states(SOURCE, TARGET)
    weights = torch.cat([record.weights for record in records], dim=2)
    assert weights.shape == (2, 1, 4, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 4, dtype=torch.float64))
    assert not weights[1, :, :, 3:].any()


def test_there_is_nothing_to_align_by_without_attention():
    assert build(attention="none").alignment_attention is None


def test_a_pattern_of_self_attention_is_refused():
    with pytest.raises(ConfigError) as raised:
        build({"pattern": "local:4"})
    assert str(raised.value) == (
        "attention.pattern=local:4: lstm has no self-attention.  "
        "Leave it out; attention.cross is that of the decoder over the source."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 7}, "dim must be even with bidirectional=true, not 7"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"num_decoder_layers": 0}, "num_decoder_layers must be 1 or more, not 0"),
        ({"reverse_source": True}, "reverse_source goes with bidirectional=false only"),
    ],
)
def test_impossible_dimensions_are_refused(change, message):
    with pytest.raises(ValueError) as raised:
        msgspec.structs.replace(SMALL, **change)
    assert str(raised.value) == message
