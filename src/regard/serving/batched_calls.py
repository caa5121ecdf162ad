"""Batches of what several requests ask for at the same time, computed by one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

from regard.generation.awaited_results import await_results, deliver, deliver_error
from regard.generation.fair_queue import FairQueue

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Item(Generic[T, R]):
    """One input of a request, and its result once it is there."""

    value: T
    result: Future[R] = field(default_factory=Future)


class BatchedCalls(Generic[T, R]):
    """Computes inputs of several requests together; each request waits for its own alone.

    Args:
        compute: Returns the result of each of some inputs, as if it were alone.
        size: Returns how much of a batch an input takes.
        most: Most that a batch takes; one input is never refused. The default is in characters,
            about half of what a model computes at a time.
    """

    def __init__(
        self,
        compute: Callable[[list[T]], Sequence[R]],
        size: Callable[[T], int],
        most: int = 16_384,
    ) -> None:
        self._compute, self._size, self._most = compute, size, most
        self._changed = Condition()
        self._waiting = FairQueue[_Item[T, R]]()
        self._is_closed = False
        self._worker = Thread(target=self._work, name="batches", daemon=True)
        self._worker.start()

    def __call__(
        self, values: Sequence[T], check_caller: Callable[[], None] | None = None
    ) -> list[R]:
        """Return the result of each input.

        Args:
            values: The inputs.
            check_caller: Called now and then; what it raises ends the request, and its inputs that
                are in no batch yet are not computed.

        Raises:
            RuntimeError: It is closed.
        """
        items = [_Item[T, R](value) for value in values]
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the batches were closed.")
            self._waiting.put(items)
            self._changed.notify()
        return await_results([item.result for item in items], check_caller)

    @property
    def is_alive(self) -> bool:
        """Whether its thread works."""
        return self._worker.is_alive()

    def close(self) -> None:
        """Finish what requests wait for; later calls raise RuntimeError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while batch := self._take():
            self._finish(batch)

    def _take(self) -> list[_Item[T, R]]:
        """Return the inputs of the next batch; none where it is closed, and nothing is left."""
        while not (batch := self._next_batch()) and not self._is_closed:
            pass  # all that waited was cancelled
        return batch

    def _next_batch(self) -> list[_Item[T, R]]:
        """Wait for inputs, and return those of a batch, without the ones that were cancelled."""
        batch: list[_Item[T, R]] = []
        room = self._most
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) or self._is_closed)
            while len(self._waiting):
                if self._waiting.first().result.cancelled():
                    self._waiting.pop()
                    continue
                room -= self._size(self._waiting.first().value)
                if room < 0 and batch:
                    break
                batch.append(self._waiting.pop())
        return batch

    def _finish(self, batch: list[_Item[T, R]]) -> None:
        """Compute a batch; where that fails each input alone, so that one fails no other."""
        try:
            results = self._compute([item.value for item in batch])
            assert len(results) == len(batch)
        except Exception as error:  # noqa: BLE001 - raised where the request waits for it
            if len(batch) == 1:
                deliver_error(batch[0].result, error)
            else:
                for item in batch:
                    self._finish([item])
            return
        for item, result in zip(batch, results, strict=True):
            deliver(item.result, result)
