"""Convolutional encoder-decoders: variants, bounded cache, what a position sees."""

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
from regard.models.conv_s2s.model import ConvS2S, ConvS2SConfig

SMALL = ConvS2SConfig(num_encoder_layers=2, num_decoder_layers=2, dim=8, dropout=0.1)
SOURCE = torch.tensor([[5, 6, 7, 8, 9, 4, 2], [9, 4, 2, 0, 0, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12, 4, 5, 6, 7], [1, 13, 14, 15, 9, 9, 3, 4]])
VARIANTS = [
    {},
    {"kernel_width": 1},
    {"kernel_width": 2},
    {"kernel_width": 5},
    {"positions": "sinusoidal"},
    {"max_positions": 4},
    {"num_encoder_layers": 3, "num_decoder_layers": 1},
    {"tied": "none"},
]


def build(attention_settings=None, **changes):
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL, **changes)
    model = ConvS2S(config, 20, AttentionConfig(**attention_settings or {})).double().eval()
    model.compute_dtype = torch.float64
    return model


@pytest.fixture(params=VARIANTS, ids=str)
def model(request):
    return build(**request.param)


def test_decoding_token_by_token_equals_the_whole_pass(model):
    assert_decodes_as_it_reads(model, SOURCE, TARGET, select_at=5)


def test_padding_of_the_source_changes_nothing(model):
    assert_padding_changes_nothing(model, SOURCE, TARGET, length=3)


def test_every_parameter_gets_a_gradient(model):
    assert_every_parameter_gets_a_gradient(model, SOURCE, TARGET)


def test_the_cache_of_decoding_is_bounded_by_the_kernel():
    model = build(kernel_width=4)
    state = model.init_state(SOURCE)
    for place in range(8):
        model.decode_step(TARGET[:, place], state)
    for cache in state.caches:
        assert cache.inputs is not None
        assert cache.inputs.shape == (2, 3, 8)


def test_a_target_token_sees_as_far_as_the_kernels_reach():
    model = build(kernel_width=2)  # two layers: two positions back
    changed = TARGET.clone()
    changed[:, 2] = 17
    differs = (model(SOURCE, TARGET) != model(SOURCE, changed)).any(-1)[0].tolist()
    assert differs == [2 <= position <= 4 for position in range(8)]


def test_attention_carries_every_source_token_to_every_target_token():
    model = build(kernel_width=1)
    changed = SOURCE.clone()
    changed[:, 0] = 17
    assert (model(SOURCE, TARGET) != model(changed, TARGET)).any(-1).all()


@pytest.mark.parametrize("cross", ["local:1", "local:2|global:0", "top_k:2", "causal"])
def test_patterns_of_cross_attention_decode_as_they_read(cross):
    assert_decodes_as_it_reads(build({"cross": cross}), SOURCE, TARGET, select_at=5)


def test_patterns_of_cross_attention_alternate_over_the_layers():
    model = build({"cross": ("full", "local:1")})
    found = [repr(block.cross_attention.pattern) for block in model.decoder_blocks]
    assert found == ["Full()", "Local(before=1, after=1)"]


def test_the_last_but_one_layer_aligns():
    model = build(num_decoder_layers=3)
    records = []
    assert model.alignment_attention is model.decoder_blocks[1].cross_attention
    model.alignment_attention.on_attention = records.append
    model.hidden_states(SOURCE, TARGET)
    (record,) = records
    assert record.weights.shape == (2, 1, 8, 7)
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(2, 1, 8, dtype=torch.float64))


def test_hidden_states_begin_with_a_variance_near_that_of_the_embeddings():
    torch.manual_seed(0)
    config = ConvS2SConfig(num_encoder_layers=6, num_decoder_layers=6, dim=64, dropout=0.0)
    model = ConvS2S(config, 100).eval()
    ids = torch.randint(3, 100, (4, 40))
    assert 0.3 < float(model.hidden_states(ids, ids).detach().var()) / 0.02 < 10.0


def test_a_pattern_of_self_attention_is_refused():
    with pytest.raises(ConfigError) as raised:
        build({"decoder": "local:4"})
    assert str(raised.value) == (
        "attention.decoder=local:4: conv_s2s has no self-attention.  "
        "Leave it out; attention.cross is that of the decoder over the source."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 7}, "dim must be even and 2 or more, not 7"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"kernel_width": 0}, "kernel_width must be 1 or more, not 0"),
    ],
)
def test_impossible_dimensions_are_refused(change, message):
    with pytest.raises(ValueError) as raised:
        msgspec.structs.replace(SMALL, **change)
    assert str(raised.value) == message
