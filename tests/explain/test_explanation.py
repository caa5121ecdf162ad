"""The document of an explanation."""

import base64
import io
import math

import msgspec
import pytest
import torch
from PIL import Image
from tests.explain import predictors

from regard.errors import ConfigError
from regard.explain.document import Explanation, WrittenFacts
from regard.explain.explanation import ModelFacts, explain
from regard.models import LstmConfig, LstmEncoderDecoder


@pytest.fixture(scope="module")
def translation():
    facts = ModelFacts(name="ende", sha="3f2a")
    return explain(predictors.translator(), "the cat sat", output="a dog", facts=facts)


def test_every_method_has_a_score_for_each_feature_that_an_output_reads(translation):
    assert {"integrated_gradients", "occlusion", "attention", "rollout"} <= set(translation.methods)
    for method in translation.methods.values():
        assert len(method.scores) == len(translation.output) == 3
        for index, row in enumerate(method.scores):
            # The source of four tokens, and the target before the output.
            assert [score is not None for score in row] == [
                place < 4 or place - 4 <= index for place in range(7)
            ]


def test_methods_have_their_error_and_their_faithfulness_next_to_random_scores(translation):
    gradients = translation.methods["integrated_gradients"]
    assert 0 <= gradients.error < 0.5  # of a random model with kinks
    assert gradients.steps >= 20
    assert gradients.unit == "nats"
    assert set(gradients.faithfulness.random) >= {"comprehensiveness", "sufficiency"}
    assert translation.methods["occlusion"].faithfulness.tau == pytest.approx(1.0)


def test_the_method_shown_first_is_one_of_the_methods(translation):
    assert translation.first in translation.methods


def test_the_control_has_scores_of_the_same_shape_from_shuffled_weights(translation):
    first = translation.methods[translation.first].scores
    shapes = [[score is None for score in row] for row in translation.control]
    assert shapes == [[score is None for score in row] for row in first]
    assert translation.control != first
    assert -1 <= translation.control_similarity <= 1


def test_the_confidence_is_the_geometric_mean_of_the_probabilities(translation):
    mean = sum(output.score for output in translation.output) / 3
    assert translation.confidence == pytest.approx(math.exp(mean))


def test_every_layer_has_its_attention_with_the_effect_of_each_head(translation):
    kinds = [layer.kind for layer in translation.attention]
    assert kinds == ["encoder", "encoder", "decoder", "cross", "decoder", "cross"]
    for layer in translation.attention:
        assert len(layer.heads) == len(layer.effects) == 2
        assert all(math.isfinite(effect) for effect in layer.effects)


def test_outputs_by_layer_end_with_those_of_the_model(translation):
    scores = [output.score for output in translation.output]
    assert translation.lens[-1].scores == pytest.approx(scores, abs=2e-5)
    assert len(translation.encoder_lens) >= 2


def test_the_document_is_json_and_comes_back(translation):
    text = msgspec.json.encode(translation)
    assert msgspec.json.decode(text, type=Explanation) == translation
    assert b"NaN" not in text


def test_a_model_without_attention_shows_what_it_has_and_says_what_not():
    config = LstmConfig(
        num_encoder_layers=1, num_decoder_layers=1, dim=16, dropout=0.0, attention="none"
    )
    model = predictors.randomized(LstmEncoderDecoder(config, len(predictors.tokenizer())))
    explanation = explain(predictors.translator(model), "the cat sat", output="a dog")
    assert "occlusion" in explanation.methods
    assert "rollout" not in explanation.methods
    assert explanation.attention == []
    assert any("rollout" in note.lower() for note in explanation.notes)


def test_a_method_that_does_not_fit_the_model_is_refused_where_it_is_asked_for():
    config = LstmConfig(
        num_encoder_layers=1, num_decoder_layers=1, dim=16, dropout=0.0, attention="none"
    )
    model = predictors.randomized(LstmEncoderDecoder(config, len(predictors.tokenizer())))
    with pytest.raises(
        ConfigError, match=r"no attention\.  Take another method, such as occlusion"
    ):
        explain(predictors.translator(model), "the cat", output="a", methods=["rollout"])


@pytest.mark.slow
def test_an_unknown_method_is_refused_with_those_that_exist():
    with pytest.raises(ConfigError, match=r"'shap': one of integrated_gradients, .*occlusion"):
        explain(predictors.text_classifier(), "the cat", methods=["shap"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_generator", "text_classifier"])
def test_other_tasks_have_an_explanation(name):
    explanation = explain(
        getattr(predictors, name)(), "the cat sat on the mat", methods=["ig", "attention"]
    )
    assert list(explanation.methods) == ["integrated_gradients", "attention"]
    assert explanation.lens


def test_a_forecast_has_an_explanation_in_units_of_its_series(tmp_path):
    path = str(predictors.write_series(tmp_path / "sales.csv"))
    explanation = explain(predictors.forecaster(), path, methods=["occlusion"])
    assert explanation.unit == "units of the series"
    assert explanation.confidence is None
    assert explanation.output[0].text == "2026-01-21"


def test_long_computations_report_their_progress():
    heard = []
    explain(
        predictors.text_classifier(),
        "the cat sat on the mat",
        methods=["occlusion"],
        on_progress=lambda name, done, total: heard.append((name, done, total)),
    )
    assert any(name == "Occlusion (method 1 of 1)" and done == all for name, done, all in heard)


def test_an_input_that_changes_nothing_is_said_to_change_nothing():
    classifier = predictors.text_classifier()
    with torch.no_grad():
        classifier.model.output_weight.zero_()
    explanation = explain(classifier, "the cat sat on the mat", methods=["occlusion"])
    assert any("do not depend on it" in note for note in explanation.notes)


@pytest.mark.slow
def test_a_contrast_names_both_tokens_with_their_probabilities():
    explanation = explain(
        predictors.translator(),
        "the cat",
        output="a dog ran",
        contrast="a mat ran",
        methods=["occlusion"],
    )
    (note,) = explanation.notes
    assert note.startswith('The scores explain why "dog" (')
    assert 'and not "mat" (' in note


def test_a_forecast_carries_the_history_that_its_patches_are_of(tmp_path):
    path = str(predictors.write_series(tmp_path / "sales.csv"))
    explanation = explain(predictors.forecaster(), path, methods=["occlusion"])
    assert explanation.history == [10.0 + day % 7 for day in range(8, 20)]
    num_patches = sum(feature.part == "history" for feature in explanation.input)
    assert len(explanation.history) % num_patches == 0


def test_an_image_is_part_of_its_explanation(tmp_path):
    path = tmp_path / "image.png"
    Image.new("L", (6, 4), 7).save(path)
    explanation = explain(predictors.image_classifier(), path, methods=["occlusion"])
    assert explanation.text == str(path)
    content = base64.b64decode(explanation.image.removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).getpixel((0, 0)) == 7


def test_an_answer_is_named_with_its_first_and_its_last_token():
    explanation = explain(
        predictors.question_answerer(),
        "who sat ?",
        context="the cat sat on the mat",
        output="cat sat",
        methods=["occlusion"],
    )
    assert [output.text for output in explanation.output] == ["start: cat", "end: sat"]
    assert explanation.notes[0].startswith('The answer is "cat sat";')


@pytest.mark.slow
def test_outputs_that_were_not_the_most_probable_are_counted():
    own = explain(predictors.translator(), "the cat sat", methods=["attention"])
    assert own.model.search == "beam search of 4"
    given = explain(predictors.translator(), "the cat", output="a dog", methods=["attention"])
    assert given.model.search == "a given output"
    assert not any("most probable" in note for note in given.notes)


@pytest.mark.slow
def test_a_target_is_compared_with_its_source():
    explanation = explain(
        predictors.translator(),
        "the cat sat",
        output="a cat a cat a cat",
        methods=["attention"],
    )
    assert explanation.written == WrittenFacts(length_ratio=2.0, copied=3, repeats=2)
    assert explain(predictors.text_classifier(), "a cat", methods=["attention"]).written is None
