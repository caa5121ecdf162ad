"""Ctrl-C and SIGTERM as a request that the loop obeys between two steps."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_SECONDS = 0.02
_SAME_SECONDS = 5.0  # in which signals to a process under torchrun are of one request


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


@contextmanager
def raising_once() -> Iterator[None]:
    """Let SIGINT raise `KeyboardInterrupt` and SIGTERM `Terminated` in the main thread, once.

    Under torchrun one request comes as several signals: from a terminal, to all processes of its
    group, or from a scheduler; from torchrun; and through other ranks. What one of them raises may
    write and clean up; so those that come within seconds after it are ignored.

    A finalizer or a weak reference's callback ignores what is raised in it: the signal is then
    raised again. The handlers before are restored at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    report, raised_at = sys.unraisablehook, -math.inf

    def interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's form
        nonlocal raised_at
        if time.monotonic() - raised_at > _SAME_SECONDS:
            raised_at = time.monotonic()
            raise Terminated if signum == signal.SIGTERM else KeyboardInterrupt

    def raise_again(ignored: sys.UnraisableHookArgs) -> None:
        nonlocal raised_at
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            report(ignored)
            return
        raised_at = -math.inf
        signum = signal.SIGTERM if issubclass(ignored.exc_type, Terminated) else signal.SIGINT
        # By the system: it interrupts a main thread that sleeps, too.
        threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signum)).start()

    previous = {signum: signal.signal(signum, interrupt) for signum in _SIGNALS}
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def ignore_signals() -> None:
    """Ignore what is sent to a process that ends by itself; those of a terminal too."""
    if threading.current_thread() is threading.main_thread():
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


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
            for signum in _SIGNALS:
                self._previous[signum] = signal.signal(signum, catch)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not (self._catches_all and kind is Stopped):
            self._restore()

    def raise_unseen(self) -> None:
        """Raise a signal again, to the handlers before, that nobody has looked at.

        Call it after the ``with`` of a run that was not stopped: it came after the last look.
        """
        if self.signum is not None:
            signal.raise_signal(self.signum)

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
