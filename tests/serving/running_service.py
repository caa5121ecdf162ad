"""A service that runs in a thread, and who asks it."""

from __future__ import annotations

import copy
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from time import sleep
from typing import Any, NamedTuple

import uvicorn

from regard.explain.explanation import ModelFacts
from regard.serving.service import build_service

FACTS = ModelFacts("toy", "3f2a")


class Answer(NamedTuple):
    """What the service said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        return self.json["outputs"]


class Client:
    """Who asks a service.

    Args:
        port: Where it listens.
        model: What it runs.
        twin: The same model, which no service has.
    """

    def __init__(self, port: int, model: Any, twin: Any) -> None:
        self.port, self.model, self.twin = port, model, twin

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, value: Any, **headers: str) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})

    def begin(self, path: str, value: Any) -> socket.socket:
        """Send a request, and return its connection before there is an answer."""
        body = json.dumps(value).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection


@contextmanager
def running(predictor: Any, **options: Any) -> Iterator[Client]:
    """Run the service of a model."""
    twin = copy.deepcopy(predictor)
    service = build_service(predictor, facts=FACTS, **options)
    config = uvicorn.Config(service, port=0, log_level="critical", lifespan="on", ws="none")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            sleep(0.005)
        try:
            yield Client(listening.getsockname()[1], service.state.model, twin)
        finally:
            server.should_exit = True
            thread.join()


def wait_until(condition: Any) -> None:
    """Wait until something is so; a test that waits for ever is stopped by its time limit."""
    while not condition():
        sleep(0.005)
