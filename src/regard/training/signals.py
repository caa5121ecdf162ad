"""Ctrl-C and SIGTERM as a request that the loop obeys between two steps."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_AGAIN_SECONDS = 0.02


class Stopped(KeyboardInterrupt):
    """A run ended because it was asked to; its state is saved.

    It is a `KeyboardInterrupt`, which ``except Exception`` does not catch: a loop over several runs
    ends with the run that was interrupted.

    Args:
        signum: The signal that asked.
    """

    def __init__(self, signum: int) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"{name}: the run is saved and can be resumed")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM: 128 and the signal's number."""
        return 128 + self.signum


class Terminated(KeyboardInterrupt):
    """SIGTERM outside the steps of a run, which saves nothing."""

    exit_code = 143


class Aborted(KeyboardInterrupt):
    """A run ended outside its steps, or by a second signal; it can be resumed as it was saved last.

    Args:
        signum: The signal that asked.
        folder: Of the run.
    """

    def __init__(self, signum: int, folder: str) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"{name}: the run can be resumed from what it saved last")
        self.signum, self.folder = signum, folder

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM: 128 and the signal's number."""
        return 128 + self.signum


@contextmanager
def resumable(folder: str, holds_run: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Let what interrupts the block say that the run in a folder can be resumed.

    Args:
        folder: Of the run.
        holds_run: Returns whether the folder has what a resumed run needs.

    Raises:
        Aborted: In place of a `KeyboardInterrupt` other than `Stopped`.
        Stopped: The block's own, as it is.
        KeyboardInterrupt: The block's own, where the folder has no run to resume.
    """
    try:
        yield
    except (Stopped, Aborted):
        raise
    except KeyboardInterrupt as error:
        if not holds_run():
            raise
        is_terminated = isinstance(error, Terminated)
        signum = signal.SIGTERM if is_terminated else signal.SIGINT
        raise Aborted(signum, folder) from error


def raise_on_termination() -> None:
    """Let SIGTERM raise `Terminated` in the main thread, instead of ending the process unheard.

    A finalizer or a weak reference's callback ignores what is raised in it: the signal is then
    raised again.
    """
    report = sys.unraisablehook

    def terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's form
        raise Terminated

    def interrupt() -> None:  # also a main thread that sleeps
        os.kill(os.getpid(), signal.SIGTERM)

    def raise_again(ignored: sys.UnraisableHookArgs) -> None:
        if issubclass(ignored.exc_type, Terminated):
            threading.Timer(_AGAIN_SECONDS, interrupt).start()
        else:
            report(ignored)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
        sys.unraisablehook = raise_again


def request_stop() -> None:
    """Stop the run of this process as SIGTERM does, after the present step and a checkpoint.

    Where no signal is caught, as outside the main thread, the run continues.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and callable(signal.getsignal(signal.SIGTERM)):
        signal.raise_signal(signal.SIGTERM)


class StopRequest:
    """Catches the first signal while inside ``with``; a second one acts as usual.

    Outside the main thread Python gives no signals, and none is caught.

    Args:
        catches_all: Whether later signals change nothing, also while `Stopped` ends the process.
            Under torchrun one signal may come to a process from a scheduler, from torchrun and
            through other ranks; torchrun itself ends whoever takes too long.
    """

    def __init__(self, *, catches_all: bool = False) -> None:
        self.signum: int | None = None
        self._catches_all = catches_all
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        def catch(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's form
            self.signum = self.signum or signum
            if not self._catches_all:
                self._restore()

        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, catch)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not (self._catches_all and kind is Stopped):
            self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
