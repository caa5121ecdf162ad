"""Explanations of a service are those of the model, while it answers others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import msgspec
import pytest
from tests.explain import predictors
from tests.serving.running_service import FACTS, running, wait_until

from regard.explain.explanation import explain
from regard.serving import running_model
from regard.serving.limits import ServiceLimits
from regard.serving.shared_weights import with_shared_weights

CONTEXT = "the cat sat on the mat . a dog ran to the door"


def without_times(explanation):
    document = msgspec.to_builtins(explanation)
    for method in document["methods"].values():
        method.pop("seconds", None)
    document["model"].pop("picture")
    return document


def test_an_explanation_is_that_of_the_library(translating):
    answer = translating.post("/v1/explain", {"text": "the cat sat", "methods": ["occlusion"]})
    expected = explain(translating.twin, "the cat sat", methods=["occlusion"], facts=FACTS)
    document = answer.json
    assert document["model"]["name"] == "toy"
    assert document["input"] == without_times(expected)["input"]
    scores = document["methods"]["occlusion"]["scores"]
    for row, other in zip(scores, expected.methods["occlusion"].scores, strict=True):
        assert row == pytest.approx(other, abs=1e-5)


def test_an_explanation_may_be_of_another_output_and_compared(translating):
    body = {
        "text": "the cat sat",
        "target": "a dog",
        "contrast": "a mat",
        "methods": ["gradient_input"],
    }
    document = translating.post("/v1/explain", body).json
    assert document["contrast"] == "a mat"
    assert [part["text"].strip() for part in document["output"]] == ["dog"]  # where they differ


def test_a_question_is_explained_with_its_text():
    with running(predictors.question_answerer()) as client:
        body = {"text": "who sat on the mat ?", "context": CONTEXT, "methods": ["gradient_input"]}
        answer = client.post("/v1/explain", body)
        without = client.post("/v1/explain", {"text": "who sat on the mat ?"})
    assert answer.status == 200
    assert without.status == 422


def test_wrong_options_of_an_explanation_are_refused(translating):
    unknown = translating.post("/v1/explain", {"text": "the cat", "methods": ["oclusion"]})
    empty = translating.post("/v1/explain", {"text": " "})
    field = translating.post("/v1/explain", {"txet": "the cat"})
    assert (unknown.status, empty.status, field.status) == (422, 422, 422)
    assert "occlusion" in unknown.json["hint"] + unknown.json["detail"]
    assert field.json["hint"].startswith("Did you mean text?")


@pytest.mark.slow
def test_outputs_stay_what_they_are_while_others_are_explained():
    for make in (predictors.translator, predictors.text_generator):
        with running(make()) as client:
            verb = client.model.predictor.verb
            body = {"text": "the cat sat", "align": True}
            if verb == "generate":
                body = {"text": "the cat sat", "max_tokens": 10, "seed": 2}
            expected = client.post(f"/v1/{verb}", body).outputs
            with ThreadPoolExecutor(2) as pool:
                explaining = [
                    pool.submit(
                        client.post, "/v1/explain", {"text": text, "methods": ["attention"]}
                    )
                    for text in predictors.TEXTS[:2]
                ]
                while not all(each.done() for each in explaining):
                    assert client.post(f"/v1/{verb}", body).outputs == expected
            assert [each.result().status for each in explaining] == [200, 200]


def test_more_explanations_than_it_takes_are_told_to_come_again(monkeypatch):
    goes_on = Event()

    def wait(*_, **__):
        goes_on.wait()
        raise ValueError

    monkeypatch.setattr(running_model, "explain", wait)
    limits = ServiceLimits(max_explanations=1)
    with running(predictors.translator(), limits=limits) as client:
        connection = client.begin("/explain", {"text": "the cat"})
        wait_until(lambda: client.model.explanations.num_admitted == 1)
        refused = client.post("/explain", {"text": "the cat"})
        other = client.post("/v1/translate", {"text": "the cat"})
        goes_on.set()
        connection.close()
    assert refused.status == 429
    assert other.status == 200


def test_an_explanation_that_nobody_waits_for_is_left(monkeypatch):
    was_left, began = Event(), Event()

    def explain_for_ever(*_, on_progress, **__):
        began.set()
        try:
            while True:
                on_progress("Occlusion", 0, 1)
        finally:
            was_left.set()

    monkeypatch.setattr(running_model, "explain", explain_for_ever)
    monkeypatch.setattr(running_model, "_SECONDS_BETWEEN_LOOKS", 0.01)
    with running(predictors.translator()) as client:
        connection = client.begin("/explain", {"text": "the cat"})
        began.wait()
        connection.close()
        assert was_left.wait(30)
        wait_until(lambda: client.model.explanations.num_admitted == 0)


def test_a_copy_has_the_weights_and_layers_of_its_own():
    translator = predictors.translator()
    own = with_shared_weights(translator)
    pairs = zip(translator.model.parameters(), own.model.parameters(), strict=True)
    assert all(one is other for one, other in pairs)
    assert not set(translator.model.modules()) & set(own.model.modules())


@pytest.mark.slow
def test_the_page_asks_the_service_and_draws_the_explanation(translating, window):
    page = window.page
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"http://127.0.0.1:{translating.port}/")
    page.locator("textarea").first.fill("the cat sat")
    page.locator("textarea").first.press("Enter")
    page.wait_for_selector("#why", timeout=60_000)
    assert "architecture" in page.content()
    assert problems == []


def test_the_page_may_not_be_framed_or_kept(translating):
    page = translating.get("/")
    assert page.status == 200
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"
    assert b"Content-Security-Policy" in page.body
