"""Maps of attention: what they keep, what was never computed, and how large they are."""

import msgspec
import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import randomized

from regard.attention import Blocks, Causal, Full, Global, Local, Strided, TopK
from regard.explain.allowed_pairs import allowed_pairs
from regard.explain.attention_maps import attention_maps
from regard.explain.capture import capture
from regard.explain.open_prediction import predict
from regard.explain.sinks import find_sinks
from regard.layers import AttentionConfig
from regard.models import Gpt, GptConfig, LstmConfig, LstmEncoderDecoder, Transformer

VOCAB = len(predictors.tokenizer())


def generation(num_tokens, pattern="full", *, num_layers=1, num_heads=2):
    config = GptConfig(num_layers=num_layers, dim=2 * num_heads, num_heads=num_heads, hidden_dim=4)
    model = randomized(Gpt(config, VOCAB, AttentionConfig(pattern=pattern)))
    generator = predictors.text_generator()
    generator.model = model
    text = " ".join(["the cat sat on the mat"] * (num_tokens // 6 + 1))
    return predict(generator, text, output=" a")


def dense(maps, num_keys):
    """Return the weights that maps show, ``[heads, queries, keys]``."""
    weights = torch.zeros(len(maps.heads), maps.num_queries, num_keys)
    for head, rows in enumerate(maps.heads):
        for query, row in enumerate(rows):
            weights[head, query, row.keys] = torch.tensor(row.weights) / 1000
    return weights


def test_maps_of_a_sentence_show_every_weight_of_every_layer():
    prediction = predict(predictors.translator(), "the cat sat on the mat", output="a dog ran")
    maps, notes = attention_maps(prediction)
    layers = capture(prediction)
    assert [(m.layer, m.kind) for m in maps] == [(layer.path, layer.kind) for layer in layers]
    assert notes == []
    for shown, layer in zip(maps, layers, strict=True):
        assert (shown.num_queries, shown.num_keys, shown.tile) == (*layer.weights.shape[1:], 1)
        torch.testing.assert_close(dense(shown, shown.num_keys), layer.weights, atol=6e-4, rtol=0)
        assert all(row.keys == sorted(row.keys) for rows in shown.heads for row in rows)


def test_a_row_that_keeps_few_weights_says_what_the_rest_has():
    prediction = generation(40, num_heads=1)
    ((shown,), _) = attention_maps(prediction, most_bytes=4_500)
    assert shown.tile == 1
    for row in shown.heads[0]:
        assert len(row.keys) <= 12
        assert sum(row.weights) + row.rest == pytest.approx(1000, abs=8)
    assert any(row.rest > 0 for row in shown.heads[0])


def test_a_long_text_is_shown_in_tiles_whose_rows_are_means_and_columns_sums():
    prediction = generation(600, "local:5")
    ((shown,), _) = attention_maps(prediction, most_bytes=20_000)
    (layer,) = capture(prediction)
    assert layer.weights.is_sparse
    tile, length = shown.tile, layer.num_queries
    assert tile > 1
    assert shown.num_queries == shown.num_keys == -(-length // tile)
    assert len(shown.heads[0]) == len(shown.computed) == shown.num_queries
    expected = layer.weights.to_dense()[:, tile : 2 * tile].mean(1)  # of the second row
    expected = torch.stack([part.sum(-1) for part in expected.split(tile, dim=-1)], dim=-1)
    torch.testing.assert_close(dense(shown, shown.num_keys)[:, 1], expected, atol=6e-4, rtol=0)
    last = shown.heads[0][-1]
    assert sum(last.weights) + last.rest == pytest.approx(1000, abs=5)


def test_sparse_weights_of_windows_and_global_tokens_are_shown_exactly():
    prediction = generation(600, "local:5|global:0,300")
    ((shown,), _) = attention_maps(prediction, most_bytes=1_000_000)
    (layer,) = capture(prediction)
    assert layer.weights.is_sparse
    assert shown.tile == 1
    expected = layer.weights.to_dense()
    expected[:, 300] = 0.0  # sees 301 keys: more than a row names
    found = dense(shown, shown.num_keys)
    torch.testing.assert_close(
        found.index_fill(1, torch.tensor(300), 0.0), expected, atol=6e-4, rtol=0
    )
    row = shown.heads[0][300]
    assert len(row.keys) > 12
    assert sum(row.weights) + row.rest == pytest.approx(1000, abs=30)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Full(), [(0, 9)]),
        (Causal(), [(0, 5)]),
        (Local(1, 2), [(3, 7)]),
        (Local(1, 0) | Global((0,)), [(0, 1), (3, 5)]),
        (Strided(3), [(1, 2), (4, 5), (7, 8)]),
        (Blocks(((False, False), (True, False)), size=4), [(0, 4)]),
        (TopK(2), [(0, 9)]),
    ],
    ids=repr,
)
def test_the_runs_of_a_row_are_the_keys_that_the_pattern_allows(pattern, expected):
    assert allowed_pairs(pattern, 9, 9).runs[4] == expected


def test_equal_shares_are_the_mean_of_one_over_the_keys_that_each_query_sees():
    shares = allowed_pairs(Causal(), 3, 3).equal_shares
    torch.testing.assert_close(shares, torch.tensor([1 + 1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3]) / 3)


def test_what_was_never_computed_lies_outside_the_runs_in_tiles_too():
    pattern = Local(3, 0) | Global((0,))
    runs = allowed_pairs(pattern, 11, 11, tile=2).runs
    assert runs[0] == [(0, 6)]  # query 0 is global
    assert runs[4] == [(0, 1), (2, 5)]
    assert len(runs) == 6


def test_runs_are_joined_where_they_are_many():
    ((shown,), _) = attention_maps(generation(60, "strided:3"), most_bytes=6_000)
    assert max(len(row) for row in shown.computed) < 20
    assert shown.computed[-1][-1][1] == shown.num_keys


@pytest.mark.parametrize(
    ("num_tokens", "num_layers", "num_heads", "most"),
    [(20, 12, 12, 150_000), (100, 3, 12, 700_000)],
)
def test_maps_stay_small(num_tokens, num_layers, num_heads, most):
    prediction = generation(num_tokens, num_layers=num_layers, num_heads=num_heads)
    maps = attention_maps(prediction).maps
    assert maps[0].tile == 1
    assert len(msgspec.json.encode(maps)) < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_tokens", "pattern", "num_layers", "num_heads", "most"),
    [
        (510, "full", 12, 12, 1_600_000),
        (4090, "local:16|global:0", 1, 2, None),
    ],
)
def test_maps_of_long_texts_stay_small(num_tokens, pattern, num_layers, num_heads, most):
    prediction = generation(num_tokens, pattern, num_layers=num_layers, num_heads=num_heads)
    maps = attention_maps(prediction, most_bytes=most).maps
    assert len(msgspec.json.encode(maps)) < 1.05 * (most or 5_000_000)
    assert maps[0].tile <= (2 if most else 1)
    assert sum(len(row.keys) for row in maps[-1].heads[0]) > maps[-1].num_queries


def test_effects_of_heads_are_shown_where_they_were_measured():
    prediction = predict(predictors.translator(), "the cat", output="a dog")
    maps = attention_maps(prediction, effects={"decoder.1.cross_attention": [0.25, -1.0]}).maps
    assert [shown.effects for shown in maps] == [[None, None]] * 5 + [[0.25, -1.0]]


def test_a_head_that_leaves_its_attention_at_the_first_token_has_a_sink():
    prediction = generation(20, num_heads=2)
    (block,) = prediction.model.blocks
    with torch.no_grad():  # scores of the first head are those of the position alone: 0 is best
        block.self_attention.query_key_value.weight.zero_()
    (layer,) = capture(prediction)
    even, _ = attention_maps(prediction)
    assert even[0].sinks == [None, None]  # causal attention gives the first key more, by itself
    sharp = torch.zeros_like(layer.weights)
    sharp[0, :, 0], sharp[1] = 1.0, layer.weights[1]
    layer.records = (layer.records[0]._replace(weights=sharp[None]),)
    del layer.weights  # computed before
    equal = allowed_pairs(layer.pattern, layer.num_queries, layer.num_keys).equal_shares
    first, second = find_sinks(layer, prediction.features, equal)
    assert (first.key, first.share) == (0, 1.0)
    assert second is None


def test_layers_without_weights_are_named_in_a_note():
    attention = AttentionConfig(encoder="hierarchical:2")
    model = randomized(Transformer(predictors.TRANSFORMER, VOCAB, attention))
    prediction = predict(predictors.translator(model), "the cat sat", output="a dog")
    maps, notes = attention_maps(prediction)
    assert [shown.kind for shown in maps] == ["decoder", "cross"] * 2
    assert len(notes) == 2
    assert "averages keys" in notes[0]


def test_a_model_without_attention_has_no_maps():
    model = randomized(LstmEncoderDecoder(LstmConfig(attention="none", dim=8), VOCAB))
    prediction = predict(predictors.translator(model), "the cat", output="a dog")
    assert attention_maps(prediction) == ([], [])
