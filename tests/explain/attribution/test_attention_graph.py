"""Raw attention, rollout and flow: equal to the published formulas, for every family."""

import numpy as np
import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import SIZES, randomized

from regard.errors import ConfigError
from regard.explain.attribution import METHODS, Budget
from regard.explain.attribution.attention_graph import BlockAttentionWeights
from regard.explain.attribution.flow import FlowNetwork
from regard.explain.attribution.rollout import roll_out
from regard.explain.capture import capture
from regard.explain.open_prediction import predict
from regard.layers import AttentionConfig
from regard.models import (
    BertConfig,
    ConvS2S,
    ConvS2SConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gpt,
    GptConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNet,
    MesaNetConfig,
    Transformer,
)

VOCAB = len(predictors.tokenizer())
NAMES = ("attention", "rollout", "flow")


def scores_of(name, prediction):
    return METHODS[name].compute(prediction, Budget()).scores


def translation(model=None):
    return predict(predictors.translator(model), "the cat sat on the mat", output="a dog ran")


def rollout_in_numpy(attentions):
    """The published code of Abnar & Zuidema (github.com/samiraabnar/attention_flow), in numpy."""
    with_residual = [0.5 * attention + 0.5 * np.eye(len(attention)) for attention in attentions]
    with_residual = [a / a.sum(-1, keepdims=True) for a in with_residual]
    joint = with_residual[0]
    for attention in with_residual[1:]:
        joint = attention @ joint
    return joint


def flow_in_scipy(attentions, start, end):
    """Maximum flow of the layered graph, by another library, with capacities in millionths."""
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    length = len(attentions[0])
    capacities = np.zeros((length * (len(attentions) + 1),) * 2, dtype=np.int32)
    for layer, attention in enumerate(attentions):
        rows = slice(layer * length, (layer + 1) * length)
        columns = slice((layer + 1) * length, (layer + 2) * length)
        mixed = 0.5 * attention + 0.5 * np.eye(length)
        capacities[rows, columns] = np.round(1e6 * mixed.T)
    result = csgraph.maximum_flow(
        sparse.csr_array(capacities), start, length * len(attentions) + end
    )
    return result.flow_value / 1e6


def mean_weights(prediction):
    return [layer.mean_weights.double().numpy() for layer in capture(prediction)]


def test_rollout_of_two_positions_is_what_a_hand_computes():
    first = BlockAttentionWeights(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    second = BlockAttentionWeights(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    # With the residual: [[1, 0], [1/4, 3/4]], then [[1/2, 1/2], [0, 1]].
    own, source = roll_out([first, second], [])
    torch.testing.assert_close(own, torch.tensor([[0.625, 0.375], [0.25, 0.75]]))
    assert source is None


def test_rollout_through_cross_attention_is_what_a_hand_computes():
    encoder = [BlockAttentionWeights(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))]
    decoder = [BlockAttentionWeights(torch.tensor([[1.0]]), source=torch.tensor([[1.0, 0.0]]))]
    own, source = roll_out(decoder, encoder)
    torch.testing.assert_close(own, torch.tensor([[0.5]]))
    torch.testing.assert_close(source, torch.tensor([[0.25, 0.25]]))  # 0.5 [1, 0] [[.5, .5], ...]


def test_a_query_that_attends_to_nothing_keeps_its_own_state():
    nothing = BlockAttentionWeights(
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]), source=torch.zeros(2, 3)
    )
    own, source = roll_out([nothing], [BlockAttentionWeights(torch.eye(3))])
    torch.testing.assert_close(own, torch.eye(2))
    torch.testing.assert_close(source, torch.zeros(2, 3))


def test_flow_finds_a_detour_that_a_greedy_path_blocks():
    network = FlowNetwork()
    start, a, b, end = network.add_nodes(4)
    network.add_edges([a, b], [start], torch.ones(2, 1))
    network.add_edges([b], [a], torch.ones(1, 1))
    network.add_edges([end], [a, b], torch.ones(1, 2))
    assert network.maximum_flow(start, end) == 2.0
    assert network.maximum_flow(end, start) == 0.0


@pytest.mark.parametrize(
    ("build", "text"),
    [(predictors.text_classifier, "the cat sat on the mat"), (predictors.text_generator, "a dog")],
)
def test_rollout_and_flow_equal_the_published_formulas(build, text):
    prediction = predict(build(), text)
    attentions = mean_weights(prediction)
    expected = prediction.readout.double().numpy() @ rollout_in_numpy(attentions)
    found = scores_of("rollout", prediction).double().numpy()
    reads = prediction.reads.numpy()
    np.testing.assert_allclose(found[reads], expected[reads], rtol=1e-5, atol=1e-6)
    if prediction.readout.max() == 1.0:
        found, positions = scores_of("flow", prediction), prediction.readout.argmax(-1)
        for output in (0, len(positions) - 1):
            for feature in prediction.reads[output].nonzero().flatten()[:3].tolist():
                flow = flow_in_scipy(attentions, feature, int(positions[output]))
                assert float(found[output, feature]) == pytest.approx(flow, abs=1e-4)


def test_raw_attention_of_a_translation_is_the_mean_over_layers_and_heads():
    prediction = translation()
    layers = capture(prediction)
    cross = torch.stack([layer.weights for layer in layers if layer.kind == "cross"])
    own = torch.stack([layer.weights for layer in layers if layer.kind == "decoder"])
    num_source = cross.shape[-1]
    found = scores_of("attention", prediction)
    torch.testing.assert_close(found[:, :num_source], 0.5 * cross.mean((0, 1)))
    reads = prediction.reads[:, num_source:]
    torch.testing.assert_close(found[:, num_source:][reads], 0.5 * own.mean((0, 1))[reads])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_missing_just_where_an_output_reads_nothing(name):
    for prediction in (translation(), predict(predictors.text_generator(), "a dog")):
        scores = scores_of(name, prediction)
        assert torch.equal(scores.isnan(), ~prediction.reads)
        assert bool((scores[prediction.reads] >= 0).all())
        if name != "flow":
            torch.testing.assert_close(scores.nansum(-1), torch.ones(len(scores)))


@pytest.mark.parametrize("name", NAMES)
def test_attention_explains_images_and_forecasts_too(name, tmp_path):
    from tests.explain.test_open_prediction import image_file

    image = predict(predictors.image_classifier(), image_file(tmp_path))
    series = str(predictors.write_series(tmp_path / "sales.csv"))
    forecast = predict(predictors.forecaster(), series)
    for prediction in (image, forecast):
        scores = scores_of(name, prediction)
        assert scores.shape == (len(prediction.outputs), len(prediction.features))
        if name != "flow":
            torch.testing.assert_close(scores.nansum(-1), torch.ones(len(scores)))


@pytest.mark.parametrize("name", NAMES)
def test_encoder_and_decoder_may_differ_in_size_and_patterns(name):
    wide = {"num_layers": 1, "dim": 24, "num_heads": 3, "hidden_dim": 8, "max_positions": 64}
    config = EncoderDecoderConfig(
        encoder=BertConfig(**wide), decoder=GptConfig(num_layers=2, num_kv_heads=1, **SIZES)
    )
    attention = AttentionConfig(pattern=("local:1", "top_k:2"), cross=("local:1", "full"))
    scores = scores_of(name, translation(randomized(EncoderDecoderModel(config, VOCAB, attention))))
    assert scores.shape[0] == 4
    assert float(scores.nansum(-1).min()) > 0.5


@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        (LstmEncoderDecoder(LstmConfig(dim=8, attention="none"), VOCAB), NAMES, "no attention"),
        (LstmEncoderDecoder(LstmConfig(dim=8), VOCAB), NAMES[1:], "no self-attention"),
        (ConvS2S(ConvS2SConfig(dim=8), VOCAB), NAMES[1:], "no self-attention"),
        (
            Transformer(
                predictors.TRANSFORMER,
                VOCAB,
                AttentionConfig(encoder="hierarchical:2", decoder="full"),
            ),
            NAMES,
            "averages keys",
        ),
    ],
    ids=["LSTM without attention", "LSTM", "ConvS2S", "hierarchical"],
)
def test_a_model_without_the_attention_a_method_needs_is_refused_in_a_sentence(
    model, names, message
):
    prediction = translation(randomized(model))
    for name in names:
        with pytest.raises(ConfigError, match=message) as error:
            scores_of(name, prediction)
        assert "occlusion" in str(error.value)


def test_attention_of_a_recurrent_model_gives_the_target_nothing():
    prediction = translation(randomized(LstmEncoderDecoder(LstmConfig(dim=8), VOCAB)))
    scores = scores_of("attention", prediction)
    torch.testing.assert_close(scores[:, :7].sum(-1), torch.ones(4))
    assert float(scores[:, 7:].nansum()) == 0.0


def test_a_language_model_without_attention_is_refused():
    generator = predictors.text_generator()
    generator.model = randomized(
        MesaNet(MesaNetConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8), VOCAB)
    )
    with pytest.raises(ConfigError, match="no attention"):
        scores_of("attention", predict(generator, "the cat", output=" sat"))


def test_flow_of_a_long_text_is_refused_with_the_method_that_works(monkeypatch):
    monkeypatch.setattr("regard.explain.attribution.flow._MOST_STEPS", 10.0)
    with pytest.raises(ConfigError, match="Take `rollout`"):
        scores_of("flow", translation())


def test_flow_reports_its_progress():
    seen = []
    METHODS["flow"].compute(translation(), Budget(on_progress=lambda *now: seen.append(now)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("name", NAMES)
def test_one_token_explains_itself(name):
    generator = predictors.text_generator()
    generator.model = randomized(Gpt(GptConfig(num_layers=1, **SIZES), VOCAB))
    prediction = predict(generator, "cat", output=" sat")
    scores = scores_of(name, prediction)
    assert float(scores.nansum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_attention_of_too_many_tokens_is_refused_in_a_sentence(name, monkeypatch):
    monkeypatch.setattr("regard.explain.attribution.attention_graph._MOST_PAIRS", 100)
    with pytest.raises(ConfigError, match="attention between 11 tokens is too much"):
        scores_of(name, translation())
