"""Scores of a query and a key, shared out among positions: the parts sum to the score."""

import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import SIZES, randomized

from regard.errors import ConfigError
from regard.explain.capture import capture
from regard.explain.open_prediction import predict
from regard.explain.query_key import query_key_attribution
from regard.layers import AttentionConfig
from regard.models import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gpt,
    GptConfig,
    LongformerConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNetConfig,
    Transformer,
    TransformerConfig,
    TransformerXlConfig,
)

VOCAB = len(predictors.tokenizer())
DEEP = {"num_encoder_layers": 2, "num_decoder_layers": 3, "num_heads": 2, "dim": 8, "hidden_dim": 8}
WIDE = {"num_layers": 2, "dim": 24, "num_heads": 3, "hidden_dim": 8, "max_positions": 64}


def joined(encoder, decoder):
    return EncoderDecoderModel(EncoderDecoderConfig(encoder=encoder, decoder=decoder), VOCAB)


MODELS = {
    "pre-norm": Transformer(TransformerConfig(**DEEP), VOCAB),
    "post-norm": Transformer(TransformerConfig(norm="post", **DEEP), VOCAB),
    "rotary, sparse": Transformer(
        TransformerConfig(positions="rotary", **DEEP),
        VOCAB,
        AttentionConfig(pattern=("local:1", "top_k:2"), cross="local:2"),
    ),
    "hierarchical": Transformer(
        TransformerConfig(**DEEP),
        VOCAB,
        AttentionConfig(encoder=("hierarchical:2", "full"), decoder="full"),
    ),
    "bert and grouped gpt": joined(
        BertConfig(**WIDE), GptConfig(num_layers=2, num_kv_heads=1, **SIZES)
    ),
    "norms of outputs": joined(
        BertConfig(**WIDE),
        GptConfig(num_layers=2, norm="sandwich", norm_kind="zero_centered_rms", **SIZES),
    ),
    "longformer and mesanet": joined(
        LongformerConfig(window=2, **WIDE), MesaNetConfig(num_layers=2, **SIZES)
    ),
}


def translation(model):
    model = randomized(model).double()
    return predict(predictors.translator(model), "the cat sat on the mat", output="a dog ran")


@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_score_that_the_softmax_gets(name):
    prediction = translation(MODELS[name])
    checked = 0
    for layer in capture(prediction):
        if layer.refusal or ("longformer" in name and layer.kind == "encoder"):
            continue
        (record,) = layer.records
        group = layer.num_heads // record.keys.shape[1]
        head, query, key = layer.num_heads - 1, 2, 1 + checked % 2
        found = query_key_attribution(prediction, layer.path, head, query, key)
        q, k = record.queries[0, head, query], record.keys[0, head // group, key]
        score = float(q @ k) / k.shape[-1] ** 0.5
        assert found.score == pytest.approx(score, rel=1e-9)
        assert float(found.contributions.sum()) == pytest.approx(score, rel=1e-5)
        assert found.contributions.shape == (len(prediction.features),) * 2
        checked += 1
    assert checked >= 2


def test_in_the_first_layer_a_score_is_of_its_two_positions_alone():
    prediction = translation(MODELS["pre-norm"])
    found = query_key_attribution(prediction, "decoder.0.self_attention", 1, 2, 0).contributions
    num_source = prediction.stacks[0].stop
    assert float(found[num_source + 2, num_source]) == pytest.approx(float(found.sum()))
    assert int((found != 0).sum()) == 1


def test_a_part_is_what_earlier_attention_carried_from_its_position():
    generator = predictors.text_generator()
    generator.model = randomized(Gpt(GptConfig(num_layers=2, **SIZES), VOCAB)).double()
    prediction = predict(generator, "the cat sat", output=" on")
    first, _ = capture(prediction)
    block, second = generator.model.blocks
    norm, layer = second.attention_residual.norm, second.self_attention
    states = {}
    handle = second.register_forward_hook(lambda _m, inputs, _out: states.update(x=inputs[0][0]))
    with torch.no_grad():
        prediction.scores(prediction.full_weights())
    handle.remove()
    query, origin, head = 2, 1, 0
    with torch.no_grad():
        # What the first layer carried from position 1 to position 2, through the norm and W_q.
        values = first.records[0].values[0, :, origin]
        carried = block.self_attention.output(
            (first.weights[:, query, origin, None] * values).flatten()
        )
        scale = (states["x"][query].square().mean() + norm.epsilon).rsqrt()
        part = (carried * scale * norm.weight)[None, None]
        q = layer.rotary(layer.project(part)[0], torch.tensor([query]))[0, head, 0]
        k = capture(prediction)[1].records[0].keys[0, head, query]
        expected = float(q @ k) / layer.head_dim**0.5
    found = query_key_attribution(prediction, "blocks.1.self_attention", head, query, query)
    assert float(found.contributions[origin].sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("settings", [{"parallel_residual": True}, {"norm": "output"}], ids=str)
def test_contributions_in_other_blocks_sum_to_the_score(settings):
    generator = predictors.text_generator()
    generator.model = randomized(Gpt(GptConfig(num_layers=3, **SIZES, **settings), VOCAB)).double()
    prediction = predict(generator, "the cat sat", output=" on")
    found = query_key_attribution(prediction, "blocks.2.self_attention", 0, 2, 1)
    assert float(found.contributions.sum()) == pytest.approx(found.score, rel=1e-9)
    assert float(found.contributions[0].abs().sum()) > 0


def test_cross_attention_reads_source_words_through_the_key_alone():
    prediction = translation(MODELS["post-norm"])
    found = query_key_attribution(prediction, "decoder.1.cross_attention", 0, 2, 3).contributions
    num_source = prediction.stacks[0].stop
    assert not bool(found[:, num_source:].any())  # a key is made of the source
    assert bool(found[:num_source].any())  # the first block's cross-attention
    assert bool(found[num_source:].any())


def test_float32_is_exact_to_rounding():
    model = randomized(Transformer(TransformerConfig(**DEEP), VOCAB))
    prediction = predict(predictors.translator(model), "the cat sat", output="a dog")
    found = query_key_attribution(prediction, "decoder.2.cross_attention", 1, 1, 1)
    scale = float(found.contributions.abs().sum())
    assert abs(float(found.contributions.sum()) - found.score) < 1e-5 * scale


@pytest.mark.parametrize(
    ("layer", "head", "query", "key", "message"),
    [
        ("decoder.9.self_attention", 0, 0, 0, "one of encoder.0.self_attention, "),
        ("decoder.0.cross_attention", 2, 0, 0, "head 2: one of 0 to 1"),
        ("decoder.0.cross_attention", 0, 4, 0, "query 4: one of 0 to 3"),
        ("decoder.0.cross_attention", 0, 0, -1, "key -1: one of 0 to 6"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(layer, head, query, key, message):
    with pytest.raises(ConfigError, match=message):
        query_key_attribution(translation(MODELS["pre-norm"]), layer, head, query, key)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (LstmEncoderDecoder(LstmConfig(dim=8), VOCAB), "attention"),
        (
            joined(BertConfig(**WIDE), TransformerXlConfig(num_layers=1, **SIZES)),
            "decoder.blocks.0.self_attention",
        ),
        (
            joined(LongformerConfig(window=2, **WIDE), GptConfig(num_layers=1, **SIZES)),
            "encoder.blocks.0.self_attention",
        ),
    ],
    ids=["LSTM", "Transformer-XL", "Longformer"],
)
def test_scores_that_are_not_bilinear_in_sums_are_refused(model, layer):
    with pytest.raises(ConfigError, match=r"scores are not products"):
        query_key_attribution(translation(model), layer, 0, 0, 0)


def test_a_norm_that_is_not_linear_in_states_is_refused():
    prediction = translation(Transformer(TransformerConfig(**DEEP), VOCAB))
    prediction.model.decoder[0].self_residual.norm = torch.nn.Sigmoid()
    with pytest.raises(ConfigError, match=r"Sigmoid: not linear in states"):
        query_key_attribution(prediction, "decoder.0.self_attention", 0, 0, 0)
