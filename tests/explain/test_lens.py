"""The logit lens and the DecoderLens: the prediction with later layers left out."""

import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import SIZES, randomized

from regard.explain.attribution import Budget
from regard.explain.lens import encoder_lens, logit_lens
from regard.explain.open_prediction import predict
from regard.models import (
    BertConfig,
    ConvS2S,
    ConvS2SConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNet,
    MesaNetConfig,
    Transformer,
    TransformerConfig,
)

VOCAB = len(predictors.tokenizer())
SMALL = {"num_encoder_layers": 2, "num_decoder_layers": 3, "dim": 8}


def translation(model=None):
    return predict(predictors.translator(model), "the cat sat on the mat", output="a dog")


def test_the_last_row_is_the_prediction_itself():
    prediction = translation()
    for rows in (logit_lens(prediction), encoder_lens(prediction)):
        last = rows[-1]
        assert last.scores == pytest.approx([output.score for output in prediction.outputs])
        for output, text, probability in zip(
            prediction.outputs, last.texts, last.probabilities, strict=True
        ):
            best = next(iter(output.alternatives.items()))
            assert best == (text, pytest.approx(probability, rel=1e-5))  # rounding of float32


def test_a_row_of_the_logit_lens_is_the_last_norm_and_output_map_of_that_state():
    prediction = predict(predictors.text_generator(), "the cat", output=" sat on")
    model, (first, second) = prediction.model, prediction.model.blocks
    rows = logit_lens(prediction)
    assert [row.layer for row in rows] == ["embedding", "blocks.0", "blocks.1"]
    states = {}
    handles = [
        first.register_forward_hook(lambda _m, inputs, out: states.update({0: inputs[0], 1: out})),
        second.register_forward_hook(lambda _m, _inputs, out: states.update({2: out})),
    ]
    with torch.no_grad():
        prediction.scores(prediction.full_weights())
        for handle in handles:
            handle.remove()
        for number, row in enumerate(rows):
            logits = model.logits(model.norm(states[number][:, [2, 3]]))  # </s> the cat| sat|
            logits[..., prediction._unused] = -torch.inf
            log_probabilities = logits.log_softmax(-1)[0]
            expected = log_probabilities[[0, 1], prediction.output_classes[:2]].tolist()
            assert row.scores[:2] == pytest.approx(expected, abs=1e-4)


def test_the_decoder_reads_an_earlier_layer_of_the_encoder():
    model = randomized(Transformer(TransformerConfig(num_heads=2, hidden_dim=8, **SMALL), VOCAB))
    prediction = translation(model)
    rows = encoder_lens(prediction)
    assert [row.layer for row in rows] == ["embedding", "encoder.0", "encoder.1"]
    assert [row.layer for row in logit_lens(prediction)][1:] == [
        "decoder.0",
        "decoder.1",
        "decoder.2",
    ]
    whole = model.encoder
    model.encoder = whole[:1]
    with torch.no_grad():
        (scores,) = prediction.scores(prediction.full_weights()).tolist()
    model.encoder = whole
    assert rows[1].scores == pytest.approx(scores, abs=1e-5)
    assert rows[0].scores != pytest.approx(scores, abs=1e-3)


def test_encoder_and_decoder_may_differ_in_size():
    bert = BertConfig(num_layers=2, dim=24, num_heads=3, hidden_dim=8, max_positions=64)
    config = EncoderDecoderConfig(encoder=bert, decoder=GptConfig(num_layers=1, **SIZES))
    prediction = translation(randomized(EncoderDecoderModel(config, VOCAB)))
    assert [row.layer for row in logit_lens(prediction)] == ["embedding", "decoder.blocks.0"]
    assert [row.layer for row in encoder_lens(prediction)] == [
        "embedding",
        "encoder.blocks.0",
        "encoder.blocks.1",
    ]


def test_a_copy_model_has_rows_too():
    sizes = {"num_heads": 2, "hidden_dim": 8, **SMALL}
    model = randomized(Transformer(TransformerConfig(has_copy=True, **sizes), VOCAB))
    prediction = translation(model)
    assert len(logit_lens(prediction)) == 4
    assert all(sum(row.probabilities) <= 3.0 for row in logit_lens(prediction))


def test_layers_that_solve_add_to_a_residual_stream_as_well():
    generator = predictors.text_generator()
    generator.model = randomized(MesaNet(MesaNetConfig(num_layers=2, **SIZES), VOCAB))
    prediction = predict(generator, "the cat", output=" sat")
    assert len(logit_lens(prediction)) == 3
    assert encoder_lens(prediction) == []


@pytest.mark.parametrize(
    "model",
    [
        LstmEncoderDecoder(LstmConfig(**SMALL), VOCAB),
        ConvS2S(ConvS2SConfig(**SMALL), VOCAB),
    ],
    ids=["LSTM", "ConvS2S"],
)
def test_families_without_a_residual_stream_have_no_rows(model):
    prediction = translation(randomized(model))
    assert logit_lens(prediction) == encoder_lens(prediction) == []


def test_labels_and_forecasts_have_rows_by_layer(tmp_path):
    labels = predict(predictors.text_classifier(), "the cat sat")
    rows = logit_lens(labels)
    assert len(rows) == 3
    assert all(row.texts[0] in predictors.LABELS for row in rows)
    series = str(predictors.write_series(tmp_path / "sales.csv"))
    forecast = predict(predictors.forecaster(), series)
    rows = logit_lens(forecast)
    assert [row.layer for row in rows] == ["embedding", "members.0.blocks.0", "members.0.blocks.1"]
    assert rows[-1].scores == pytest.approx([output.score for output in forecast.outputs])
    assert rows[0].scores != pytest.approx(rows[-1].scores)


def test_a_small_memory_gives_the_same_rows():
    prediction = translation()
    small = logit_lens(prediction, Budget(memory=1))
    for one, other in zip(small, logit_lens(prediction), strict=True):
        assert (one.layer, one.texts) == (other.layer, other.texts)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_contrast_is_scored_by_the_difference():
    prediction = predict(predictors.translator(), "the cat", output="a dog", contrast="a cat")
    assert logit_lens(prediction)[-1].scores == pytest.approx(
        prediction.scores(prediction.full_weights())[0].tolist(), abs=1e-5
    )


def test_the_hooks_are_removed_after_use():
    prediction = translation()
    logit_lens(prediction)
    assert not any(module._forward_hooks for module in prediction.model.modules())
