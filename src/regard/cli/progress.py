"""The progress of a long computation on standard error, in place on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regard.data.progress import Stage
    from regard.explain.explanation import Progress

_SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_STAGES = 30.0
"""Seconds between two lines about work on data where they are not written in place."""


class ProgressLine:
    """A line that is updated in place on a terminal, and written again from time to time elsewhere.

    Args:
        seconds: Seconds between two updates on a terminal.
        seconds_elsewhere: Seconds between two lines elsewhere.
    """

    def __init__(self, seconds: float, seconds_elsewhere: float = _SECONDS_BETWEEN_LINES) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._pause = seconds if self._is_terminal else seconds_elsewhere
        self._shown_at = time.monotonic()
        self._has_text = False

    def is_due(self) -> bool:
        """Return whether the line is to be updated; if so, the next update is a pause later."""
        now = time.monotonic()
        if now - self._shown_at < self._pause:
            return False
        self._shown_at = now
        return True

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Show a text in place of the one before."""
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        print(f"{start}{text}", end="\n" if is_last else end, file=sys.stderr, flush=True)
        self._has_text = True

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._is_terminal and self._has_text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Provide a function that shows how far a computation is; what is quick shows nothing.

    Yields:
        The function, called with a name, what is computed so far, and the number of all.
    """
    line = ProgressLine(seconds=0.2)

    def show(name: str, done: int, total: int) -> None:
        if line.is_due():
            line.show(f"{name}: {done:,} of {total:,}")

    try:
        yield show
    finally:
        line.clear()


@contextmanager
def show_stages() -> Iterator[None]:
    """Show how far work on data within is; what is quick shows nothing."""
    from regard.data.progress import report_stages

    line = ProgressLine(seconds=0.2, seconds_elsewhere=SECONDS_BETWEEN_STAGES)

    def show(stage: Stage) -> None:
        if line.is_due():
            line.show(str(stage))

    try:
        with report_stages(show):
            yield
    finally:
        line.clear()
