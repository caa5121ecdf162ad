"""T5: steps like the whole pass, sizes of its tables, distances instead of positions."""

from __future__ import annotations

import msgspec
import pytest
import torch
from tests.models.whole_and_stepwise import (
    assert_decodes_as_it_reads,
    assert_every_parameter_gets_a_gradient,
    assert_padding_changes_nothing,
)

from regard.attention import T5Relative
from regard.explain.layer_table import format_table, layer_table
from regard.layers import CrossAttention, SelfAttention
from regard.layers.attention_config import AttentionConfig
from regard.models import T5, T5Config

VOCAB = 20
SIZES = T5Config(
    num_encoder_layers=2,
    num_decoder_layers=2,
    dim=12,
    num_heads=2,
    head_dim=5,
    hidden_dim=16,
    dropout=0.0,
    num_buckets=6,
    max_distance=7,
)
SOURCE = torch.tensor([[5, 6, 7, 8, 9, 3, 4, 2], [9, 4, 2, 0, 0, 0, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12, 4, 7, 3, 5, 6], [1, 13, 14, 15, 9, 8, 3, 5, 6]])
VARIANTS = [{}, {"activation": "geglu_tanh", "tied": "inputs"}, {"shares_buckets": False}]


def build(pattern: str = "full", **changes) -> T5:
    torch.manual_seed(0)
    config = msgspec.structs.replace(SIZES, **changes)
    model = T5(config, VOCAB, AttentionConfig(pattern=pattern)).double().eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:  # that every distance shows
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_decoding_with_a_cache_equals_the_whole_pass(changes):
    assert_decodes_as_it_reads(build(**changes), SOURCE, TARGET, select_at=4)


@pytest.mark.parametrize("pattern", ["local:3", "local:2|global:0", "strided:3"])
def test_sparse_decoders_keep_the_distances_of_the_whole_pass(pattern):
    assert_decodes_as_it_reads(build(pattern), SOURCE, TARGET, select_at=5)


def test_padding_changes_nothing():
    assert_padding_changes_nothing(build(), SOURCE, TARGET, length=3)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_parameter_gets_a_gradient(changes):
    assert_every_parameter_gets_a_gradient(build(**changes), SOURCE, TARGET)


def test_the_layers_of_a_stack_share_one_table_of_distances_unless_set_otherwise():
    tables = [name for name, _ in build().named_parameters() if "position_bias" in name]
    first = "0.self_attention.position_bias.weight"
    assert tables == [f"encoder.{first}", f"decoder.{first}"]
    own = [name for name, _ in build(shares_buckets=False).named_parameters() if "_bias" in name]
    assert len(own) == 4


def test_the_first_query_of_a_longer_text_sees_the_same_distances():
    model, ids = build(), torch.arange(3, 19)[None]
    whole, state = model(ids, ids), model.init_state(ids)
    steps = [model.decode_step(ids[:, index], state) for index in range(ids.shape[1])]
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=0, atol=1e-12)


def test_scores_are_not_divided_and_initial_queries_are():
    model = build()
    for layer in model.modules():
        if isinstance(layer, SelfAttention | CrossAttention):
            assert layer.score.scale == 1.0
    wide = T5(msgspec.structs.replace(SIZES, dim=64, num_heads=4, head_dim=16), VOCAB)
    queries, keys, _ = wide.encoder[0].self_attention.query_key_value.weight.detach().chunk(3)
    assert float(queries.std() / keys.std()) == pytest.approx(16**-0.5, rel=0.05)


def test_an_encoder_sees_what_follows_and_a_decoder_does_not():
    model = build()
    directions = [
        stack[0].self_attention.position_bias.function(torch.float32)
        for stack in (model.encoder, model.decoder)
    ]
    assert [isinstance(bias, T5Relative) and bias.bidirectional for bias in directions] == [
        True,
        False,
    ]


def test_the_output_is_scaled_where_it_shares_its_table():
    model = build()
    unscaled = build(has_output_scale=False)
    assert torch.allclose(model(SOURCE, TARGET) * 12**0.5, unscaled(SOURCE, TARGET))


def test_the_layer_table_names_the_shared_distances():
    lines = format_table(layer_table(build(), 8))
    assert len([line for line in lines if "6 buckets to distance 7, 2 heads" in line]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_buckets": 3}, "num_buckets must be 4 or more, not 3"),
        ({"max_distance": 3}, "max_distance must be above num_buckets / 2 (3), not 3"),
        ({"head_dim": None, "dim": 13}, "dim must be a multiple of num_heads (2), not 13"),
        ({"epsilon": 0.0}, "epsilon must be above 0, not 0.0"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match="must") as caught:
        msgspec.structs.replace(SIZES, **changes)
    assert str(caught.value) == message
