"""Processes that tests start, kill and interrupt, without the seconds in which torch is imported.

A server imports regard once and forks a process on request. What is only about a process (a signal,
a kill, a lock, ranks that exchange tensors) is tested in one of these; a test of the import itself,
or of the environment at the start, starts an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_PRELOADED = [
    "regard.runs.run",
    "regard.runs.text_check",
    "regard.tasks",
    "regard.tasks.translation.setup",
    "regard.data.readers.shape",
    "regard.attention.backends.compiled_operator",
    "regard.cli.app",
    "regard.cli.console",
    "regard.training.launch",
    "cyclopts",
    "sacrebleu.metrics.chrf",
    "pytest",
    "torch._dynamo",  # imported by the first step of any optimizer
    "torch.distributed.fsdp",
    "tests.forked",  # last: it changes what the others define
]


def free_port() -> int:
    """Return a port on which nobody listens, of those that the system gives to no connection.

    One that the system chose could be that of a connection before a server listens on it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start_process(function: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Start a process that calls a function of a module, with arguments that can be pickled."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command sets it
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def start_command(*words: object, output: Path) -> ForkServerProcess:
    """Start `regard WORDS`; what it prints goes to a file, its exit code is the process's."""
    return start_process(_run_command, [str(word) for word in words], output)


def _run_command(words: list[str], output: Path) -> None:
    from regard.__main__ import main

    with output.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
    sys.exit(main(words))
