"""Attention shown is attention used: for every pattern, score, layer and task."""

import msgspec
import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import randomized
from tests.explain.test_open_prediction import open_each

from regard.attention import (
    Additive,
    Alibi,
    Blocks,
    Causal,
    Cosine,
    DotProduct,
    Full,
    Global,
    Local,
    Strided,
    TopK,
    attend,
)
from regard.errors import ConfigError
from regard.explain.capture import (
    capture,
    capture_in_parts,
    check,
    largest_error,
    recompute,
    record_attention,
)
from regard.explain.open_prediction import predict
from regard.layers import (
    AttentionConfig,
    AttentionRecord,
    BahdanauAttention,
    CrossAttention,
    LongformerAttention,
    LuongAttention,
    RelativeAttention,
    RelativePositions,
    Rotary,
    SelfAttention,
)
from regard.models import (
    BertConfig,
    Classifier,
    ConvS2S,
    ConvS2SConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gpt,
    GptConfig,
    Longformer,
    LongformerConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNetConfig,
    Transformer,
    TransformerConfig,
    TransformerXlConfig,
)

PATTERNS = [
    Full(),
    Causal(),
    Local(2, 1),
    Local(5, 0),
    Strided(3),
    Global((0, 4)),
    Local(2, 2) | Global((0,)),
    Causal() & Strided(2),
    Blocks(((True, False), (True, True)), size=300),
    TopK(3),
    TopK(2, causal=True),
]
VOCAB = len(predictors.tokenizer())
SHORT, LONG = 7, 520  # below and above 512 x 512 pairs, where weights become sparse


def error_of(layer, *inputs, **options):
    """Return the largest relative difference between attention shown and attention used."""
    return largest_error({"layer": layer}, lambda: layer(*inputs, **options))


@pytest.mark.parametrize("length", [1, SHORT, LONG])
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_weights_times_values_are_the_output_by_every_pattern(pattern, length):
    torch.manual_seed(0)
    layer = SelfAttention(8, 2, pattern=pattern)
    assert error_of(layer, torch.randn(1, length, 8)) < 1e-5


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_weights_of_a_sparse_pattern_are_sparse_from_512_x_512_pairs_on(length):
    layer = SelfAttention(8, 2, pattern=Local(2, 2))
    (record,) = record_attention({"layer": layer}, lambda: layer(torch.randn(1, length, 8)))[
        "layer"
    ]
    assert record.weights.is_sparse == (length == LONG)
    assert record.weights.shape == (1, 2, length, length)


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize(
    "layer",
    [
        SelfAttention(8, 4, pattern=Local(2, 0), num_kv_heads=2, rotary=Rotary(base=100.0)),
        SelfAttention(8, 2, pattern=Causal(), num_kv_heads=1),
        LongformerAttention(8, 2, pattern=Local(1, 1), num_global=2),
        LongformerAttention(8, 2, pattern=TopK(3), num_global=2),
        LongformerAttention(8, 2, pattern=Local(1, 1), num_global=0),
        RelativeAttention(8, 2, shared=RelativePositions(8, 2), pattern=Local(3, 0)),
    ],
    ids=["grouped, rotary", "one head of keys", "global", "global top-k", "no global", "relative"],
)
def test_weights_times_values_are_the_output_of_every_layer(layer, length):
    torch.manual_seed(0)
    x = torch.randn(2, length, 8)
    assert error_of(layer, x) < 1e-5
    assert error_of(layer, x, lengths=torch.tensor([length, length - 3])) < 1e-5


def test_a_text_of_global_tokens_alone_is_one_call():
    torch.manual_seed(0)
    layer = LongformerAttention(8, 2, pattern=Local(1, 1), num_global=4)
    assert error_of(layer, torch.randn(1, 3, 8)) < 1e-5


@pytest.mark.parametrize("new", [3, 400])
def test_the_memory_of_transformer_xl_is_among_the_keys(new):
    torch.manual_seed(0)
    layer = RelativeAttention(8, 2, shared=RelativePositions(8, 2), memory=300)
    before, x = torch.randn(1, 300, 8), torch.randn(1, new, 8)

    def run():
        memory = layer.make_memory()
        layer(before, cache=memory)
        layer(x, cache=memory)

    assert largest_error({"layer": layer}, run) < 1e-5
    *_, record = record_attention({"layer": layer}, run)["layer"]
    assert record.weights.shape == (1, 2, new, 300 + new)


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_weights_times_values_are_the_output_of_attention_over_a_source(length):
    torch.manual_seed(0)
    states, queries = torch.randn(1, length, 8), torch.randn(1, length + 2, 8)
    cross = CrossAttention(8, 2, pattern=Local(2, 2))
    assert error_of(cross, queries, *cross.project(states)) < 1e-5
    for layer in (BahdanauAttention(8), LuongAttention(8, Local(1, 1))):
        assert error_of(layer, queries[:, :9], layer.project(states)) < 1e-5


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("bias", [None, "alibi", "pairs"])
@pytest.mark.parametrize("score", ["dot", "cosine", "additive"])
@pytest.mark.parametrize("pattern", [Local(2, 1), Local(1, 1) | Global((0,))], ids=repr)
def test_weights_times_values_are_the_output_by_every_score_and_bias(pattern, score, bias, length):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, length, 4),
        torch.randn(1, 1, length, 4),
        torch.randn(1, 1, length, 3),
    )
    options = {
        "pattern": pattern,
        "score": {
            "dot": DotProduct(soft_cap=2.0),
            "cosine": Cosine(3.0),
            "additive": Additive(torch.randn(2, 4)),
        }[score],
        "bias": {
            None: None,
            "alibi": Alibi(torch.tensor([0.5, 0.25])),
            "pairs": torch.randn(length, length),
        }[bias],
    }
    _, weights = attend(q, k, v, return_weights=True, **options)
    out = attend(q, k, v, **options)
    record = AttentionRecord(q, k, v, weights, out, options["score"], pattern)
    torch.testing.assert_close(recompute(record), out, rtol=1e-5, atol=1e-5)


def test_a_pattern_that_averages_keys_says_in_one_sentence_that_it_has_no_weights():
    attention = AttentionConfig(pattern="hierarchical:4", decoder="full")
    model = randomized(Transformer(predictors.TRANSFORMER, VOCAB, attention))
    prediction = predict(predictors.translator(model), "the cat sat", output="a dog")
    layers = capture(prediction)
    expected = "encoder.0.self_attention has no weights to show: Hierarchical(4) averages keys."
    assert [layer.refusal for layer in layers] == [
        expected,
        expected.replace("encoder.0", "encoder.1"),
        *[""] * 4,
    ]
    with pytest.raises(ConfigError, match="averages keys"):
        _ = layers[0].weights
    assert check(prediction) < 1e-5
    assert [layer.path for layer in capture_in_parts(prediction)] == [
        layer.path for layer in layers
    ]


SMALL = {"num_encoder_layers": 1, "num_decoder_layers": 2, "dim": 8}
WIDE = {"num_layers": 1, "dim": 16, "num_heads": 4, "hidden_dim": 8, "max_positions": 64}
NARROW = {"num_layers": 2, "dim": 8, "num_heads": 2, "hidden_dim": 8}
WRITERS = {
    "bahdanau": LstmEncoderDecoder(LstmConfig(attention="bahdanau", **SMALL), VOCAB),
    "luong, fed": LstmEncoderDecoder(LstmConfig(attention="luong", **SMALL), VOCAB),
    "luong": LstmEncoderDecoder(LstmConfig(input_feeding=False, **SMALL), VOCAB),
    "conv_s2s": ConvS2S(ConvS2SConfig(**SMALL), VOCAB),
    "copy, patterns by layer": Transformer(
        TransformerConfig(has_copy=True, **SMALL | {"num_heads": 2, "hidden_dim": 8}),
        VOCAB,
        AttentionConfig(pattern=("local:1", "full"), cross=("top_k:2", "local:2")),
    ),
    **{
        f"bert and {type(decoder).__name__}": EncoderDecoderModel(
            EncoderDecoderConfig(encoder=BertConfig(**WIDE), decoder=decoder), VOCAB
        )
        for decoder in (
            GptConfig(num_kv_heads=1, **NARROW),
            TransformerXlConfig(**NARROW),
            MesaNetConfig(**NARROW),
        )
    },
}


@pytest.mark.parametrize("name", WRITERS)
def test_attention_shown_is_attention_used_in_every_family_that_writes(name):
    prediction = predict(
        predictors.translator(randomized(WRITERS[name])), "the cat sat on the mat", output="a dog"
    )
    num_source, num_target = 7, 3
    layers = capture(prediction)
    assert check(prediction) < 1e-5
    crosses = [layer for layer in layers if layer.kind == "cross"]
    for layer in crosses:
        assert layer.weights.shape == (layer.num_heads, num_target, num_source)
        assert (layer.first_query, layer.first_key) == (num_source, 0)
        torch.testing.assert_close(layer.mean_weights.sum(-1), torch.ones(num_target))
    assert len(crosses) == (1 if name.startswith(("bahdanau", "luong")) else 2)


@pytest.mark.parametrize(
    ("build", "text", "num_layers"),
    [
        (predictors.text_classifier, "the cat sat", 2),
        (predictors.text_generator, "the cat", 2),
        (predictors.translator, "the cat", 6),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_attention_shown_is_attention_used_in_every_task(build, text, num_layers):
    prediction = predict(build(), text)
    layers = capture(prediction)
    assert len(layers) == num_layers
    assert check(prediction) < 1e-5
    assert all(layer.mean_weights.sum(-1).allclose(torch.ones(1)) for layer in layers)


def test_a_model_without_attention_has_none_to_show():
    model = randomized(LstmEncoderDecoder(LstmConfig(attention="none", **SMALL), VOCAB))
    prediction = predict(predictors.translator(model), "the cat", output="a dog")
    assert capture(prediction) == []
    assert check(prediction) == 0.0


def test_layers_in_parts_are_those_of_one_pass():
    prediction = predict(predictors.translator(), "the cat sat", output="a dog")
    whole = capture(prediction)
    parts = list(capture_in_parts(prediction, most_bytes=1))
    assert [layer.path for layer in parts] == [layer.path for layer in whole]
    for one, other in zip(parts, whole, strict=True):
        assert torch.equal(one.weights, other.weights)


def test_the_hooks_are_removed_after_use():
    prediction = predict(predictors.translator(), "the cat sat", output="a dog")
    capture(prediction)
    check(prediction)
    for module in prediction.model.modules():
        assert getattr(module, "on_attention", None) is None
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_model_that_computes_in_bfloat16_shows_what_it_used_to_its_precision():
    model = randomized(Gpt(GptConfig(**NARROW), len(predictors.tokenizer())))
    generator = predictors.text_generator()
    generator.model = model
    model.compute_dtype = torch.bfloat16
    prediction = predict(generator, "the cat", output=" sat on")
    assert check(prediction) < 2**-7


def test_weights_have_a_row_for_each_position_in_every_task(tmp_path):
    for prediction in open_each(tmp_path).values():
        layers = capture(prediction)
        assert len(layers) >= 2
        for layer in layers:
            stack = prediction.stacks[layer.stack]
            source = prediction.stacks[0] if layer.kind == "cross" else stack
            assert layer.weights.shape[1:] == (stack.stop - stack.start, source.stop - source.start)
            assert (layer.first_query, layer.first_key) == (stack.start, source.start)


def test_a_question_whose_tokens_are_all_global_has_the_pattern_of_that_pass():
    config = LongformerConfig(
        window=2, question_end_id=predictors.tokenizer().encode(["on"])[0][0], **NARROW
    )
    classifier = predictors.text_classifier()
    encoder = Longformer(msgspec.structs.replace(config, has_mlm_head=False), VOCAB)
    classifier.model = randomized(Classifier(encoder, len(predictors.LABELS)))
    prediction = predict(classifier, "the cat sat on the mat")
    first, _ = capture(prediction)
    before = [feature.text.strip("▁ ") for feature in prediction.features].index("on")
    assert first.pattern == Local(1, 1) | Global(range(before))
    assert check(prediction) < 1e-5


def test_a_layer_with_too_many_weights_says_so_in_place_of_them(monkeypatch):
    monkeypatch.setattr("regard.explain.capture._LARGEST_BYTES", 4 * 2 * 7 * 7 - 1)
    prediction = predict(predictors.translator(), "the cat sat on the mat", output="a dog")
    layers = list(capture_in_parts(prediction))
    assert [bool(layer.refusal) for layer in layers] == [True, True, *[False] * 4]
    assert layers[0].refusal.startswith("encoder.0.self_attention has 2 x 7 x 7 weights: too many")
    assert layers[3].weights.shape == (2, 3, 7)
