"""Runs the service of a model until it is stopped, by uvicorn."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from regard.errors import ConfigError

_SECONDS_TO_FINISH = 30
"""For requests that are being answered when the service is stopped."""
_SECONDS_TO_READ = 1
"""For clients to take the last answers, where they are not waited for."""
_SECONDS_BETWEEN_LOOKS = 0.1
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Stops quietly: uvicorn's own raises the signal again once requests are finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals stop the server; a second one does not wait for requests."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; the service hears of it also where requests are not waited for."""
        stopping = asyncio.create_task(super().shutdown(sockets))
        while not (stopping.done() or self.force_exit):
            await asyncio.wait([stopping], timeout=_SECONDS_BETWEEN_LOOKS)
        if self.force_exit:
            # Before the service ends: one whose turn came after would find it closed, and fail.
            await self._end_requests()
            await asyncio.wait([stopping], timeout=_SECONDS_TO_READ)
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        await stopping
        if self.force_exit:
            await self.lifespan.shutdown()

    async def _end_requests(self) -> None:
        """Cancel the requests that are left, which answers them."""
        requests = list(self.server_state.tasks)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


def run_service(
    service: Starlette, *, host: str, port: int, on_start: Callable[[str], None]
) -> bool:
    """Answer requests until SIGINT or SIGTERM; those that have begun are finished.

    Args:
        service: From `build_service`.
        host: Address or name on which it listens.
        port: The port; 0 takes a free one.
        on_start: Hears of the URL, once requests can be sent.

    Returns:
        Whether all were finished: after a second SIGINT those that are left are answered with 503.

    Raises:
        ConfigError: The address cannot be taken.
    """
    with listen(host, port) as listening:
        number = listening.getsockname()[1]
        on_start(f"http://{f'[{host}]' if ':' in host else host}:{number}")
        config = uvicorn.Config(
            service,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
        server = _Server(config)
        server.run(sockets=[listening])
        return not server.force_exit


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: The address does not exist, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(
            f"`host={host}`: no address of this machine ({error.strerror})."
        ) from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"`port={port}`: another program listens there.  Take another one, or 0 for a free "
                "one."
            ) from None
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"{host}, port {port}: cannot be listened to ({reason}).") from None
    return listening
