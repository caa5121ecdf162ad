"""How far long work on data is: reading, cleaning, splitting, encoding, evaluating.

A loop that may take minutes is written over `tracked`, and a stage without a loop of ours begins
with `begin_stage`. Who shows it is decided by whoever calls, with `report_stages`. The listener is
a context variable: every reader would have to pass it on otherwise, and it changes no result.

Cost: nothing where nobody listens, else about 0.1 microseconds an item.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_QUIET_SECONDS = 2.0  # of a stage, about which nothing is said
_SECONDS_BETWEEN = 1.0  # two reports
_ITEMS_BETWEEN = 256  # two looks at the clock, where there are many items
_MANY_ITEMS = 10_000
_MEGABYTE = 1_000_000


class Stage(NamedTuple):
    """A stage of the work, and how far it is.

    Args:
        name: What is done, such as ``reading pairs.tsv``.
        done: So far.
        total: Of all; 0 where it is not known.
        unit: What is counted.
    """

    name: str
    done: int = 0
    total: int = 0
    unit: str = "rows"

    def __str__(self) -> str:
        """Return it for people.

        >>> print(Stage("splitting the rows", 1_000, 20_000))
        splitting the rows: 1,000 of 20,000 rows
        """
        if not self.total:
            return self.name
        return f"{self.name}: {self.done:,} of {self.total:,} {self.unit}"


class _Listener:
    """Hands on the stages that take long, at most once a second."""

    def __init__(self, report: Callable[[Stage], None]) -> None:
        self._report = report
        self._start = self._reported_at = time.monotonic()

    def begin(self, name: str) -> None:
        """Report a stage that cannot be counted, unless the work has just begun."""
        now = time.monotonic()
        if now - self._start >= _QUIET_SECONDS:
            self._hand_on(Stage(name), now)

    def report(self, stage: Stage, began: float) -> None:
        """Report a stage that began at a time, if it is due."""
        now = time.monotonic()
        if now - began >= _QUIET_SECONDS and now - self._reported_at >= _SECONDS_BETWEEN:
            self._hand_on(stage, now)

    def _hand_on(self, stage: Stage, now: float) -> None:
        self._reported_at = now
        self._report(stage)


_LISTENER: ContextVar[_Listener | None] = ContextVar("stages", default=None)


@contextmanager
def report_stages(report: Callable[[Stage], None]) -> Iterator[None]:
    """Call a function with the stages of the work within that take more than two seconds.

    Args:
        report: Called at most about once a second, in the thread that works.
    """
    token = _LISTENER.set(_Listener(report))
    try:
        yield
    finally:
        _LISTENER.reset(token)


def begin_stage(name: str) -> None:
    """Say that a stage begins which may take long, and cannot be counted."""
    if (listener := _LISTENER.get()) is not None:
        listener.begin(name)


def stage_counter(name: str, total: int, unit: str = "rows") -> Callable[[int], None] | None:
    """Return the function to call with what is done of a stage so far; None if nobody listens.

    Args:
        name: What is done, such as ``reading pairs.tsv``.
        total: Of how many.
        unit: What is counted.
    """
    listener = _LISTENER.get()
    if listener is None:
        return None
    stage, began = Stage(name, 0, total, unit), time.monotonic()
    return lambda done: listener.report(stage._replace(done=done), began)


def tracked(items: Iterable[T], name: str, total: int, unit: str = "rows") -> Iterable[T]:
    """Return items that are counted while they are taken.

    Args:
        items: The items.
        name: What is done with them, such as ``splitting the rows``.
        total: Their number.
        unit: What they are.
    """
    count = stage_counter(name, total, unit)
    if count is None:
        return items
    return _counted(items, count, _ITEMS_BETWEEN if total > _MANY_ITEMS else 1)


def _counted(items: Iterable[T], count: Callable[[int], None], stride: int) -> Iterator[T]:
    for done, item in enumerate(items):
        if not done % stride:
            count(done)
        yield item


def tracked_parts(parts: Iterable[range], name: str, total: int) -> Iterator[range]:
    """Yield ranges of rows, each of which takes long; `total` is the number of all rows."""
    count = stage_counter(name, total)
    for part in parts:
        if count is not None:
            count(part.start)
        yield part


def tracked_lines(lines: Iterable[bytes], path: str, num_bytes: int) -> Iterable[bytes]:
    """Return the lines of a file, of which the megabytes are counted while they are taken."""
    total = num_bytes // _MEGABYTE
    count = stage_counter(f"reading {path}", total, "MB") if total else None
    return lines if count is None else _counted_lines(lines, count)


def _counted_lines(lines: Iterable[bytes], count: Callable[[int], None]) -> Iterator[bytes]:
    num_bytes = 0
    for number, line in enumerate(lines):
        num_bytes += len(line)
        if not number % _ITEMS_BETWEEN:
            count(num_bytes // _MEGABYTE)
        yield line
