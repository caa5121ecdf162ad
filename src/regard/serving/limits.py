"""How much a service takes: texts up to a length, and requests up to a number at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from regard.serving.problems import Problem
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least

if TYPE_CHECKING:
    from regard.serving.verbs.verb_service import Body

_BYTES_OF_JSON = 65_536  # of a body, besides its texts
_BYTES_PER_CHARACTER = 12  # at most: two escapes of six
_FILE_BYTES = 16_000_000
_NEW = 0.2  # weight of the last request in the mean time of one


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of a service.

    Args:
        max_characters: Most characters of all texts of a request, 1 or more.
        max_explained: Most characters of a text that is explained, 1 or more: its cost grows with
            the square of the length.
        max_tokens: Most tokens of an output that a request may ask for, 1 or more.
        max_hypotheses: Widest beam, and most continuations of a text, 1 or more.
        max_requests: Most requests at a time, 1 or more; more are refused, to be sent again.
        max_explanations: Most explanations that wait or are computed, 1 or more; they are computed
            one after the other.
    """

    max_characters: int = 20_000
    max_explained: int = 1_000
    max_tokens: int = 4_096
    max_hypotheses: int = 16
    max_requests: int = 64
    max_explanations: int = 4

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, *self.__struct_fields__)

    def max_bytes(self, *, takes_files: bool) -> int:
        """Return the most bytes of a body."""
        by_text = _BYTES_OF_JSON + _BYTES_PER_CHARACTER * self.max_characters
        return max(by_text, _FILE_BYTES) if takes_files else by_text


def check_length(texts: Iterable[str], most: int) -> None:
    """Raise Problem where the texts of a request are too long, an empty one counted as one."""
    num_characters = sum(max(1, len(text)) for text in texts)
    if num_characters > most:
        raise Problem(
            413,
            f"{num_characters:,} characters; the limit of a request is {most:,}.",
            hint="Send less at a time.",
        )


def check_outputs(body: Body, limits: ServiceLimits) -> None:
    """Raise Problem where a request asks for more than a service computes."""
    for what, number, most in (
        ("tokens of an output", body.num_tokens(), limits.max_tokens),
        ("hypotheses or continuations of a text", body.num_hypotheses(), limits.max_hypotheses),
    ):
        if number > most:
            raise Problem(422, f"{number:,} {what}; the limit is {most:,}.")


class Admission:
    """Counts requests that are answered, and refuses those above a number.

    Args:
        most: Most requests at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_admitted = 0
        """Requests that are answered now."""
        self._lock = Lock()
        self._mean_seconds = 1.0

    @property
    def is_full(self) -> bool:
        """Whether the next request is refused."""
        return self.num_admitted >= self.most

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
            Problem: There are too many.
        """
        with self._lock:
            if self.is_full:
                raise Problem(
                    429,
                    f"{self.num_admitted:,} requests are being answered, the most at a time.",
                    hint="Send it again later.",
                    headers={"Retry-After": str(max(1, math.ceil(self._mean_seconds)))},
                )
            self.num_admitted += 1
        start = monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.num_admitted -= 1
                self._mean_seconds += _NEW * (monotonic() - start - self._mean_seconds)
