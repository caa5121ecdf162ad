"""Answers of the service: JSON, problems, and pieces that are sent as they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from regard.errors import RegardError
from regard.serving.problems import Problem, problem_of, stopping_problem

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer of JSON."""
    return Response(
        msgspec.json.encode(value),
        status,
        {**_HEADERS, **(headers or {})},
        media_type="application/json",
    )


def problem_response(problem: Problem) -> Response:
    """Return an answer with an error, in the form of RFC 9457."""
    return Response(
        msgspec.json.encode(problem.details),
        problem.status,
        {**_HEADERS, **problem.headers},
        media_type="application/problem+json",
    )


def event(value: Any, name: str = "") -> bytes:
    """Return a server-sent event with JSON.

    >>> event({"text": "a"})
    b'data: {"text":"a"}\\n\\n'
    """
    prefix = f"event: {name}\n" if name else ""
    return prefix.encode() + b"data: " + msgspec.json.encode(value) + b"\n\n"


def error_event(problem: Problem) -> bytes:
    """Return the server-sent event with a problem."""
    return event(problem.details, "error")


class EventStream:
    """An answer of events, which holds its place among the requests until it ends.

    Args:
        events: The events.
        admission: Entered already; left at the end, also where nobody reads the events any more.
        error_event: Returns the event with a problem, the last one where the service is stopped.
    """

    def __init__(
        self,
        events: AsyncIterator[bytes],
        admission: AbstractContextManager[Any],
        error_event: Callable[[Problem], bytes],
    ) -> None:
        headers = {**_HEADERS, "X-Accel-Buffering": "no"}  # nginx would hold pieces back
        self._response = StreamingResponse(events, headers=headers, media_type="text/event-stream")
        self._admission, self._error_event = admission, error_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        with self._admission:
            try:
                await self._response(scope, receive, note)
            except asyncio.CancelledError:  # the server is stopped, and waits no longer
                if not has_begun:
                    raise
                last = self._error_event(stopping_problem())
                await send({"type": "http.response.body", "body": last, "more_body": False})


Handler = Callable[[Request], Awaitable[Response | EventStream]]
"""Answers the requests of a route."""


def with_errors(
    handler: Handler, describe: Callable[[Problem], object], *, bad_requests: Collection[int]
) -> Handler:
    """Return a handler whose errors have the form of another API.

    Args:
        handler: Answers requests.
        describe: Returns the body of an answer with a problem.
        bad_requests: Statuses for which this API has 400.
    """

    async def handle(request: Request) -> Response | EventStream:
        try:
            return await handler(request)
        except (Problem, RegardError) as error:
            problem = problem_of(error)
            status = 400 if problem.status in bad_requests else problem.status
            return json_response(describe(problem), status, problem.headers)

    return handle
