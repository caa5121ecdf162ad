"""A stand-in for the service of a model: it answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass
class Reply:
    """An answer; without a status the connection ends without one."""

    body: bytes = b""
    status: int | None = 200
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, detail: str, hint: str = "", **headers: str) -> Reply:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail, "hint": hint}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body).encode(), status, PROBLEM, named)


def said(*outputs: dict, ms: int = 41) -> Reply:
    """What a model says."""
    return Reply(json.dumps({"outputs": outputs, "model": "ende@3f2a", "ms": ms}).encode())


class StandInService:
    """Serves a page below any path, and answers posts by the end of their path.

    ``replies`` has a function of the request for each end of a path; ``asked`` has all requests.
    """

    def __init__(self):
        self.page = ""
        self.replies: dict[str, Callable[[dict], Reply]] = {}
        self.asked: list[tuple[str, dict]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(Reply(service.page.encode(), kind="text/html"))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.path, body))
                end = "explain" if self.path.endswith("/explain") else "v1"
                self.answer(service.replies[end](body))

            def answer(self, reply: Reply):
                if reply.status is None:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(reply.body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the question was cancelled

            def log_message(self, *_):
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
