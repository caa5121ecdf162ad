"""The feed of a run: events come in from the thread that trains, and go out to many readers.

A reader has a number, that of the last event it was sent. What it lacks is sent from one short list
that all readers share; one that is slow, or new, is sent the whole state instead. So nothing waits
for a reader, and nothing is kept for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any

import msgspec

from regard.serving.live.history import Fields, RunHistory
from regard.serving.responses import event

_MOST_RECENT = 256  # events that are sent one by one
_BEAT_SECONDS = 2.0
_UNUSED = ("stability",)  # large, and drawn elsewhere
_BEAT = event({}, "beat")
"""Sent where there is nothing else, so that a reader notices when nobody sends any more."""


class EventFeed:
    """The events of a run for its readers.

    Args:
        run: What every state says of the run.
    """

    def __init__(self, run: Fields) -> None:
        self._run = run
        self._history = RunHistory()
        self._lock = Lock()
        self._recent: deque[bytes] = deque(maxlen=_MOST_RECENT)
        self._version = 0
        self._added_at = monotonic()
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def add(self, fields: Fields) -> None:
        """Add an event, from any thread."""
        fields = {name: fields[name] for name in fields if name not in _UNUSED}
        message = event(fields, fields["event"])
        with self._lock:
            if self._history.add(fields):
                self._recent.clear()
            else:
                self._recent.append(message)
            self._version += 1
            self._added_at = monotonic()
        self._wake_readers()

    def close(self) -> None:
        """Let readers go once they have everything, from any thread."""
        self._is_closed = True
        self._wake_readers()

    def open(self) -> None:
        """Let readers read, in the loop that calls."""
        self._loop = asyncio.get_running_loop()

    def state(self) -> bytes:
        """Return everything so far, as JSON."""
        return msgspec.json.encode(self._state()[1])

    async def read(self) -> AsyncIterator[bytes]:
        """Yield server-sent events for one reader: the state, then each event, until the end."""
        version = -1
        while True:
            version, messages = self._after(version)
            for message in messages:
                yield message
            news = self._news
            if self._version != version:  # since then
                continue
            if self._is_closed:
                return
            try:
                await asyncio.wait_for(news.wait(), _BEAT_SECONDS)
            except TimeoutError:
                yield _BEAT

    def _after(self, version: int) -> tuple[int, list[bytes]]:
        """Return the present version, and what a reader of another one lacks."""
        with self._lock:
            num_missing = self._version - version
            if version >= 0 and num_missing <= len(self._recent):
                recent = [*self._recent]
                return self._version, recent[len(recent) - num_missing :]
        version, state = self._state()
        return version, [event(state, "state")]

    def _state(self) -> tuple[int, dict[str, Any]]:
        """Return the present version, and everything so far."""
        with self._lock:
            state = self._history.state()
            version, seconds = self._version, monotonic() - self._added_at
        return version, {"run": self._run, "seconds_since_event": seconds, **state}

    def _wake_readers(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
