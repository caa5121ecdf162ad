"""Heads removed one by one: the same as without their part of the weights, for every family."""

from contextlib import nullcontext

import pytest
import torch
from tests.explain import predictors
from tests.explain.predictors import SIZES, randomized

from regard.explain.attribution import Budget
from regard.explain.heads import head_effects, head_importance
from regard.explain.open_prediction import predict
from regard.layers import MultiHeadAttention
from regard.models import (
    BertConfig,
    ConvS2S,
    ConvS2SConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNetConfig,
    Transformer,
    TransformerConfig,
)

VOCAB = len(predictors.tokenizer())
SMALL = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim": 8}
BERT = BertConfig(num_layers=1, dim=24, num_heads=3, hidden_dim=8, max_positions=64)
MODELS = {
    "transformer": Transformer(predictors.TRANSFORMER, VOCAB),
    "copy": Transformer(
        TransformerConfig(has_copy=True, num_heads=2, hidden_dim=8, **SMALL), VOCAB
    ),
    "bahdanau": LstmEncoderDecoder(LstmConfig(attention="bahdanau", **SMALL), VOCAB),
    "luong": LstmEncoderDecoder(LstmConfig(attention="luong", **SMALL), VOCAB),
    "conv_s2s": ConvS2S(ConvS2SConfig(**SMALL), VOCAB),
    **{
        f"bert and {type(decoder).__name__}": EncoderDecoderModel(
            EncoderDecoderConfig(encoder=BERT, decoder=decoder), VOCAB
        )
        for decoder in (
            GptConfig(num_layers=1, num_kv_heads=1, **SIZES),
            MesaNetConfig(num_layers=1, **SIZES),
        )
    },
}


def translation(model):
    return predict(predictors.translator(model), "the cat sat on the mat", output="a dog ran")


def mean_score(prediction):
    with torch.no_grad():
        return float(prediction.scores(prediction.full_weights()).mean())


def test_removing_a_head_is_setting_its_columns_of_the_output_map_to_zero():
    prediction = translation(randomized(Transformer(predictors.TRANSFORMER, VOCAB)))
    before, effects = mean_score(prediction), head_effects(prediction)
    modules = dict(prediction.model.named_modules())
    attentions = [p for p, module in modules.items() if isinstance(module, MultiHeadAttention)]
    assert list(effects) == attentions
    for path in ("encoder.0.self_attention", "decoder.1.cross_attention"):
        layer = modules[path]
        for head in range(layer.num_heads):
            weight = layer.output.weight
            whole = weight.detach().clone()
            with torch.no_grad():
                weight[:, head * layer.head_dim : (head + 1) * layer.head_dim] = 0.0
            change = mean_score(prediction) - before
            with torch.no_grad():
                weight.copy_(whole)
            assert effects[path][head] == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_family_with_heads_has_effects_and_importance(name):
    prediction = translation(randomized(MODELS[name]))
    effects, importance = head_effects(prediction), head_importance(prediction)
    assert list(effects) == list(importance)
    for path, changes in effects.items():
        layer = prediction.model.get_submodule(path)
        assert len(changes) == len(importance[path]) == layer.num_heads
        assert all(change != 0.0 for change in changes)
        assert all(size > 0.0 for size in importance[path])


@pytest.mark.parametrize("name", [*MODELS, "forecasts"])
def test_blocks_that_are_not_computed_again_change_nothing(name, tmp_path, monkeypatch):
    if name == "forecasts":
        series = str(predictors.write_series(tmp_path / "sales.csv"))
        prediction = predict(predictors.forecaster(), series)
    else:
        prediction = translation(randomized(MODELS[name]))
    effects = head_effects(prediction)
    assert not any("forward" in vars(module) for module in prediction.model.modules())
    monkeypatch.setattr("regard.explain.heads._reuse", lambda *_, **__: nullcontext())
    for path, changes in head_effects(prediction).items():
        assert effects[path] == pytest.approx(changes, rel=1e-4, abs=1e-5)


def test_importance_is_the_derivative_of_the_score_by_the_mask():
    prediction = translation(randomized(Transformer(predictors.TRANSFORMER, VOCAB)).double())
    importance = head_importance(prediction)["decoder.0.self_attention"]
    layer = prediction.model.decoder[0].self_attention
    step = 1e-5
    for head in range(layer.num_heads):
        columns = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
        whole = layer.output.weight.detach().clone()
        scores = []
        for factor in (1 + step, 1 - step):
            with torch.no_grad():
                layer.output.weight[:, columns] = factor * whole[:, columns]
            scores.append(mean_score(prediction))
        with torch.no_grad():
            layer.output.weight.copy_(whole)
        assert importance[head] == pytest.approx(abs(scores[0] - scores[1]) / (2 * step), rel=1e-3)


def test_a_small_memory_gives_the_same_effects_and_says_how_far_it_is():
    prediction = translation(randomized(Transformer(predictors.TRANSFORMER, VOCAB)))
    seen = []
    budget = Budget(memory=1, on_progress=lambda *now: seen.append(now))
    small, whole = head_effects(prediction, budget), head_effects(prediction)
    for path, changes in whole.items():
        assert small[path] == pytest.approx(changes, abs=1e-6)
    assert seen == [(number, 12) for number in range(1, 13)]


def test_a_model_without_heads_has_no_effects():
    model = randomized(LstmEncoderDecoder(LstmConfig(attention="none", **SMALL), VOCAB))
    assert head_effects(translation(model)) == {}
    assert head_importance(translation(model)) == {}


def test_heads_of_classifiers_forecasters_and_images_are_removed_too(tmp_path):
    series = str(predictors.write_series(tmp_path / "sales.csv"))
    for prediction, num_layers in (
        (predict(predictors.text_classifier(), "the cat sat"), 2),
        (predict(predictors.text_generator(), "the cat"), 2),
        (predict(predictors.forecaster(), series), 4),
    ):
        effects = head_effects(prediction)
        assert len(effects) == num_layers
        assert all(len(changes) == 2 for changes in effects.values())
