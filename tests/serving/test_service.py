"""What a service refuses, counts and says of itself."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep
from typing import Any

import msgspec
import pytest
from tests.explain import predictors
from tests.serving.running_service import running, wait_until

from regard.serving import running_model
from regard.serving.finite_numbers import require_finite
from regard.serving.limits import ServiceLimits
from regard.serving.problems import Problem
from regard.serving.service import build_service
from regard.serving.verbs.continuations import GenerateBody, GenerateService
from regard.tasks.classification.predictor import Classification


def test_an_unknown_field_is_refused_with_the_one_that_was_meant(translating):
    answer = translating.post("/v1/translate", {"text": "a", "nbset": 2})
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": answer.json["title"],
        "status": 422,
        "detail": "unknown field nbset.",
        "hint": "Did you mean nbest?  Fields: text, beam, nbest, length_penalty, min_length, "
        "max_length, align, lang.",
    }


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"text": 1}, 422, "text: a text or a list was expected, not a whole number."),
        ({}, 422, "missing required field `text`"),
        ([], 422, "the body: an object was expected, not a list."),
        ({"text": "a", "beam": 0}, 422, "`beam` must be 1 or more"),
        ({"text": "a", "nbest": 9}, 422, "`nbest` must be 1 to `beam`"),
        ({"text": ["a", None]}, 422, "text[1]: a text was expected, not null."),
        (
            {"text": "a", "length_penalty": "high"},
            422,
            "length_penalty: a number or null was expec",
        ),
        (b"", 400, "an empty body"),
        (b"\xff", 400, "not JSON"),
        (b'{"text": ' + b"[" * 100_000, 422, "text[0]: a text was expected, not a list."),
    ],
)
def test_a_body_that_does_not_fit_says_where(translating, body, status, detail):
    answer = translating.post("/v1/translate", body)
    assert answer.status == status
    assert detail in answer.json["detail"]


def test_json_that_breaks_off_says_in_which_line(translating):
    answer = translating.post("/v1/translate", b'{\n"text": "a",\n"beam": }')
    assert (answer.status, answer.json["line"]) == (400, 3)


def test_half_of_a_character_is_refused_or_written_never_a_failure(translating):
    answer = translating.post("/v1/translate", b'{"text": "a \\ud800 b"}')
    assert answer.status in (200, 400)


def test_a_body_that_is_not_json_says_what_curl_needs(translating):
    answer = translating.post("/v1/translate", b"{}", **{"Content-Type": "text/plain"})
    assert answer.status == 415
    assert "--json" in answer.json["hint"]


def test_other_paths_and_methods_name_the_right_one(translating):
    missing, wrong = translating.get("/v1/summarize"), translating.get("/v1/translate")
    assert (missing.status, wrong.status) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    assert "POST /v1/translate" in missing.json["hint"]


def test_texts_over_the_limit_are_refused_by_the_limit():
    limits = ServiceLimits(max_characters=10, max_explained=4)
    with running(predictors.translator(), limits=limits) as client:
        at_limit = client.post("/v1/translate", {"text": ["a" * 5, "b" * 5]})
        above = client.post("/v1/translate", {"text": ["a" * 5, "b" * 6]})
        explained = client.post("/v1/explain", {"text": "a" * 5})
        huge = client.post("/v1/translate", {"text": "a" * 200_000})
    assert at_limit.status == 200
    assert (above.status, explained.status, huge.status) == (413, 413, 413)
    assert above.json["detail"] == "11 characters; the limit of a request is 10."
    assert explained.json["detail"] == "5 characters; the limit of a request is 4."
    assert "the limit of a body" in huge.json["detail"]


def test_outputs_over_the_limits_are_refused_by_the_limits(generating):
    limits = ServiceLimits(max_tokens=10, max_hypotheses=3)
    with running(predictors.translator(), limits=limits) as client:
        beam = client.post("/v1/translate", {"text": "the cat", "beam": 4})
        long = client.post("/v1/translate", {"text": "the cat", "max_length": 11})
        within = client.post("/v1/translate", {"text": "the cat", "beam": 3, "max_length": 10})
    endless = generating.post("/v1/generate", {"text": "the", "max_tokens": 10**9, "stream": True})
    many = generating.post("/v1/generate", {"text": "the", "num": 17})
    assert beam.json["detail"] == "4 hypotheses or continuations of a text; the limit is 3."
    assert long.json["detail"] == "11 tokens of an output; the limit is 10."
    assert [answer.status for answer in (beam, long, within, endless, many)] == [
        *(422, 422, 200, 422, 422)
    ]


def test_more_requests_than_it_takes_are_told_to_come_again(monkeypatch):
    limits = ServiceLimits(max_requests=2)
    with running(predictors.translator(), limits=limits) as client:
        service, goes_on = client.model.verb_service, Event()
        compute = service.outputs

        def wait(*arguments):
            goes_on.wait()
            return compute(*arguments)

        monkeypatch.setattr(service, "outputs", wait)
        waiting = [client.begin("/v1/translate", {"text": "the cat"}) for _ in range(2)]
        wait_until(lambda: client.model.outputs.num_admitted == 2)
        refused, busy = client.post("/v1/translate", {"text": "a"}), client.get("/readyz")
        alive = client.get("/healthz")
        goes_on.set()
        answered = [connection.recv(12) for connection in waiting]
        wait_until(lambda: client.model.outputs.num_admitted == 0)
        ready = client.get("/readyz")
    for connection in waiting:
        connection.close()
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert (busy.status, alive.status, ready.status) == (503, 200, 200)
    assert answered == [b"HTTP/1.1 200"] * 2


def test_a_failure_that_nobody_expected_says_nothing_of_the_inside(monkeypatch):
    with running(predictors.translator()) as client:

        def fail(*_):
            raise ValueError("secret")

        monkeypatch.setattr(client.model.verb_service, "outputs", fail)
        failed = client.post("/v1/translate", {"text": "a"})
        monkeypatch.undo()
        mended = client.post("/v1/translate", {"text": "a"})
    assert (failed.status, mended.status) == (500, 200)
    assert b"secret" not in failed.body


def test_figures_count_requests_by_path_and_status():
    with running(predictors.translator()) as client:
        client.post("/v1/translate", {"text": ["the cat", "sat"]})
        client.post("/v1/translate", {"texts": "a"})
        client.get("/nowhere/at/all")
        lines = client.get("/metrics").body.decode().splitlines()
    assert 'regard_requests_total{path="/v1/translate",status="200"} 1.0' in lines
    assert 'regard_requests_total{path="/v1/translate",status="422"} 1.0' in lines
    assert 'regard_requests_total{path="other",status="404"} 1.0' in lines
    assert "regard_inputs_total 2.0" in lines
    assert "regard_input_characters_total 10.0" in lines
    assert 'regard_model_info{model="toy@3f2a",task=""} 1.0' in lines


def test_the_model_is_described(translating):
    model = translating.get("/v1/model").json
    assert (model["id"], model["verb"]) == ("toy@3f2a", "translate")
    assert (model["source_language"], model["target_languages"]) == ("en", ["de"])
    assert model["limits"]["max_characters"] == 20_000
    assert "align" in model["fields"]


def test_names_of_other_hosts_are_refused_where_names_are_set():
    with running(predictors.translator(), hosts=["localhost", "::1"]) as client:
        own = client.get("/healthz", Host="LOCALHOST:8000")
        by_address = client.get("/healthz", Host="[::1]:8000")
        other = client.get("/healthz", Host="rebound.example.org")
    assert (own.status, by_address.status, other.status) == (200, 200, 421)
    assert other.json["hint"].startswith("Its names: ::1, localhost.  A proxy in front of it sends")


def test_pages_of_others_may_use_it_only_where_they_are_named():
    origin = "https://example.org"
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with running(predictors.translator(), origins=[origin]) as client:
        allowed = client.ask("OPTIONS", "/v1/translate", headers=headers)
        other = client.ask(
            "OPTIONS", "/v1/translate", headers={**headers, "Origin": "https://other.org"}
        )
    with running(predictors.translator()) as client:
        closed = client.ask("OPTIONS", "/v1/translate", headers=headers)
    name = "access-control-allow-origin"
    assert allowed.headers[name] == origin
    assert name not in other.headers
    assert name not in closed.headers


def test_a_client_that_leaves_a_stream_frees_its_place(generating):
    body = {"text": "the", "max_tokens": 60, "seed": 1, "stream": True}
    connection = generating.begin("/v1/generate", body)
    connection.recv(12)
    connection.close()
    wait_until(lambda: generating.model.outputs.num_admitted == 0)
    assert generating.post("/v1/generate", {"text": "the", "max_tokens": 2}).status == 200


def test_what_nobody_waits_for_any_more_is_not_computed(monkeypatch):
    heard: list[Any] = []

    def compute_for_ever(_, check_client):
        while True:
            check_client()
            sleep(0.001)

    with running(predictors.text_generator(), on_answer=heard.append) as client:
        monkeypatch.setattr(client.model.verb_service, "outputs", compute_for_ever)
        connection = client.begin("/v1/generate", {"text": "the"})
        wait_until(lambda: client.model.is_computing)
        connection.close()
        wait_until(lambda: heard)
        assert not client.model.is_computing
    assert heard[0].status == 499


def test_before_each_token_a_continuation_asks_whether_somebody_waits():
    service, num_asked = GenerateService(predictors.text_generator()), 0

    def leave_after_three_tokens():
        nonlocal num_asked
        num_asked += 1
        if num_asked == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        service.outputs(GenerateBody(text="the", num=3), leave_after_three_tokens)
    assert num_asked == 3
    body = GenerateBody(text="the", max_tokens=2)
    assert len(service.outputs(body, lambda: None)) == 1
    service.close()


@pytest.mark.parametrize("path", ["/v1/translate", "/translate"])
def test_decoding_ends_where_nobody_waits_for_it(monkeypatch, path):
    heard, decoded = [], []

    class EndlessDecoding:
        is_alive, close = True, staticmethod(lambda: None)

        def decode(self, sources, search, check_caller):
            decoded.append(len(sources))
            while True:
                check_caller()
                sleep(0.001)

    monkeypatch.setattr(running_model, "_SECONDS_BETWEEN_LOOKS", 0.01)
    with running(predictors.translator(), on_answer=heard.append, languages="en-de") as client:
        writer = client.model.predictor
        writer.shared_decoding, worker = EndlessDecoding(), writer.shared_decoding
        worker.close()
        body = {"q": "the", "source": "en", "target": "de"} if path[1] == "t" else {"text": "the"}
        connection = client.begin(path, body)
        wait_until(lambda: decoded)
        connection.close()
        wait_until(lambda: heard)
        assert not client.model.is_computing
    assert heard[0].status == 499


def test_each_answered_request_is_heard_of_without_its_text():
    heard = []
    with running(predictors.translator(), on_answer=heard.append) as client:
        client.post("/v1/translate?q=private", {"text": "private"})
    (answer,) = heard
    assert answer[:3] == ("POST", "/v1/translate", 200)
    assert "private" not in json.dumps(answer)


def test_limits_below_one_are_refused():
    with pytest.raises(ValueError, match="max_requests"):
        ServiceLimits(max_requests=0)


def test_an_empty_text_counts_as_a_character():
    with running(predictors.translator(), limits=ServiceLimits(max_characters=3)) as client:
        at_limit = client.post("/v1/translate", {"text": [""] * 3})
        above = client.post("/v1/translate", {"text": [""] * 4})
    assert (at_limit.status, above.status) == (200, 413)


def test_one_text_for_several_questions_counts_for_each():
    limits = ServiceLimits(max_characters=30)
    body = {"question": ["a", "b", "c"], "context": "0123456789"}
    with running(predictors.question_answerer(), limits=limits) as client:
        answer = client.post("/v1/answer", body)
    assert answer.json["detail"] == "33 characters; the limit of a request is 30."


def test_a_client_that_leaves_while_it_sends_is_no_failure():
    heard = []
    with running(predictors.translator(), on_answer=heard.append) as client:
        connection = socket.create_connection(("127.0.0.1", client.port), timeout=60)
        connection.sendall(
            b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
            b'Content-Type: application/json\r\n\r\n{"text":'
        )
        connection.close()
        wait_until(lambda: heard)
    assert heard[0].status == 499


def test_a_request_that_is_no_longer_waited_for_hears_that_the_service_stops():
    service, may_end = build_service(predictors.translator()), Event()
    model, sent = service.state.model, []
    model.verb_service.outputs = lambda *_: may_end.wait() and []
    body = {"type": "http.request", "body": b'{"text": "a"}', "more_body": False}

    async def receive():
        return body

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/translate",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def stop():
        task = asyncio.create_task(service(scope, receive, send))
        while not model.is_computing:
            await asyncio.sleep(0.001)
        task.cancel()
        await task
        still = model.is_computing
        may_end.set()
        return still

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests has a loop in this thread
        assert pool.submit(lambda: asyncio.run(stop())).result()
    assert sent[0]["status"] == 503
    assert b"being stopped" in sent[1]["body"]
    wait_until(lambda: not model.is_computing)
    model.close()


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/generate", {"text": "a", "stream": True}, b"event: error\n"),
        (
            "/v1/completions",
            {"model": "model", "prompt": "a", "stream": True},
            b'data: {"error":{"message":"the',
        ),
    ],
)
def test_a_stream_that_is_no_longer_waited_for_ends_with_an_error(path, body, last):
    service, may_end, sent = build_service(predictors.text_generator()), Event(), []
    model = service.state.model

    def pieces(_):
        while True:
            yield "b"
            may_end.wait()

    model.verb_service.pieces = pieces
    requests = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        return requests.pop() if requests else await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    async def stop():
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        task = asyncio.create_task(service(scope | {"query_string": b""}, receive, send))
        while not task.done() and (len(sent) < 2 or not model.is_computing):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
        may_end.set()  # the thread of a piece is waited for
        await task

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests has a loop in this thread
        pool.submit(lambda: asyncio.run(stop())).result()
    model.close()
    assert b'"b"' in sent[1]["body"]
    assert sent[-1]["body"].startswith(last)
    assert b"being stopped" in sent[-1]["body"]
    assert not sent[-1]["more_body"]


def test_numbers_that_json_does_not_have_are_no_output():
    label = Classification(label="a", probability=1.0, probabilities={"a": 1.0})
    broken = msgspec.structs.replace(label, probabilities={"a": 1.0, "b": math.nan})
    require_finite([label, label])
    with pytest.raises(Problem, match="input 2: the model computes no finite numbers"):
        require_finite([label, broken])


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b'\xef\xbb\xbf{"text": "the cat"}', {}, 200, ""),
        (b'{"text": "caf\xe9"}', {}, 400, "the body is not in UTF-8, as JSON is."),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "Content-Encoding: gzip is not read."),
        (b'{"text": "the cat"}', {"Content-Encoding": "identity"}, 200, ""),
    ],
)
def test_bytes_of_others_are_read_or_refused_by_name(translating, body, headers, status, detail):
    answer = translating.post("/v1/translate", body, **headers)
    assert answer.status == status
    assert answer.json.get("detail", "") == detail
