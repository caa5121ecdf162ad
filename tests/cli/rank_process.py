"""Commands as ranks of a run, forked from a process that has imported PyTorch once."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import socket
import sys
import time
from pathlib import Path

from tests.processes import free_port, start_process

from regard.__main__ import main

_NEW_NETWORK, _NEW_HOST_NAME = 0x40000000, 0x04000000  # of Linux, sched.h


class Ranks:
    """The processes of one command, with what they write.

    Args:
        folder: Receives what they write.
        words: The command.
        size: Number of processes.
        own_words: Words of a rank alone, by rank.
        variables: More of the environment.
        folders: Working directory of each rank; by default that of this process.
        machines: Network namespace of each rank, which is also its host's name.
    """

    def __init__(
        self,
        folder,
        *words,
        size=2,
        own_words=None,
        variables=None,
        folders=None,
        machines=None,
    ):
        port = free_port()
        self.folder = folder / "written"
        self.folder.mkdir(exist_ok=True)
        self.processes = []
        for rank in range(size):
            for name in (f"out{rank}", f"err{rank}"):
                (self.folder / name).write_text("")
            environment = {
                "RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            } | (variables or {})
            arguments = [str(word) for word in (*words, *(own_words or {}).get(rank, ()))]
            place = os.fspath(folders[rank] if folders else Path.cwd())
            machine = machines[rank] if machines else None
            self.processes.append(
                start_process(_run, environment, arguments, self.folder, rank, place, machine)
            )

    def output(self, rank):
        return (self.folder / f"out{rank}").read_text()

    def errors(self):
        """Return all lines on standard error, in the order of ranks."""
        ranks = range(len(self.processes))
        return [line for rank in ranks for line in self._errors(rank).splitlines()]

    def _errors(self, rank):
        return (self.folder / f"err{rank}").read_text()

    def kill(self, rank, signum=signal.SIGKILL):
        os.kill(self.processes[rank].pid, signum)

    def wait(self, seconds=120.0):
        """Return the exit codes."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes

    def end(self, seconds=30.0):
        """End all as torchrun does when one has ended; return the exit codes."""
        for process in self.processes:
            if process.exitcode is None:
                process.terminate()
        return self.wait(seconds)

    def trains(self):
        """Return whether the first rank has reported that its steps begin."""
        text = self.output(0)
        return "Resumed from" in text or "\nPlan " in text

    def progress(self):
        """Return the last step that the first rank reports."""
        lines = [line for line in self.output(0).splitlines() if line.endswith("best")]
        resumed = [line for line in self.output(0).splitlines() if "Resumed from" in line]
        return " ".join([*resumed, *lines[-1:]]) or "no step"

    def wait_until(self, condition, seconds=120.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.errors()
            assert all(p.exitcode is None for p in self.processes), (self.errors(), self.output(0))
            time.sleep(0.02)


def _run(variables, words, folder, rank, place, machine):
    for descriptor, name in ((1, f"out{rank}"), (2, f"err{rank}")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", write_through=True)
    os.environ.update(variables)
    os.chdir(place)
    if machine is not None:
        _enter(machine)
    sys.exit(main(words))


def _enter(machine):
    """Move this process to a network namespace, with a host name of its own."""
    system = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{machine}").open() as namespace:
        assert system.setns(namespace.fileno(), _NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
    assert system.unshare(_NEW_HOST_NAME) == 0, os.strerror(ctypes.get_errno())
    socket.sethostname(machine)
