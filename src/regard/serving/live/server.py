"""Serves the page of a run from a thread of its own, to this machine alone."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from regard.errors import ConfigError
from regard.serving.live.feed import EventFeed
from regard.serving.live.history import Fields
from regard.serving.live.memory import memory_bytes
from regard.serving.live.page import live_page
from regard.serving.server import listen
from regard.version import installed_version

_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost")
"""Names by which it is asked. No web page can reach it by a name of its own (DNS rebinding)."""
_MOST_CONNECTIONS = 256  # more are answered with status 503
_SECONDS_TO_CLOSE = 1.0  # for readers to hear of the end
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LivePage:
    """The page of a run that is being served.

    Args:
        feed: What its readers read.
        url: Its address.
        is_on_wanted_port: Whether it listens where it was to.
    """

    def __init__(self, feed: EventFeed, url: str, *, is_on_wanted_port: bool) -> None:
        self._feed, self.url, self.is_on_wanted_port = feed, url, is_on_wanted_port

    def add(self, fields: Fields) -> None:
        """Show an event of the run; nothing that goes wrong here comes back to the run."""
        with suppress(Exception):  # a page must not end a run
            if fields["event"] == "progress":
                fields = {**fields, "memory_bytes": memory_bytes()}
            self._feed.add(fields)


@contextmanager
def serve_run(run: Fields, port: int, earlier: Iterable[Fields] = ()) -> Iterator[LivePage]:
    """Serve the page of a run inside ``with``; who reads it at the end hears of the end.

    Args:
        run: What the page says of the run: its ``name``, ``folder`` and the command to ``resume``
            it.
        port: Where it listens; 0, or a port that is taken, is a free one.
        earlier: Events of earlier sessions of the run.

    Yields:
        The page.

    Raises:
        ConfigError: The machine has no port left.
    """
    feed = EventFeed({**run, "id": secrets.token_hex(8), "version": installed_version()})
    try:
        listening = listen(_HOST, port)
    except ConfigError:
        listening = listen(_HOST, 0)
    with listening:
        number = listening.getsockname()[1]
        config = uvicorn.Config(
            build_live_service(feed),
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)

        def serve() -> None:
            with suppress(Exception):  # a page must not end a run
                server.run(sockets=[listening])

        thread = threading.Thread(target=serve, name="live page", daemon=True)
        thread.start()
        url = f"http://{_HOST}:{number}"
        page = LivePage(feed, url, is_on_wanted_port=port in (0, number))
        for fields in earlier:
            page.add(fields)
        try:
            yield page
        finally:
            feed.close()
            server.should_exit = True
            thread.join(_SECONDS_TO_CLOSE)


def build_live_service(feed: EventFeed) -> Starlette:
    """Return the application that serves a feed: a page, its state, and its events."""
    page = live_page(installed_version())

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def state(_: Request) -> Response:
        return Response(feed.state(), headers=_HEADERS, media_type="application/json")

    async def events(_: Request) -> Response:
        headers = {**_HEADERS, "X-Accel-Buffering": "no"}  # nginx would hold events back
        return StreamingResponse(feed.read(), headers=headers, media_type="text/event-stream")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        feed.open()
        yield

    return Starlette(
        routes=[Route("/", show), Route("/state", state), Route("/events", events)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*_NAMES])],
        lifespan=lifespan,
    )
