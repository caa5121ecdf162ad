"""The service of a model as an application for any ASGI server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.errors import RegardError
from regard.explain.explanation import ModelFacts
from regard.serving.endpoints import (
    explanations,
    libretranslate,
    masked_tokens,
    openai,
    operations,
    outputs,
)
from regard.serving.limits import ServiceLimits
from regard.serving.problems import CLIENT_LEFT, Problem, problem_of, stopping_problem
from regard.serving.responses import problem_response
from regard.serving.running_model import RunningModel
from regard.tasks import Predictor

_OTHER_PATH = "other"
_SECONDS_TO_CLOSE = 1.0
"""For threads of the model, once all requests are answered, or the server waits no longer."""


class AnsweredRequest(NamedTuple):
    """A request that was answered.

    Args:
        method: Its method, such as ``POST``.
        path: Its path, without what follows a question mark.
        status: The status of its answer.
        seconds: From the request to the end of the answer.
    """

    method: str
    path: str
    status: int
    seconds: float


def build_service(
    predictor: Predictor,
    *,
    facts: ModelFacts = ModelFacts("model"),  # noqa: B008 - an immutable value
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008 - an immutable value
    languages: str = "",
    examples: Sequence[str] = (),
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    on_answer: Callable[[AnsweredRequest], None] | None = None,
) -> Starlette:
    """Return the service of a model.

    Args:
        predictor: From `regard.load`. Its weights must not change while it is served.
        facts: Its name, and the hash of its weights.
        limits: How much it takes.
        languages: Codes such as ``en-de`` of a translator; empty takes those of its training.
        examples: Texts that the page proposes, three at most.
        hosts: Names by which the service may be addressed; none allows all. A service for one's own
            machine names it here, so that no web page can reach it by a name of its own.
        origins: Web pages of others that may use the service, such as ``https://example.org``.
        on_answer: Hears of each request.

    Returns:
        The application. Its lifespan ends the threads of the model.
    """
    model = RunningModel(predictor, facts, limits, languages=languages, examples=examples)
    groups = (outputs, masked_tokens, explanations, operations, libretranslate, openai)
    routes = [route for group in groups for route in group.routes(model)]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        with anyio.move_on_after(_SECONDS_TO_CLOSE):
            await anyio.to_thread.run_sync(model.close, abandon_on_cancel=True)

    watch = Middleware(
        _Watch,
        model=model,
        paths=frozenset(route.path for route in routes),
        hosts=frozenset(hosts),
        on_answer=on_answer,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
    )
    service = Starlette(
        routes=routes,
        middleware=[watch, cors] if origins else [watch],
        exception_handlers={
            Problem: _answer_problem,
            RegardError: _answer_problem,
            HTTPException: _answer_http_error,
            Exception: _answer_problem,  # and the server logs it
        },
        lifespan=lifespan,
    )
    service.state.model = model
    return service


async def _answer_problem(_: Request, error: Exception) -> Response:
    return problem_response(problem_of(error))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    model: RunningModel = request.app.state.model
    path, own = request.url.path, f"/v1/{model.predictor.verb}"
    details = {
        404: f"{path}: there is no such path.",
        405: f"{path}: not with the method {request.method}.",
    }
    hint = f"This model answers POST {own}; GET /v1/model describes it."
    problem = Problem(error.status_code, details.get(error.status_code, error.detail), hint=hint)
    problem.headers.update(error.headers or {})
    return problem_response(problem)


class _Watch:
    """Counts requests, and refuses those for hosts of other names."""

    def __init__(
        self,
        app: ASGIApp,
        model: RunningModel,
        paths: frozenset[str],
        hosts: frozenset[str],
        on_answer: Callable[[AnsweredRequest], None] | None,
    ) -> None:
        self._app, self._model, self._paths = app, model, paths
        self._hosts, self._on_answer = hosts, on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            host = _host_of(scope)
            if self._hosts and host not in self._hosts:
                problem = Problem(
                    421,
                    f"{host or 'no host'}: not a name of this service.",
                    hint=f"Its names: {', '.join(sorted(self._hosts))}.  A proxy in front of it "
                    "sends one of them as the header Host.",
                )
                await problem_response(problem)(scope, receive, note)
            else:
                await self._app(scope, receive, note)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except asyncio.CancelledError:  # the server is stopped, and waits no longer
            if not status:
                await problem_response(stopping_problem())(scope, receive, note)
        finally:
            status, seconds = status or 500, time.monotonic() - start
            path = scope["path"]
            label = path if path in self._paths else _OTHER_PATH
            self._model.monitoring.count_request(label, status, seconds)
            if self._on_answer is not None:
                self._on_answer(AnsweredRequest(scope["method"], path, status, seconds))


def _host_of(scope: Scope) -> str:
    """Return the name in the header Host, without the port, in lower case.

    >>> _host_of({"headers": [(b"host", b"[::1]:8000")]}), _host_of({"headers": []})
    ('::1', '')
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode(
        "latin-1"
    )
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
