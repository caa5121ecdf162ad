"""What the services of all verbs share: the body of a request, and the outputs for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec

Texts: TypeAlias = str | list[str]
"""One text, or several, each with an output of its own."""
CheckClient: TypeAlias = Callable[[], None]
"""Raises once nobody waits for the outputs."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request, as JSON."""

    def inputs(self) -> Iterable[str]:
        """Return what counts against the longest text that the service takes."""
        raise NotImplementedError

    def num_hypotheses(self) -> int:
        """Return how many outputs of an input are computed at a time."""
        return 1

    def num_tokens(self) -> int:
        """Return the most tokens of an output that are asked for; 0 leaves it to the model."""
        return 0


B = TypeVar("B", bound=Body)


class Worker(Protocol):
    """Threads that compute for many requests."""

    @property
    def is_alive(self) -> bool:
        """Whether they work."""
        ...

    def close(self) -> None:
        """Finish what was asked for, and end them."""
        ...


class VerbService(ABC, Generic[B]):
    """What a model does for requests, which many threads ask for at the same time."""

    body: ClassVar[type[Body]]
    """What a request says."""
    worker: Worker | None = None
    """The threads that compute for all requests; None computes in the thread of each."""

    @abstractmethod
    def outputs(self, body: B, check_client: CheckClient, /) -> Sequence[msgspec.Struct]:
        """Compute the output for each input of a request.

        Args:
            body: The request.
            check_client: What takes long calls it now and then, to end where nobody waits.

        Raises:
            ConfigError: An option is out of its range.
            DataError: An input cannot be read.
        """

    @property
    def is_alive(self) -> bool:
        """Whether its threads work."""
        return self.worker is None or self.worker.is_alive

    def close(self) -> None:
        """Finish what was asked for; later requests fail."""
        if self.worker is not None:
            self.worker.close()


def as_list(texts: Texts) -> list[str]:
    """Return one text, or several, as a list."""
    return [texts] if isinstance(texts, str) else texts
