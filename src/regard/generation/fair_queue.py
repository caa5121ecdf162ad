"""A queue in which callers take turns: who brings a thousand items does not keep others waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several callers, one of each in turn; threads that share it need a lock.

    >>> queue = FairQueue()
    >>> queue.put("abc")
    >>> queue.put("x")
    >>> [queue.pop() for _ in range(len(queue))]
    ['a', 'x', 'b', 'c']
    """

    def __init__(self) -> None:
        self._callers: deque[deque[T]] = deque()  # none is empty; the next one is the first

    def __len__(self) -> int:
        return sum(map(len, self._callers))

    def put(self, items: Iterable[T]) -> None:
        """Add the items of a caller."""
        if own := deque(items):
            self._callers.append(own)

    def first(self) -> T:
        """Return the item that `pop` takes next."""
        return self._callers[0][0]

    def pop(self) -> T:
        """Take an item of the caller whose turn it is."""
        own = self._callers.popleft()
        item = own.popleft()
        if own:
            self._callers.append(own)
        return item
