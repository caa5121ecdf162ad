"""``regard serve`` as a user runs it: it starts, answers, and stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from tests.cli.commands import run
from tests.explain import predictors

from regard.cli import serve
from regard.errors import ConfigError
from regard.serving.service import AnsweredRequest


def start(folder, *options):
    """Start a service on a free port; return its process, and what it says first."""
    command = [sys.executable, "-m", "regard", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return process, json.loads(process.stdout.readline() or process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_stopped(trained, number):
    process, started = start(trained)
    try:
        connection = http.client.HTTPConnection(started["url"].removeprefix("http://"), timeout=60)
        body = json.dumps({"text": "3 old cat sees the dog"})
        connection.request("POST", "/v1/translate", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    answered, stopped = map(json.loads, output.splitlines())
    assert started["event"] == "serving"
    assert "/v1/translate" in started["paths"]
    assert answer["model"] == started["model"]
    assert (answered["event"], answered["path"]) == ("answered", "/v1/translate")
    assert stopped == {"event": "stopped"}
    assert (process.returncode, errors) == (0, "")


def test_a_port_that_is_taken_is_refused(trained, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, errors = run(capsys, "serve", trained, "--port", port)
    assert code == 2
    assert errors == (
        f"regard: --port {port}: another program listens there.  Take another one, or 0 for a free "
        "one.\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--port", 70_000), 2, "--port"),
        (("--max-requests", 0), 2, "--max-requests"),
        (("--lang", "deutsch"), 2, "two codes of languages"),
        (("--verb", "summarize"), 2, "does not summarize: it is a model for translation."),
        (("--example", "a", "--example", "b", "--example", "c", "--example", "d"), 2, "3 at most"),
        (("--host", "no.such.host.invalid"), 2, "no.such.host.invalid"),
        (("--prot", 80), 2, "--prot"),
        (("--cors", "example.org"), 2, "scheme and host are expected"),
        (("--cors", "https://example.org/"), 2, "scheme and host are expected"),
    ],
)
def test_wrong_options_are_refused_by_name(trained, capsys, options, code, message):
    outcome = run(capsys, "serve", trained, *options)
    assert outcome[0] == code
    assert message in outcome[2]


def test_without_the_extra_it_says_what_to_install(trained, capsys, monkeypatch):
    monkeypatch.setattr(serve, "_NEEDED", ("starlette", "no_such_server"))
    code, _, errors = run(capsys, "serve", trained)
    assert code == 2
    assert "no_such_server" in errors
    assert "pip install 'regard[serve]'" in errors


def test_a_folder_that_is_no_model_is_refused(tmp_path, capsys):
    code, _, errors = run(capsys, "serve", tmp_path)
    assert code == 4
    assert str(tmp_path) in errors


@pytest.mark.parametrize(
    ("predictor", "lang", "examples", "message"),
    [
        (predictors.text_classifier, "en-de", (), "has no languages"),
        (predictors.translator, "en-de,fr", (), "has no tag for de, fr"),
        (predictors.image_classifier, None, ("a",), "has no output for a text to explain"),
    ],
)
def test_options_without_a_use_for_the_model_are_refused(predictor, lang, examples, message):
    with pytest.raises(ConfigError, match=message):
        serve._check_use(predictor(), lang, examples)


def test_help_describes_every_option(capsys):
    code, output, _ = run(capsys, "serve", "--help")
    assert code == 0
    assert "page proposes" in " ".join(output.replace("│", " ").split())


def test_a_log_that_cannot_be_written_fails_no_request(monkeypatch):
    def fail(_):
        raise BrokenPipeError

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, SimpleNamespace(write=fail, flush=lambda: fail("")))
    answer = AnsweredRequest("POST", "/v1/translate", 200, 0.1)
    serve._print_answer(answer)
    serve._print_as_json(answer)
    assert answer.status == 200


@pytest.mark.slow
def test_a_second_interrupt_waits_for_no_request(trained):
    process, started = start(trained)
    port = int(started["url"].rpartition(":")[2])
    body = json.dumps({"text": ["a cat sees the dog"] * 1000, "beam": 16}).encode()
    request = (
        b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    try:
        with contextlib.ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                for _ in range(30)  # half a minute of work
            ]
            for connection in connections:
                connection.sendall(request)
            time.sleep(0.5)  # the first ones have begun
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            answers = [connection.recv(12) for connection in connections]
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert answers.count(b"HTTP/1.1 503") > len(answers) // 2  # a slow machine has answered some
    assert output.splitlines()[-1] == '{"event":"stopped"}'
    assert (process.returncode, errors) == (130, "")
