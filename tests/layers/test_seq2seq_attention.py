"""Single-head attention over the source: the papers' equations, the hook."""

import pytest
import torch

from regard.attention import Full, Local
from regard.layers.seq2seq_attention import (
    BahdanauAttention,
    LuongAttention,
    Seq2SeqAttention,
    Seq2SeqState,
)

LENGTHS = torch.tensor([4, 2])


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


QUERIES, STATES = draw(2, 3, 6), draw(2, 4, 6, seed=2)


def weigh(scores):
    """Take the softmax of ``[batch, queries, keys]`` over valid keys, and the mean of states."""
    is_padding = torch.arange(4) >= LENGTHS[:, None, None]
    return scores.masked_fill(is_padding, -torch.inf).softmax(-1) @ STATES


def test_bahdanau_attention_follows_its_equation():
    torch.manual_seed(0)
    layer = BahdanauAttention(6, Full()).double()
    w, u, v = layer.query.weight, layer.key.weight, layer.weight[0]
    inner = (QUERIES @ w.T)[:, :, None] + (STATES @ u.T)[:, None]
    expected = weigh(torch.tanh(inner) @ v)
    found = layer(QUERIES, layer.project(STATES), lengths=LENGTHS)
    torch.testing.assert_close(found, expected)


def test_luongs_dot_follows_its_equation():
    layer = LuongAttention(6, Full(), is_general=False)
    assert list(layer.parameters()) == []
    found = layer(QUERIES, layer.project(STATES), lengths=LENGTHS)
    torch.testing.assert_close(found, weigh(QUERIES @ STATES.mT))


def test_luongs_general_follows_its_equation():
    torch.manual_seed(0)
    layer = LuongAttention(6, Full(), is_general=True).double()
    found = layer(QUERIES, layer.project(STATES), lengths=LENGTHS)
    torch.testing.assert_close(found, weigh(QUERIES @ layer.key.weight @ STATES.mT))


def test_keys_and_values_may_differ():
    found = Seq2SeqAttention(6, Full())(QUERIES, (2 * STATES, STATES), lengths=LENGTHS)
    torch.testing.assert_close(found, weigh(QUERIES @ STATES.mT * 2))


@pytest.mark.parametrize(
    "layer",
    [
        Seq2SeqAttention(6, Full()),
        BahdanauAttention(6, Full()).double(),
        LuongAttention(6, Full(), is_general=True).double(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_hook_gets_weights_values_and_output(layer):
    memory = (STATES, STATES)
    expected = layer(QUERIES, memory, lengths=LENGTHS)
    records = []
    layer.on_attention = records.append
    torch.testing.assert_close(layer(QUERIES, memory, lengths=LENGTHS), expected)
    ((_, keys, values, weights, output, *_),) = records
    torch.testing.assert_close(output[:, 0], expected)
    assert keys.shape == values.shape == (2, 1, 4, 6)
    assert weights.shape == (2, 1, 3, 4)
    torch.testing.assert_close(weights[:, 0] @ STATES, expected)


def test_a_pattern_limits_the_keys_by_the_querys_position():
    layer = Seq2SeqAttention(6, Local(0, 0))
    found = layer(QUERIES, (STATES, STATES), query_offset=1)
    torch.testing.assert_close(found, STATES[:, 1:4])


def test_a_state_looks_back_as_the_attention_does_from_where_it_stands():
    layer = LuongAttention(6, Local(1, 1), is_general=False)
    state = Seq2SeqState(memory=layer.project(STATES), lengths=LENGTHS, position=2)
    expected = layer(QUERIES, layer.project(STATES), lengths=LENGTHS, query_offset=2)
    torch.testing.assert_close(state.attend(layer, QUERIES), expected)


def test_a_state_keeps_repeats_and_reorders_rows():
    layer, rows = Seq2SeqAttention(6, Full()), torch.tensor([1, 1, 0])
    state = Seq2SeqState(memory=(STATES, STATES), lengths=LENGTHS)
    expected = state.attend(layer, QUERIES)[rows]
    state.select(rows)
    torch.testing.assert_close(state.attend(layer, QUERIES[rows]), expected)
    assert state.lengths is not None
    assert state.lengths.tolist() == [2, 2, 4]


def test_a_state_without_attention_or_padding_has_nothing_to_select():
    state = Seq2SeqState(memory=None, lengths=None)
    state.select(torch.tensor([0, 0]))
    assert state.memory is None and state.row_lengths is None
