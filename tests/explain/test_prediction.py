"""Scores that cannot be explained are refused when a prediction is opened."""

import pytest
import torch
from tests.explain import predictors
from tests.explain.tiny_predictions import classified

from regard.errors import ConfigError, WeightsError
from regard.explain.attribution import DEFAULT_METHODS
from regard.explain.open_prediction import predict
from regard.explain.prediction import check_scores
from regard.explain.predictions.answer_span import AnswerSpan
from regard.explain.predictions.classified_input import ClassifiedInput
from regard.explain.predictions.classified_text import ClassifiedText
from regard.explain.predictions.continued_text import ContinuedText
from regard.explain.predictions.forecast_steps import ForecastSteps
from regard.explain.predictions.written_target import WrittenTarget


def test_a_model_whose_weights_are_not_numbers_is_named():
    classifier = predictors.text_classifier()
    with torch.no_grad():
        classifier.model.output_bias[1] = torch.nan
    with pytest.raises(WeightsError, match=r"score of '\w+' is not a number \(nan\)"):
        predict(classifier, "the cat sat")


def test_forecasts_that_are_not_numbers_are_named(tmp_path):
    forecaster = predictors.forecaster()
    with torch.no_grad():
        next(forecaster.model.parameters()).fill_(torch.nan)
    with pytest.raises(WeightsError, match="is not a number"):
        predict(forecaster, str(predictors.write_series(tmp_path / "sales.csv")))


def test_an_output_of_probability_0_has_nothing_to_explain():
    with pytest.raises(ConfigError, match="never gives 'b': its probability is 0"):
        check_scores(torch.tensor([-1.0, -torch.inf]), ["a", "b"])


def test_the_effect_scale_of_classes_is_probability():
    prediction = classified("the cat sat")
    with torch.no_grad():
        (scores,) = prediction.scores(prediction.full_weights())
    probability = max(prediction.outputs[0].alternatives.values())
    assert float(prediction.effect_scale(scores)[0]) == pytest.approx(probability)


def test_the_method_shown_first_is_the_one_that_won_for_the_kind_of_prediction():
    first = {
        kind: kind.first_method
        for kind in (
            WrittenTarget,
            AnswerSpan,
            ClassifiedInput,
            ForecastSteps,
            ClassifiedText,
            ContinuedText,
        )
    }
    integrated = {kind for kind, name in first.items() if name == "integrated_gradients"}
    assert integrated == {ClassifiedText, ContinuedText}
    assert set(first.values()) == {"integrated_gradients", "occlusion"} <= set(DEFAULT_METHODS)
