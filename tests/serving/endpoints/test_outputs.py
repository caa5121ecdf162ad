"""The outputs of a service are those of its model, one for each input."""

from __future__ import annotations

import base64
import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from tests.explain import predictors
from tests.explain.report.test_report_page_of_tasks import summarizer
from tests.serving.running_service import running

from regard.data.masking import MASK
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.models import Bert
from regard.setup.config import RunConfig
from regard.tasks.masked_language_modeling.predictor import TextEncoder

TEXTS = ["the cat sat", "", "a dog ran to the door", "the mat"]


def plain(value):
    return msgspec.to_builtins(value)


def test_a_translation_has_text_score_confidence_and_no_flags(translating):
    (output,) = translating.post("/v1/translate", {"text": "the cat sat"}).outputs
    ((best, *_),) = translating.twin.translate_best(["the cat sat"])
    assert output["text"] == best.text
    assert output["score"] == pytest.approx(best.score, abs=1e-6)
    assert output["confidence"] == pytest.approx(best.confidence, abs=1e-6)
    assert set(output["flags"]) <= {"incomplete", "empty"}


def test_the_answer_names_the_model_and_its_time(translating):
    answer = translating.post("/v1/translate", {"text": "the cat sat"}).json
    assert answer["model"] == "toy@3f2a"
    assert 0 <= answer["ms"] < 60_000


def test_several_texts_have_outputs_in_their_order(translating):
    outputs = translating.post("/v1/translate", {"text": TEXTS, "beam": 2}).outputs
    expected = translating.twin.translate(TEXTS, beam=2)
    assert [output["text"] for output in outputs] == expected
    assert outputs[1]["flags"] == []


def test_the_next_best_outputs_are_alternatives(translating):
    (output,) = translating.post("/v1/translate", {"text": "a dog ran", "nbest": 3}).outputs
    (best,) = translating.twin.translate_best(["a dog ran"], nbest=3)
    texts = [output["text"], *(other["text"] for other in output["alternatives"])]
    assert texts == [candidate.text for candidate in best]


def test_alignment_names_words_and_weights(translating):
    (output,) = translating.post("/v1/translate", {"text": "the cat sat", "align": True}).outputs
    links = translating.twin.align("the cat sat", output["text"]).links()
    assert [tuple(link[:2]) for link in output["alignment"]] == [link[:2] for link in links]
    weights = [link[2] for link in output["alignment"]]
    assert weights == pytest.approx([link[2] for link in links], abs=1e-6)
    assert all(0 <= weight <= 1 + 1e-6 for weight in weights)


def test_an_output_that_is_its_source_is_flagged():
    from regard.serving.verbs.written_texts import _flags
    from regard.tasks.sequence_to_sequence.predictor import Candidate

    def candidate(text, is_complete=True):
        return Candidate(text=text, score=-1.0, confidence=0.5, is_complete=is_complete)

    assert _flags("a  cat", candidate("a cat")) == ["copied"]
    assert _flags("a cat", candidate(" ")) == ["empty"]
    assert _flags("a cat", candidate("eine", is_complete=False)) == ["incomplete"]
    assert _flags("", candidate("")) == []


def test_many_requests_at_a_time_have_what_each_has_alone(translating):
    texts = [text for text in predictors.TEXTS for _ in range(8)]
    expected = translating.twin.translate(texts)

    def ask(text):
        return translating.post("/v1/translate", {"text": text}).outputs[0]["text"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, texts)) == expected


def test_a_summary_says_what_was_not_read():
    text = "cat " * 300
    with running(summarizer()) as client:
        (output,) = client.post("/v1/summarize", {"text": text}).outputs
    ((best, *_),) = client.twin.summarize_best([text])
    assert output["text"] == best.text
    assert output["truncated"] == best.truncated > 0
    assert "truncated" in output["flags"]


def test_labels_are_those_of_the_classifier():
    with running(predictors.text_classifier()) as client:
        outputs = client.post("/v1/classify", {"text": TEXTS, "top": 2}).outputs
        (whole,) = client.post("/v1/classify", {"text": TEXTS[0]}).outputs
    expected = client.twin.classify_rows([text for text in TEXTS if text])
    assert [output["label"] for output in outputs if output["label"]] == [
        result.label for result in expected
    ]
    assert outputs[1] == {"label": "", "probability": 0.0, "probabilities": {}}
    assert len(outputs[0]["probabilities"]) == 2
    assert whole["probabilities"] == pytest.approx(expected[0].probabilities, abs=1e-6)


def test_answers_are_those_of_the_finder():
    context = "the cat sat on the mat . a dog ran to the door"
    questions = ["who sat on the mat ?", "who ran ?"]
    with running(predictors.question_answerer()) as client:
        answer = client.post("/v1/answer", {"question": questions, "context": context})
        unequal = client.post("/v1/answer", {"question": "who ?", "context": [context] * 2})
        empty = client.post("/v1/answer", {"question": " ", "context": context})
    expected = client.twin.answer(questions, context)
    for output, result in zip(answer.outputs, expected, strict=True):
        assert {**output, "probability": 0} == {**plain(result), "probability": 0}
        assert output["probability"] == pytest.approx(result.probability, abs=1e-6)
    assert unequal.json["detail"] == "1 questions and 2 contexts."
    assert empty.json["detail"] == "question 1 is empty."


def test_the_same_seed_continues_a_text_in_the_same_way(generating):
    body = {"text": "the cat", "max_tokens": 8, "seed": 4, "num": 2}
    outputs = generating.post("/v1/generate", body).outputs
    expected = generating.twin.generate("the cat", num=2, max_tokens=8, seed=4)
    assert [output["text"] for output in outputs] == [result.text for result in expected]
    assert [output["num_tokens"] for output in outputs] == [
        result.num_tokens for result in expected
    ]


def test_texts_that_are_continued_at_a_time_are_what_each_is_alone(generating):
    def ask(seed):
        body = {"text": "a dog", "max_tokens": 20, "seed": seed}
        return generating.post("/v1/generate", body).outputs[0]["text"]

    expected = [
        generating.twin.generate("a dog", max_tokens=20, seed=seed).text for seed in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == expected


def events_of(body: bytes) -> list[tuple[str, dict]]:
    events = []
    for block in body.decode().strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((lines.get("event", ""), json.loads(lines["data"])))
    return events


def test_pieces_of_a_stream_make_the_whole_text(generating):
    body = {"text": "the cat", "max_tokens": 12, "seed": 1}
    answer = generating.post("/v1/generate", {**body, "stream": True})
    *pieces, (name, end) = events_of(answer.body)
    expected = generating.twin.generate("the cat", max_tokens=12, seed=1)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "".join(piece["text"] for _, piece in pieces) == expected.text
    assert name == "done"
    assert end == {
        "num_tokens": expected.num_tokens,
        "is_complete": expected.is_complete,
        "model": "toy@3f2a",
    }


def test_a_wrong_option_of_a_stream_is_an_error_and_no_stream(generating):
    wrong = generating.post("/v1/generate", {"text": "the", "temperature": -1, "stream": True})
    several = generating.post("/v1/generate", {"text": "the", "num": 2, "stream": True})
    assert (wrong.status, several.status) == (422, 422)
    assert generating.model.outputs.num_admitted == 0


def test_a_forecast_is_that_of_the_records(tmp_path):
    path = predictors.write_series(tmp_path / "series.csv")
    records = list(csv.DictReader(io.StringIO(path.read_text())))
    rows = [{"day": row["day"], "sales": float(row["sales"])} for row in records]
    with running(predictors.forecaster()) as client:
        (output,) = client.post("/v1/forecast", {"rows": rows, "horizon": 3}).outputs
        too_far = client.post("/v1/forecast", {"rows": rows, "horizon": 30})
    (expected,) = client.twin.forecast(path, 3)
    assert output["time"] == expected.time
    assert output["median"] == pytest.approx(expected.median, rel=1e-6)
    assert "the model was trained to predict 4 steps" in too_far.json["detail"]


def test_vectors_are_those_of_the_encoder():
    classifier = predictors.text_classifier()
    config = RunConfig(task="masked-language-modeling", model=predictors.BERT)
    encoder = TextEncoder(classifier.model.encoder, classifier.tokenizer, config)
    with running(encoder) as client:
        outputs = client.post("/v1/embed", {"text": predictors.TEXTS}).outputs
        page, explained = client.get("/"), client.post("/v1/explain", {"text": "the cat"})
    assert b"v1/embed" in page.body
    assert (explained.status, b'"takes_text":false' in page.body) == (422, True)
    vectors = [output["vector"] for output in outputs]
    np.testing.assert_allclose(vectors, encoder.embed(predictors.TEXTS).numpy(), atol=1e-6)


def masked_encoder(*, has_head: bool = True) -> TextEncoder:
    words = TokenizerConfig(kind="word", tags=(MASK,))
    tokenizer = Tokenizer.train(predictors.TEXTS, words)
    config = msgspec.structs.replace(predictors.BERT, has_mlm_head=has_head)
    model = predictors.randomized(Bert(config, len(tokenizer)))
    return TextEncoder(model, tokenizer, RunConfig(task="masked-language-modeling", model=config))


def test_masks_are_filled_as_the_encoder_fills_them():
    encoder = masked_encoder()
    text = "the <mask> sat on the <mask>"
    with running(encoder) as client:
        (output,) = client.post("/v1/fill", {"text": text, "num": 3}).outputs
        several = client.post("/v1/fill", {"text": [text, "a <mask>"]}).outputs
        without = client.post("/v1/fill", {"text": "the cat"})
        misspelt = client.post("/v1/fill", {"text": text, "nun": 3})
        vector = client.post("/v1/embed", {"text": "the cat"})
        too_many = client.post("/v1/fill", {"text": text, "num": 5_000})
    for candidates, expected in zip(output["masks"], encoder.fill(text, num=3), strict=True):
        assert [candidate["token"] for candidate in candidates] == [token for token, _ in expected]
        probabilities = [candidate["probability"] for candidate in candidates]
        assert probabilities == pytest.approx([value for _, value in expected])
    assert [len(each["masks"]) for each in several] == [2, 1]
    assert (without.status, misspelt.status, too_many.status) == (422, 422, 422)
    assert "no mask in it" in without.json["detail"]
    assert vector.status == 200


def test_an_encoder_without_a_head_for_masks_has_no_path_to_fill_them():
    with running(masked_encoder(has_head=False)) as client:
        answer = client.post("/v1/fill", {"text": "the <mask>"})
    assert answer.status == 404


def test_an_image_is_classified_as_a_file_and_in_base64():
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    buffer = io.BytesIO()
    image.fromarray(pixels).save(buffer, "PNG")
    content = buffer.getvalue()
    packed = base64.b64encode(content).decode()
    with running(predictors.image_classifier()) as client:
        raw = client.post("/v1/classify", content, **{"Content-Type": "image/png"}).outputs
        by_json = client.post("/v1/classify", {"file": [packed]}).outputs
        no_image = client.post("/v1/classify", {"file": [packed, packed[::-1]]})
        no_base64 = client.post("/v1/classify", {"file": "%%%"})
        explained = client.post("/v1/explain", {"text": "/etc/passwd"})
    assert raw == by_json
    assert raw[0]["label"] in predictors.LABELS
    assert no_image.status == 422
    assert no_image.json["detail"].startswith("file 2")
    assert "/tmp" not in no_image.json["detail"]
    assert no_base64.json["detail"].startswith("file 1: not in Base64")
    assert explained.status == 422  # a text would be the name of a file


def test_series_are_classified_by_their_rows():
    series = [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[1.0, 1.0, 1.0]]]
    with running(predictors.series_classifier()) as client:
        outputs = client.post("/v1/classify", {"series": series}).outputs
        ragged = client.post("/v1/classify", {"series": [[[1.0], [1.0, 2.0]]]})
    expected = client.twin.classify([np.array(rows) for rows in series])
    assert [output["label"] for output in outputs] == [result.label for result in expected]
    assert ragged.json["detail"] == "series 1: its rows have different numbers of values."


def test_a_file_of_another_kind_is_refused_by_what_is_read():
    with running(predictors.image_classifier()) as client:
        answer = client.post("/v1/classify", b"RIFF", **{"Content-Type": "audio/wav"})
    assert answer.status == 415
    assert answer.json["detail"] == "the body is audio/wav, not application/json or image/png."
    assert "--data-binary" in answer.json["hint"]
