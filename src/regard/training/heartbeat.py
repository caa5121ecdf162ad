"""Heartbeats: a process of a run that is stopped or lost is named, and ends the run.

Each process counts a number up in the store that torchrun provides (a server of keys and values),
from a thread of its own: a long computation does not delay it. All processes read the numbers of
all. One that no longer counts is named with its machine; a process of the same machine ends it,
since a stopped process ignores the signals of torchrun, which would wait. The survivors may wait
for it in a collective operation for ever, so their own threads end them. The store itself may not
answer, when the machine that runs it is lost: a second thread waits for its answers.

Cost: three requests to the store in `_BEAT_SECONDS`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

T = TypeVar("T")
LOST = 5
"""Exit code of a run that has lost a process."""

_BEAT_SECONDS = 1.0
_REMOTE_SECONDS = 3.0  # more than on its own machine, where more is known of a process
_GRACE_SECONDS = 2.0  # for the main thread to end by itself
_SPEAKING_SECONDS = 5.0  # for rank 0 to report what has ended the run
_LOOK_SECONDS = 0.05
_STUCK_FACTOR = 10  # a process that waits for the system may only have a slow disk
_IDLE_SECONDS = 0.05  # of computation, in which a process that waits for the system looks around
_BUSY_TICKS = 5  # hundredths of a second of computation
_WAITING_FOR_THREADS = {202, 98}  # futex on x86-64 and on ARM: how a thread waits for another


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process, so that others of its machine can recognize it.

    Args:
        host: Name of its machine.
        machine: Identity of the machine and of what numbers its processes, such as a container.
        pid: Its number there.
        started: When it started, in ticks of the machine's clock.
    """

    host: str
    machine: str = ""
    pid: int
    started: int = 0

    @classmethod
    def present(cls) -> Process:
        """Return this process."""
        pid = os.getpid()
        parts = []
        with suppress(OSError):
            parts = [
                Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                str(Path("/proc/self/ns/pid").readlink()),
            ]
        status = read_status(pid)
        return cls(
            host=socket.gethostname(),
            machine=" ".join(parts),
            pid=pid,
            started=0 if status is None else status.started,
        )


class Status(NamedTuple):
    """What the system says of a process: its state, processor ticks, and when it started."""

    state: str
    ticks: int
    started: int


def read_status(pid: int) -> Status | None:
    """Return the state of a process of this machine; None where there is none, or it is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return Status(fields[0], int(fields[11]) + int(fields[12]), int(fields[19]))


def present_call() -> str | None:
    """Return the system call in which the main thread waits; None where it computes.

    Waiting for other threads, which is how collective operations wait, and for standard input
    counts as computing.
    """
    folder = Path(f"/proc/self/task/{os.getpid()}")
    if threading.current_thread() is threading.main_thread():
        return None
    try:
        words = (folder / "syscall").read_text().split()
        function = (folder / "wchan").read_text().strip()
    except OSError:
        return None
    if len(words) < 2 or not words[0].isdecimal() or int(words[0]) in _WAITING_FOR_THREADS:
        return None
    if words[0] in ("0", "63") and int(words[1], 16) == 0:  # read(0, ...) on x86-64 and on ARM
        return None
    return function if function not in ("", "0") else f"system call {words[0]}"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What ends a run on all ranks.

    Args:
        code: Exit code.
        message: What to report, once; empty where it has been reported.
        lost_rank: Rank that cannot report it itself; -1 if none.
    """

    code: int
    message: str
    lost_rank: int = -1


class Store(Protocol):
    """Keys and values on a server, as PyTorch's stores have them; RuntimeError if it is lost."""

    def set(self, key: str, value: str, /) -> None:
        """Set a value."""

    def get(self, key: str, /) -> bytes:
        """Wait for a value, and return it."""
        ...

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Wait for values, and return them."""
        ...

    def add(self, key: str, amount: int, /) -> int:
        """Add to a count; return the sum."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Return whether keys exist."""
        ...

    def compare_set(self, key: str, expected: str, value: str, /) -> bytes:
        """Set a value where the present one is as expected, or "" and missing; return it."""
        ...


class Watch:
    """Watches the processes of a run, in threads; agrees with them on what ends it.

    Args:
        store: Keys and values that all of them see, empty at first; for this object alone.
        rank: Rank of this process.
        processes: All processes, by rank.
        seconds: Time without a heartbeat after which a process counts as stopped.
        end: Ends this process with an exit code, at once.
        say: Writes a message to standard error.
        runs_store: Whether the store ends with this process.
        clock: Returns the time in seconds.

    Attributes:
        seconds: Time without a heartbeat after which a process counts as stopped.
        advice: What follows where a process is lost, for messages; empty if nothing does.
        advice_once_resumable: The same as soon as the folder has what a resumed run needs.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        processes: Sequence[Process],
        *,
        seconds: float,
        end: Callable[[int], None],
        say: Callable[[str], None],
        runs_store: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.advice, self.advice_once_resumable = seconds, "", ""
        self._store, self._rank, self._processes = store, rank, list(processes)
        self._end, self._say, self._clock = end, say, clock
        self._runs_store = runs_store
        self._lock = threading.Lock()  # a store serves one thread at a time
        self._leaving, self._closed = threading.Event(), threading.Event()
        self._count = 0
        self._polled_at = self._guarded_at = self._answered_at = clock()
        self._seen = [b""] * len(processes)
        self._changed_at = [self._polled_at] * len(processes)
        self._ticks: list[int | None] = [None] * len(processes)
        self._parent = os.getppid()
        self._call: tuple[str, float, float] | None = None  # name, since, computation until then
        self._has_named_call = False
        self._num_notes = 0
        self._failure: Failure | None = None  # what ends the run, as soon as this process knows it
        self._threads = [
            threading.Thread(target=target, name="heartbeat", daemon=True)
            for target in (self._watch_processes, self._watch_store)
        ]

    def note_resumable(self) -> None:
        """Say from now on how the run is resumed, where a process is lost."""
        self.advice = self.advice_once_resumable

    def beat(self) -> None:
        """Give a heartbeat."""
        self._count += 1
        self._ask(lambda store: store.set(f"beat/{self._rank}", str(self._count)))

    def start(self) -> None:
        """Start to watch; all processes must have given a heartbeat."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Leave the run, which has ended well for this process."""
        self._closed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        with suppress(RuntimeError):
            self._ask(lambda store: store.set(f"beat/{self._rank}", "left"))

    def wait_for_others(self, seconds: float) -> None:
        """Wait until the other processes have left; for the process that runs the store."""
        deadline = time.monotonic() + seconds
        keys = [f"beat/{rank}" for rank in range(len(self._processes)) if rank != self._rank]
        while keys and time.monotonic() < deadline:
            if all(beat == b"left" for beat in self._ask(lambda store: store.multi_get(keys))):
                return
            time.sleep(_LOOK_SECONDS)

    def name(self, rank: int) -> str:
        """Return rank, machine and number of a process, for messages."""
        process = self._processes[rank]
        return f"rank {rank} (host {process.host}, process {process.pid})"

    def leave(self, failure: Failure) -> Failure:
        """End the run on all ranks: agree on the first failure, and have it reported once.

        Returns:
            The failure with which all ranks end.
        """
        self._leaving.set()
        first = self._claim(failure)
        self._report(first)
        return first

    def leave_lost(self) -> Failure:
        """End the run on all ranks after a collective operation has lost another process."""
        self._leaving.set()
        message = "the connection to another process has ended."
        deadline, lost = time.monotonic() + _GRACE_SECONDS, None
        while self._first_failure() is None:
            lost = self.find_ended()
            if lost is not None or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_SECONDS)
        if lost is not None:
            message = f"{self.name(lost)} has ended."
        message = f"{message}  {self.advice}".strip()
        return self.leave(
            Failure(code=LOST, message=message, lost_rank=-1 if lost is None else lost)
        )

    def find_ended(self) -> int | None:
        """Return the first rank of this machine whose process has ended; None if none has."""
        for rank, process in enumerate(self._processes):
            if rank == self._rank or not self._is_neighbor(rank) or self._seen[rank] == b"left":
                continue
            status = read_status(process.pid)
            if status is None or status.started != process.started or status.state in "ZX":
                return rank
        return None

    def poll(self) -> None:
        """Give a heartbeat, and look for those of the others."""
        now = self._clock()
        if now - self._polled_at > 3 * _BEAT_SECONDS:  # this process itself was stopped
            self._changed_at = [now] * len(self._processes)
        self._polled_at = now
        with suppress(RuntimeError):
            self._exchange(now)

    def guard(self) -> None:
        """Look whether the store answers, and torchrun lives."""
        now = self._clock()
        if now - self._guarded_at > 3 * _BEAT_SECONDS:  # this process itself was stopped
            self._answered_at = now
        self._guarded_at = now
        if os.getppid() != self._parent:
            self._parent = os.getppid()
            os.kill(os.getpid(), signal.SIGTERM)  # torchrun was killed: nobody would end this run
        if now - self._answered_at > self.seconds + _REMOTE_SECONDS:
            self._end_without_store()

    def _watch_processes(self) -> None:
        while not (self._closed.wait(_BEAT_SECONDS) or self._leaving.is_set()):
            self.poll()

    def _watch_store(self) -> None:
        while not self._closed.wait(_BEAT_SECONDS):
            self.guard()

    def _ask(self, operation: Callable[[Store], T]) -> T:
        """Return what the store answers, which serves one thread at a time."""
        with self._lock:
            answer = operation(self._store)
        self._answered_at = self._clock()
        return answer

    def _exchange(self, now: float) -> None:
        self.beat()
        keys = [f"beat/{rank}" for rank in range(len(self._processes))]
        beats = self._ask(lambda store: store.multi_get(keys))
        for rank, beat in enumerate(beats):
            if beat != self._seen[rank]:
                self._seen[rank], self._changed_at[rank] = beat, now
            elif beat != b"left" and rank != self._rank:
                self._suspect(rank, now - self._changed_at[rank])
        self._examine_call(now)
        if self._rank == 0:
            self._report_notes()
        failure = self._first_failure()
        if failure is not None:
            self._end_run(failure)

    def _suspect(self, rank: int, silence: float) -> None:
        """Declare a rank lost that has been silent for too long, and end its process."""
        process = self._processes[rank]
        if not self._is_neighbor(rank):
            if silence > self.seconds + _REMOTE_SECONDS:
                self._declare(rank, f"has not responded for {silence:.0f} s")
            return
        if silence < 3 * _BEAT_SECONDS:
            self._ticks[rank] = None
            return
        status = read_status(process.pid)
        if status is None or status.started != process.started:
            self._declare(rank, "has ended")
            return
        self._ticks[rank] = ticks = self._ticks[rank] or status.ticks
        if status.ticks - ticks > _BUSY_TICKS and status.state not in "Tt":
            # It computes in one long operation that does not let its own thread run.
            self._ticks[rank], self._changed_at[rank] = None, self._clock()
            beat = f"{status.ticks} ticks"
            self._ask(lambda store: store.set(f"beat/{rank}", beat))
        elif silence > self.seconds:
            is_stopped = status.state in "Tt"
            cause = (
                "is stopped (SIGSTOP)" if is_stopped else f"has not responded for {silence:.0f} s"
            )
            self._declare(rank, cause)
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)

    def _declare(self, rank: int, what: str) -> None:
        message = f"{self.name(rank)} {what}.  {self.advice}".strip()
        self._claim(Failure(code=LOST, message=message, lost_rank=rank))

    def _examine_call(self, now: float) -> None:
        """Name this process where its main thread waits for the system for long.

        After a multiple of the time it ends the run.
        """
        call, computed = present_call(), time.process_time() - time.thread_time()
        if call is None:
            self._call = None
            return
        if self._call is None or self._call[0] != call or computed - self._call[2] > _IDLE_SECONDS:
            self._call, self._has_named_call = (call, now, computed), False
            return
        waited = now - self._call[1]
        description = (
            f"{self.name(self._rank)} has waited for the system for {waited:.0f} s ({call})"
        )
        if waited > _STUCK_FACTOR * self.seconds:
            message = f"{description}.  {self.advice}".strip()
            self._claim(Failure(code=LOST, message=message, lost_rank=self._rank))
        elif waited > self.seconds and not self._has_named_call:
            self._has_named_call = True
            number = self._ask(lambda store: store.add("notes", 1))
            note = f"note: {description}; the others wait for it."
            self._ask(lambda store: store.set(f"note/{number}", note))

    def _report_notes(self) -> None:
        while self._num_notes < self._ask(lambda store: store.add("notes", 0)):
            self._num_notes += 1
            note = self._ask(lambda store: store.get(f"note/{self._num_notes}"))
            self._say(note.decode())

    def _end_run(self, failure: Failure) -> None:
        """End this process for a failure, unless its main thread does."""
        if self._leaving.wait(_GRACE_SECONDS) or self._closed.is_set():
            return
        self._report(failure)
        self._closed.set()
        self._end(failure.code)

    def _end_without_store(self) -> None:
        """End this process where the store does not answer; its machine may be lost."""
        message = f"host {self._processes[0].host}, where the processes meet, does not answer."
        speaks = self._speaks_for_machine()
        for rank, process in enumerate(self._processes):
            status = read_status(process.pid) if self._is_neighbor(rank) else None
            if status is not None and status.state in "Tt":
                message = f"{self.name(rank)} is stopped (SIGSTOP)."
                with suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
        if speaks:
            self._say(f"{message}  {self.advice}".strip())
        self._closed.set()
        self._end(LOST)

    def _is_neighbor(self, rank: int) -> bool:
        """Return whether a process is of this machine, and can be seen and ended from here."""
        machine = self._processes[self._rank].machine
        return machine != "" and self._processes[rank].machine == machine

    def _first_failure(self) -> Failure | None:
        with suppress(RuntimeError):
            if self._failure is None and self._ask(lambda store: store.check(["failure"])):
                content = self._ask(lambda store: store.get("failure"))
                self._failure = msgspec.json.decode(content, type=Failure)
        return self._failure

    def _claim(self, failure: Failure) -> Failure:
        """Record a failure where it is the first; return the first."""
        value = msgspec.json.encode(failure).decode()
        with suppress(RuntimeError):
            if self._failure is None:
                first = self._ask(lambda store: store.compare_set("failure", "", value))
                self._failure = msgspec.json.decode(first, type=Failure)
        return failure if self._failure is None else self._failure

    def _report(self, failure: Failure) -> None:
        """Write the failure, if this process is the one that does; wait until one has."""
        try:
            if failure.message and not self._hears(failure):
                if self._ask(lambda store: store.add("speakers", 1)) == 1:
                    self._say(failure.message)
                self._ask(lambda store: store.set("said", "1"))
            self._ask(lambda store: store.set(f"heard/{self._rank}", "1"))
            deadline = time.monotonic() + _SPEAKING_SECONDS
            ranks = set(range(len(self._processes))) - {failure.lost_rank}
            keys = [f"heard/{rank}" for rank in sorted(ranks)]
            while self._runs_store and time.monotonic() < deadline:
                if self._ask(lambda store: store.check(keys)):
                    break
                time.sleep(_LOOK_SECONDS)
        except RuntimeError:
            if failure.message and self._speaks_for_machine():
                self._say(failure.message)  # the store has ended: rather twice than never

    def _speaks_for_machine(self) -> bool:
        """Return whether this process is the first one of its machine that lives."""
        neighbors = [rank for rank in range(len(self._processes)) if self._is_neighbor(rank)]
        statuses = {rank: read_status(self._processes[rank].pid) for rank in neighbors}
        living = [
            rank for rank, status in statuses.items() if status and status.state not in "TtZX"
        ]
        return self._rank == min(living, default=self._rank)

    def _hears(self, failure: Failure) -> bool:
        """Return whether another process has written the failure; rank 0 does if it can."""
        if self._rank == 0 or failure.lost_rank == 0:
            return False
        deadline = time.monotonic() + _SPEAKING_SECONDS
        while time.monotonic() < deadline:
            if self._ask(lambda store: store.check(["said"])):
                return True
            time.sleep(_LOOK_SECONDS)
        return False


def end_process(code: int) -> None:
    """End this process at once, whatever its main thread waits for."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


def write_message(message: str) -> None:
    """Write a message to standard error, whatever the main thread writes at this time."""
    with suppress(OSError):
        os.write(2, f"regard: {message}\n".encode(errors="backslashreplace"))
