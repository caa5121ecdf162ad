"""The end of a command that fails: its exit code, and what it says on standard error."""

from __future__ import annotations

import os
from typing import NamedTuple

from regard.cli.wording import error_text, message_text, without_missing_options
from regard.errors import NextStep, RegardError, describe_lack_of_memory

UNEXPECTED, USAGE, RESOURCES, INTERRUPTED, READER_LEFT = 1, 2, 5, 130, 141
"""Exit codes next to those of `RegardError`: 1 is Python's after an error that nothing catches, 141
what shells say of what SIGPIPE ended."""

_LESS_MEMORY = "Less fits: shorter texts, --beam 1 where there is a beam, or a smaller model."


class Ending(NamedTuple):
    """How a command ends.

    Args:
        code: Its exit code.
        message: What it says on standard error; empty if nothing.
    """

    code: int
    message: str = ""


def describe_failure(error: BaseException, verb: str = "train") -> Ending | None:
    """Return how a command ends with an error of a verb; None for an error of regard's own."""
    if isinstance(error, RegardError):
        return Ending(error.exit_code, without_missing_options(error_text(error), verb))
    if type(error) is KeyboardInterrupt:  # perhaps while PyTorch was imported, which fails again
        return Ending(INTERRUPTED, "interrupted")
    if isinstance(error, KeyboardInterrupt):
        return _describe_interrupt(error)
    if not isinstance(error, MemoryError | RuntimeError | ImportError | OSError | SystemError):
        return None
    cause = describe_lack_of_memory(error)
    return None if cause is None else Ending(RESOURCES, f"{cause}  {_LESS_MEMORY}")


def _describe_interrupt(error: KeyboardInterrupt) -> Ending:
    """Return how a command ends with an interrupt of regard's own."""
    from regard.training.signals import Aborted, Stopped, Terminated

    if isinstance(error, Stopped):
        return Ending(error.exit_code)
    if isinstance(error, Aborted):
        step = NextStep("Continue", "train", (), (("output", error.folder), ("resume", "")))
        what = "interrupted" if error.exit_code == INTERRUPTED else "terminated"
        return Ending(error.exit_code, message_text(f"{what}.", [step]))
    if isinstance(error, Terminated):
        return Ending(error.exit_code, "terminated")
    return Ending(INTERRUPTED, "interrupted")


def describe_output_failure(error: OSError) -> Ending:
    """Return how a command ends where a file or standard output cannot be used."""
    if isinstance(error, BrokenPipeError):
        return Ending(READER_LEFT)
    if error.filename is not None:
        reason = error.strerror or str(error)
        return Ending(RESOURCES, f"{error.filename}: cannot be read or written ({reason}).")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Ending(RESOURCES, f"standard output cannot be written ({reason}).")
