"""Predictions of every task: scores of the input as it is, derivatives, what outputs read."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explain import predictors
from tests.explain import sample_explanations as samples
from tests.tasks.translation.published_languages import nllb_folder

import regard
from regard.errors import ConfigError
from regard.explain import (
    NotebookFrame,
    draw_diagram,
    encoder_lens,
    explain,
    explanation_svg,
    format_text,
    head_effects,
    head_importance,
    layer_table,
    logit_lens,
    page_html,
    show,
)
from regard.explain.open_prediction import predict
from regard.models import (
    ConvS2S,
    ConvS2SConfig,
    LstmConfig,
    LstmEncoderDecoder,
    Transformer,
    TransformerConfig,
)

CONTEXT = "the cat sat on the mat . a dog ran to the door . who sat on the mat ? " * 2


def image_file(folder):
    path = folder / "image.png"
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def series_rows(folder):
    path = folder / "rows.csv"
    path.write_text(",".join(map(str, range(12))))
    return str(path)


def open_each(folder):
    """Return a prediction of every task by name."""
    return {
        "translation": predict(predictors.translator(), "the cat sat", output="a dog"),
        "generation": predict(predictors.text_generator(), "the cat", output=" sat on the mat"),
        "classification": predict(predictors.text_classifier(), "the cat sat on the mat"),
        "answers": predict(
            predictors.question_answerer(), "who sat ?", context=CONTEXT, output="cat"
        ),
        "images": predict(predictors.image_classifier(), image_file(folder)),
        "series": predict(predictors.series_classifier(), series_rows(folder)),
        "forecasts": predict(
            predictors.forecaster(), str(predictors.write_series(folder / "sales.csv"))
        ),
    }


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    return open_each(tmp_path_factory.mktemp("inputs"))


NAMES = ("translation", "generation", "classification", "answers", "images", "series", "forecasts")


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_the_whole_input_are_those_of_the_outputs(predictions, name):
    prediction = predictions[name]
    (scores,) = prediction.scores(prediction.full_weights())
    expected = torch.tensor([output.score for output in prediction.outputs], dtype=scores.dtype)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_patches_of_steps_ahead_have_names_that_begin_differently(predictions):
    features = predictions["forecasts"].features
    names = [feature.text for feature in features if feature.part == "ahead"]
    assert names == ["+1 ahead", "+4 ahead"]


@pytest.mark.parametrize("name", NAMES)
def test_one_output_a_row_is_that_of_all_outputs(predictions, name):
    prediction = predictions[name]
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(3, len(prediction.features), generator=generator)
    outputs = torch.tensor([0, len(prediction.outputs) - 1, 0])
    every = prediction.scores(weights)[torch.arange(3), outputs]
    torch.testing.assert_close(prediction.scores(weights, outputs=outputs), every)


@pytest.mark.parametrize("name", NAMES)
def test_an_output_depends_on_the_features_that_it_reads_and_on_no_other(predictions, name):
    prediction = predictions[name]
    weights = prediction.full_weights().requires_grad_()
    for index, score in enumerate(prediction.scores(weights)[0]):
        (gradient,) = torch.autograd.grad(score, weights, retain_graph=True)
        assert (gradient[0][~prediction.reads[index]] == 0).all()
        read = prediction.reads[index] & ~prediction.is_special
        assert (gradient[0][read] != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_baseline_leaves_special_tokens_as_they_are(predictions, name):
    prediction = predictions[name]
    weights = prediction.full_weights()
    weights[:, prediction.is_special] = 0.0
    (scores,) = prediction.scores(weights)
    expected = torch.tensor([output.score for output in prediction.outputs], dtype=scores.dtype)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_output_reads_of_the_last_states_sums_to_one(predictions, name):
    prediction = predictions[name]
    last = prediction.stacks[-1]
    assert prediction.readout.shape == (len(prediction.outputs), last.stop - last.start)
    torch.testing.assert_close(prediction.readout.sum(1), torch.ones(len(prediction.outputs)))


def test_weights_of_every_number_of_an_embedding_are_taken():
    prediction = predict(predictors.translator(), "the cat sat", output="a dog")
    weights = torch.ones(1, len(prediction.features), 16)
    half = 0.5 * prediction.full_weights()
    torch.testing.assert_close(
        prediction.scores(0.5 * weights), prediction.scores(half), rtol=1e-5, atol=1e-5
    )


def test_a_hidden_token_equals_the_reference_token_in_its_place():
    translator = predictors.translator()
    prediction = predict(translator, "the cat sat", output="a dog")
    weights = prediction.full_weights()
    weights[0, 1] = 0.0
    source = [*translator.tokenizer.encode(["the cat sat"])[0], 2]
    source[1] = 0
    target = [1, *translator.tokenizer.encode(["a dog"])[0]]
    logits = translator.model(
        torch.tensor([source]), torch.tensor([target]), lengths=torch.tensor([len(source)])
    )
    expected = logits.log_softmax(-1)[0, torch.arange(3), torch.tensor([*target[1:], 2])]
    torch.testing.assert_close(prediction.scores(weights)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["lstm", "conv_s2s", "copying"])
def test_every_family_of_encoder_decoders_has_scores(family):
    size = len(predictors.tokenizer())
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dropout": 0.0}
    model = {
        "lstm": lambda: LstmEncoderDecoder(LstmConfig(dim=16, **layers), size),
        "conv_s2s": lambda: ConvS2S(ConvS2SConfig(dim=16, **layers), size),
        "copying": lambda: Transformer(
            TransformerConfig(has_copy=True, dim=16, num_heads=2, hidden_dim=24, **layers), size
        ),
    }[family]()
    translator = predictors.translator(predictors.randomized(model))
    prediction = predict(translator, "the cat sat", output="the cat")
    weights = prediction.full_weights().requires_grad_()
    scores = prediction.scores(weights)
    expected = torch.tensor([output.score for output in prediction.outputs])
    torch.testing.assert_close(scores[0], expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(scores[0, 0], weights)
    assert (gradient[0, :3] != 0).all()


def test_a_copied_token_that_is_hidden_cannot_be_copied():
    config = TransformerConfig(
        num_encoder_layers=1, num_decoder_layers=1, has_copy=True, **predictors.SIZES
    )
    model = predictors.randomized(Transformer(config, len(predictors.tokenizer())))
    torch.nn.init.constant_(model.copy_head.gate.bias, -50.0)  # all is copied
    prediction = predict(predictors.translator(model), "the cat sat", output="cat")
    assert prediction.outputs[0].score > -10
    weights = prediction.full_weights()
    weights[0, 1] = 0.0
    assert prediction.scores(weights)[0, 0] < -40


def test_a_contrast_is_explained_at_the_first_token_where_it_differs():
    translator = predictors.translator()
    plain = predict(translator, "the cat sat", output="a dog ran")
    other = predict(translator, "the cat sat", output="a mat ran")
    contrast = predict(translator, "the cat sat", output="a dog ran", contrast="a mat ran")
    score = contrast.scores(contrast.full_weights())[0].detach()
    assert [output.text for output in contrast.outputs] == [" dog"]
    assert float(score[0]) == pytest.approx(plain.outputs[1].score - other.outputs[1].score, 1e-5)


def test_a_contrast_with_the_label_that_a_model_gives_itself_is_refused(tmp_path):
    for make, text in (
        (predictors.text_classifier, "the cat"),
        (predictors.image_classifier, image_file(tmp_path)),
    ):
        model = make()
        label = predict(model, text).outputs[0].text
        with pytest.raises(ConfigError) as error:
            predict(model, text, contrast=label)
        assert str(error.value) == (
            "the contrast does not differ from the output.  Name another one."
        )


def test_labels_are_contrasted_by_name():
    classifier = predictors.text_classifier()
    prediction = predict(classifier, "the cat", output="glad", contrast="sad")
    probabilities = classifier.classify("the cat").probabilities
    (score,) = prediction.scores(prediction.full_weights())[0].detach()
    expected = math.log(probabilities["glad"] / probabilities["sad"])
    assert float(score) == pytest.approx(expected, abs=1e-4)


def test_without_an_output_the_models_own_is_explained():
    translator = predictors.translator()
    (best,) = translator.translate_best(["the"])[0]
    prediction = predict(translator, "the")
    assert not best.is_complete  # cut off at its longest, so that no end is an output
    total = sum(output.score for output in prediction.outputs)
    confidence = math.exp(total / (len(prediction.outputs) + 1))
    assert confidence == pytest.approx(best.confidence, rel=1e-4)
    classifier = predictors.text_classifier()
    label = classifier.classify("the cat").label
    assert predict(classifier, "the cat").outputs[0].text == label


@pytest.mark.parametrize("seed", [0, 1, 4])  # 1 and 4 answer with a token of space at the end
def test_the_window_of_the_best_answer_is_explained(seed):
    torch.manual_seed(seed)
    answerer = predictors.question_answerer()
    prediction = predict(answerer, "who sat ?", context=CONTEXT)
    answer = answerer.answer("who sat ?", CONTEXT)
    probability = math.exp(sum(output.score for output in prediction.outputs))
    assert probability == pytest.approx(answer.probability, rel=1e-4)


@pytest.mark.parametrize(
    ("predictor", "text", "options", "message"),
    [
        ("translator", " ", {}, "the text is empty"),
        ("translator", "the cat", {"output": "a dog", "contrast": "a dog"}, "does not differ"),
        ("text_classifier", "a cat", {"output": "sad", "contrast": "sad"}, "does not differ"),
        ("translator", "the cat", {"context": "a dog"}, "has none"),
        ("text_classifier", "the cat", {"output": "angry"}, "calm, glad, sad"),
        ("question_answerer", "who sat ?", {}, "a question is asked of a text"),
        (
            "question_answerer",
            "who sat ?",
            {"context": "the cat sat", "output": "bird"},
            "not in the context",
        ),
        ("text_generator", "the cat", {"output": ""}, "no continuation"),
        ("translator", None, {}, "^`text`: a text was expected, not NoneType.$"),
        ("translator", ["the cat"], {}, "^`text`: a text was expected, not list.$"),
        ("translator", Path("cat.txt"), {}, "^`text`: a text was expected, not PosixPath.$"),
        ("translator", "the cat", {"output": 3}, "^`output`: a text was expected, not int.$"),
        ("translator", "the \ud800", {}, r"^text\[0\]: half of a character \(U\+D800\)"),
        ("translator", "the cat", {"row": 0}, "^row must be a whole number, 1 or more, not 0$"),
    ],
)
def test_what_cannot_be_explained_is_refused(predictor, text, options, message):
    with pytest.raises(ConfigError, match=message):
        predict(getattr(predictors, predictor)(), text, **options)


@pytest.mark.parametrize("function", [predict, explain, show])
@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, ""),
        (3, ""),
        ({"model": None}, ""),
        (predictors.TRANSFORMER, ""),
        (torch.nn.Linear(2, 2), "  A module alone reads no text: pass the model whose `.model`"),
        (predictors.translator().model, "  A module alone reads no text: pass the model whose"),
        ("ende", "  Open the folder first: `regard.load(FOLDER)`."),
        (Path("ende"), "  Open the folder first: `regard.load(FOLDER)`."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_model_in_use_is_refused_by_its_type(function, value, hint):
    with pytest.raises(TypeError) as error:
        function(value, "the cat")
    assert str(error.value).startswith(
        "`predictor`: a model from `regard.load` or `regard.train` was expected, not "
        f"{type(value).__name__}.{hint}"
    )


def test_the_bytes_of_a_character_are_named_by_it():
    prediction = predict(predictors.translator(), "the 🙂", output="cat 🙂")
    sources = [feature.text for feature in prediction.features if feature.part == "source"]
    assert sources[-5:] == ["🙂·1", "🙂·2", "🙂·3", "🙂·4", "</s>"]
    assert [output.text for output in prediction.outputs][-5:] == sources[-5:]


@pytest.mark.parametrize("value", [None, 3, "ende", [1], torch.nn.Linear(2, 2)])
def test_what_is_no_prediction_explanation_or_module_is_refused_by_its_type(value):
    kind = type(value).__name__
    for function in (head_effects, head_importance, logit_lens, encoder_lens):
        with pytest.raises(TypeError) as error:
            function(value)
        expected = f"`prediction`: what `regard.explain.predict` returns was expected, not {kind}."
        assert str(error.value) == expected
    for function in (page_html, explanation_svg, format_text):
        with pytest.raises(TypeError) as error:
            function(value)
        expected = f"`explanation`: what `regard.explain.explain` returns was expected, not {kind}."
        assert str(error.value) == expected
    if not isinstance(value, torch.nn.Module):
        with pytest.raises(TypeError, match=f"`model`: a torch.nn.Module, .* not {kind}"):
            layer_table(value, length=3)


OPTIONS = {
    "height": (
        lambda value: NotebookFrame(samples.classification(), value),
        "height must be a whole number, 1 or more, not ",
    ),
    "width": (
        lambda value: format_text(samples.classification(), value),
        "width must be a whole number, 1 or more, not ",
    ),
    "output": (
        lambda value: explanation_svg(samples.classification(), value),
        "output {}: one of 0 to 0 was expected.",
    ),
    "length": (
        lambda value: layer_table(predictors.translator().model, value),
        "length must be a whole number, 1 or more, not ",
    ),
    "kind": (
        lambda value: draw_diagram(predictors.translator().model, value),
        "kind must be mermaid or svg, not ",
    ),
    "draws_model": (
        lambda value: explain(predictors.translator(), "the cat", draws_model=value),
        "`draws_model`: True or False was expected, not ",
    ),
    "on_progress": (
        lambda value: explain(predictors.translator(), "the cat", on_progress=value),
        "on_progress must be a function, not ",
    ),
}


@pytest.mark.parametrize("value", ["3", 1.5, -1])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_another_type_are_refused_by_their_names(name, value):
    call, message = OPTIONS[name]
    with pytest.raises(ConfigError) as caught:
        call(value)
    assert str(caught.value).startswith(message.format(repr(value)))


@pytest.mark.parametrize("methods", [3, [3], [["ig"]], b"ig", "ig", predictors])
def test_methods_that_are_no_names_are_refused(methods):
    with pytest.raises(ConfigError, match=r"methods(\[0\])?: a (text|list) .*was expected, not "):
        explain(predictors.translator(), "the cat", methods=methods)


def test_tokens_that_begin_every_output_are_read_and_not_explained(tmp_path):
    folder = nllb_folder(tmp_path, src_lang="eng_Latn", tgt_lang="deu_Latn")
    prediction = predict(regard.load(folder), "the cat")
    begin = [item.text for item in prediction.features if item.part == "target"][:2]
    assert begin == ["</s>", "deu_Latn"]
    is_special = [item.is_special for item in prediction.features if item.part == "target"]
    assert is_special == [True, True, *[False] * (len(is_special) - 2)]
    assert "deu_Latn" not in [output.text for output in prediction.outputs]
