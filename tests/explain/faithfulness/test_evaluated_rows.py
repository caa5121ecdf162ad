"""The rows of test files of every task open as predictions."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.explain import predictors

from regard.errors import ConfigError, DataError
from regard.explain.faithfulness import open_rows
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.summarization.predictor import Summarizer

QUESTION = {
    "context": "the cat sat on the mat . a dog ran to the door .",
    "question": "who sat ?",
    "answers": ["the cat"],
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_images(folder):
    for label in predictors.LABELS:
        (folder / label).mkdir(parents=True)
        pixels = np.full((4, 6), len(label) * 30, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / label / "a.png")
    return folder


def as_task(kind):
    """Return the translator of the tests as the predictor of another task of targets."""
    translator = predictors.translator()
    return kind(translator.model, translator.tokenizer, translator.config)


def opened(predictor, data):
    """Return the inputs that the features of each row are of, and the outputs of the first."""
    predictions = [row() for row in open_rows(predictor, data)]
    parts = [{feature.part for feature in prediction.features} for prediction in predictions]
    return parts, len(predictions[0].outputs)


def test_pairs_are_read_for_translation(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("the cat sat\tdie Katze\na dog ran\tein Hund\n", encoding="utf-8")
    parts, _ = opened(predictors.translator(), path)
    assert parts == [{"source", "target"}] * 2


def test_documents_are_read_for_summaries(tmp_path):
    path = write(tmp_path / "test.jsonl", {"document": "the cat sat", "summary": "cat"})
    assert opened(as_task(Summarizer), path)[0] == [{"source", "target"}]


def test_labeled_texts_are_read_for_classification(tmp_path):
    rows = [{"text": "the cat", "label": "sad"}, {"text": "a dog", "label": "glad"}]
    parts, num_outputs = opened(predictors.text_classifier(), write(tmp_path / "t.jsonl", *rows))
    assert parts == [{"text"}] * 2
    assert num_outputs == 1


def test_lines_are_read_for_language_models_without_empty_ones(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text("the cat sat on the mat\n\na dog ran\n", encoding="utf-8")
    parts, num_outputs = opened(predictors.text_generator(), path)
    assert parts == [{"text", "continuation"}] * 2
    assert num_outputs == 20


def test_questions_are_read_for_answers_in_texts(tmp_path):
    path = write(tmp_path / "test.jsonl", QUESTION)
    assert opened(predictors.question_answerer(), path)[0] == [{"question", "context"}]


def test_questions_are_read_for_written_answers(tmp_path):
    path = write(tmp_path / "test.jsonl", QUESTION)
    assert opened(as_task(AnswerWriter), path)[0] == [{"source", "target"}]


def test_images_are_read_from_a_folder(tmp_path):
    assert opened(predictors.image_classifier(), write_images(tmp_path / "x")) == (
        [{"image"}] * 3,
        1,
    )


def test_every_series_of_a_file_is_a_row(tmp_path):
    parts, num_outputs = opened(
        predictors.forecaster(), predictors.write_series(tmp_path / "sales.csv")
    )
    assert parts == [{"history", "ahead"}]
    assert num_outputs == 4


def test_unknown_labels_are_refused_as_in_an_evaluation(tmp_path):
    path = write(tmp_path / "test.jsonl", {"text": "the cat", "label": "angry"})
    with pytest.raises(
        DataError, match=r'label "angry" is not in the training data\..*Known: calm, glad'
    ):
        open_rows(predictors.text_classifier(), path)


def test_a_model_of_vectors_has_no_outputs_to_explain(tmp_path):
    classifier = predictors.text_classifier()
    encoder = TextEncoder(classifier.model.encoder, classifier.tokenizer, classifier.config)
    path = write(tmp_path / "test.jsonl", {"text": "the cat"})
    with pytest.raises(ConfigError, match="has no explanation"):
        open_rows(encoder, path)
