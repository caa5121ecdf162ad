"""Results that workers compute for a caller, who may stop waiting for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, InvalidStateError, wait
from contextlib import suppress
from typing import TypeVar

R = TypeVar("R")
_SECONDS_BETWEEN_CHECKS = 0.1


def await_results(
    futures: Sequence[Future[R]], check_caller: Callable[[], None] | None = None
) -> list[R]:
    """Wait for results, unless the caller wants them no more.

    Args:
        futures: Results to come. Those that are not there when an error is raised are cancelled, so
            that no worker computes them.
        check_caller: Called now and then while results are missing; what it raises ends the wait.
            None waits without it.

    Returns:
        The results, in order.
    """
    seconds = None if check_caller is None else _SECONDS_BETWEEN_CHECKS
    try:
        missing = set(futures)
        while missing:
            done, missing = wait(missing, seconds, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            if missing and check_caller is not None:
                check_caller()
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def deliver(future: Future[R], result: R) -> None:
    """Set a result, unless its caller has left."""
    with suppress(InvalidStateError):
        future.set_result(result)


def deliver_error(future: Future[R], error: Exception) -> None:
    """Set an error in place of a result, unless its caller has left."""
    with suppress(InvalidStateError):
        future.set_exception(error)
