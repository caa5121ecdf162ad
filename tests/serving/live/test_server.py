"""The page of a run over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import contextmanager

import pytest
from tests.serving.live.run_events import DATA, RUN, evaluated, progress
from tests.serving.live.test_feed import parse

from regard.serving.live.server import serve_run


@contextmanager
def asked(page, path: str, **headers: str):
    """Provide the response to a request."""
    port = int(page.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def page():
    with serve_run(RUN, 0, [evaluated(50)]) as page:
        page.add(DATA)
        page.add(progress(60))
        yield page


def test_the_state_has_everything_so_far_and_earlier_sessions(page):
    with asked(page, "/state") as response:
        state = json.loads(response.read())
    assert response.status == 200
    assert state["run"]["name"] == "ende"
    assert [point["step"] for point in state["evaluated"]] == [50]
    assert [point["step"] for point in state["progress"]] == [60]
    assert state["progress"][0]["memory_bytes"] > 1_000_000
    assert state["latest"]["data"] == DATA


def test_the_page_is_utf8_and_asks_its_own_service_alone(page):
    with asked(page, "/") as response:
        text = response.read().decode()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in text
    assert "connect-src 'self'" in text
    assert '<meta charset="utf-8">' in text


@pytest.mark.parametrize("path", ["/", "/state", "/events"])
def test_a_name_of_a_web_page_is_refused(page, path):
    with asked(page, path, Host="evil.example:8642") as response:
        assert response.status == 400
        assert b"ende" not in response.read()
    with asked(page, "/state", Host="localhost:8642") as response:
        assert response.status == 200


def test_no_other_web_page_may_read_it(page):
    with asked(page, "/state", Origin="https://evil.example") as response:
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.slow
def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with serve_run(RUN, port) as page, asked(page, "/state") as response:
            assert response.status == 200
            assert not page.is_on_wanted_port
            assert not page.url.endswith(f":{port}")


@pytest.mark.slow
def test_who_reads_hears_of_the_end_and_is_let_go():
    with serve_run(RUN, 0) as page:
        connection = http.client.HTTPConnection(page.url.removeprefix("http://"), timeout=20)
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        first = parse(response.readline() + response.readline() + response.readline())
        page.add({"event": "ended", "has_failed": False, "text": ""})
    rest = response.read()
    connection.close()
    assert first[0] == "state"
    assert parse(rest)[1] == {"event": "ended", "has_failed": False, "text": ""}


@pytest.mark.slow
def test_readers_that_stall_delay_neither_the_run_nor_its_end():
    with serve_run(RUN, 0) as page:
        port = int(page.url.rpartition(":")[2])
        stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for connection in stalled:
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for step in range(1, 6_000):
            page.add(progress(step))
        with asked(page, "/state") as response:
            assert json.loads(response.read())["latest"]["progress"]["step"] == 5_999
        start = time.monotonic()
    assert time.monotonic() - start < 10  # it waits a second; the machine may be busy
    for connection in stalled:
        connection.close()


@pytest.mark.slow
def test_a_failure_of_the_page_is_none_of_the_run():
    with serve_run(RUN, 0) as page:
        page.add({"no": "event"})
        page.add({"event": "progress"})
        page.add({"event": "warned", "text": "\ud800"})
        page.add(progress(1))
        with asked(page, "/state") as response:
            state = json.loads(response.read())
    assert [point["step"] for point in state["progress"]] == [1]
