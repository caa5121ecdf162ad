"""A lock that threads get in the order in which they ask for it."""

from __future__ import annotations

from collections import deque
from threading import Lock


class FairLock:
    """A lock by which threads take turns; Python's own may be taken again by who released it."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._waiting: deque[Lock] = deque()  # the first one's thread has the lock

    def __enter__(self) -> None:
        turn = Lock()
        turn.acquire()
        with self._guard:
            self._waiting.append(turn)
            if len(self._waiting) == 1:
                return
        turn.acquire()  # until the one before releases it

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].release()
