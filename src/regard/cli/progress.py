"""The progress of a long computation on standard error, in place on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from regard.explain.explanation import Progress

_SECONDS_BETWEEN_UPDATES = 0.2  # on a terminal
_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Provide a function that shows how far a computation is; what is quick shows nothing.

    Yields:
        The function, called with a name, what is computed so far, and the number of all.
    """
    line = _ProgressLine()
    try:
        yield line.show
    finally:
        line.clear()


class _ProgressLine:
    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._pause = _SECONDS_BETWEEN_UPDATES if self._is_terminal else _SECONDS_BETWEEN_LINES
        self._shown_at = time.monotonic()
        self._has_text = False

    def show(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown_at < self._pause:
            return
        self._shown_at = now
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        print(f"{start}{name}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
        self._has_text = True

    def clear(self) -> None:
        if self._is_terminal and self._has_text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
