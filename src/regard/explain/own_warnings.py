"""The warnings of one thread, while others compute, too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident


@contextmanager
def record_own_warnings() -> Iterator[list[str]]:
    """Record every warning of this thread.

    Python's filters are those of all threads: what another one warns of meanwhile, which may quote
    a text of somebody else, is neither recorded nor shown.

    Yields:
        The messages so far.
    """
    own, messages = get_ident(), list[str]()

    def record(message: Warning | str, *_: object, **__: object) -> None:
        if get_ident() == own:
            messages.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = record
        yield messages
