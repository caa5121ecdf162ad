"""Commands under torchrun: the first process works and writes; some verbs use them all.

Whatever ends a run on one process ends it on all, with one message and one exit code. torchrun
starts them again after any failure; one that would only fail again ends without a word.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli import VERBS
from regard.cli.failures import (
    INTERRUPTED,
    UNEXPECTED,
    Ending,
    describe_failure,
    describe_output_failure,
)
from regard.cli.wording import error_text
from regard.errors import ConfigError, DataError, ResourceError, WeightsError
from regard.training.torchrun_environment import TorchrunEnvironment

if TYPE_CHECKING:
    from regard.training.launch import Launch

_LASTING = {error.exit_code for error in (ConfigError, DataError, WeightsError)}
"""Exit codes of errors that another start does not mend."""
_CODE_FILE = "regard_exit_code"
_SECONDS_TO_WAIT = 10.0


def prepare_rank() -> bool:
    """Let a process that torchrun has started write only if it is the first.

    Returns:
        Whether it is another one.

    Raises:
        ConfigError: The environment does not state its rank as torchrun does.
    """
    environment = TorchrunEnvironment.from_environment()
    if environment is None:
        return False
    # Of the connections that end when another process does, torchrun and regard report.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if environment.rank == 0:
        return False
    sys.stdout = _Silence()
    warnings.simplefilter("ignore")
    return True


def note_rank() -> None:
    """Say why a process does nothing, where its rank may be left over in the environment."""
    environment = TorchrunEnvironment.from_environment()
    if environment is not None and not environment.is_of_torchrun:
        variables = f"RANK={environment.rank} and WORLD_SIZE={environment.size}"
        text = f"{variables} are set in the environment: rank 0 alone does this."
        print(f"regard: note: {text}  Unset them to do it here.", file=sys.stderr)


def runs_on_all_ranks(words: Sequence[str | None]) -> bool:
    """Return whether all processes take part in a command.

    Args:
        words: Its words after ``regard``, or the verb and its texts. Only the first process can
            read standard input.
    """
    verb = VERBS.get(words[0] or "") if words else None
    if verb is None or not verb.runs_on_all_ranks:
        return False
    return verb.shares_input or "-" not in words


def end_after_first(code: int) -> int:
    """Return an exit code once the first process has ended, for an error that both have.

    torchrun ends the others when one fails, and so would cut off the message of the first. It waits
    for all after Ctrl-C, which a terminal sends to every process.
    """
    if code == INTERRUPTED:
        return code
    ended = []
    with suppress(ValueError):  # outside the main thread
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: ended.append(True))
    deadline = time.monotonic() + _SECONDS_TO_WAIT
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
    return code


def earlier_code() -> int | None:
    """Return the exit code of the earlier start of this process where it failed for good.

    torchrun has a folder for each start, named ``attempt_0`` and so on.

    Raises:
        ConfigError: The environment does not state its rank as torchrun does.
    """
    environment = TorchrunEnvironment.from_environment()
    if environment is None or not environment.error_file or not environment.num_restarts:
        return None
    path = Path(environment.error_file).with_name(_CODE_FILE)
    names = {f"attempt_{environment.num_restarts}": f"attempt_{environment.num_restarts - 1}"}
    earlier = Path(*(names.get(part, part) for part in path.parts))
    try:
        code = int(earlier.read_text())
    except (OSError, ValueError):
        return None
    note_code(code)
    return code


def note_code(code: int) -> None:
    """Write the exit code of this start where another start of this process looks for it."""
    environment = TorchrunEnvironment.from_environment()
    if environment is not None and environment.error_file and code in _LASTING:
        with suppress(OSError):
            Path(environment.error_file).with_name(_CODE_FILE).write_text(str(code))


@contextmanager
def join_run() -> Iterator[Launch | None]:
    """Connect the processes of a run while inside ``with``, and end them together.

    Meanwhile SIGTERM raises `Terminated` in the main thread, as Ctrl-C raises `KeyboardInterrupt`.

    Yields:
        The processes; None outside torchrun.

    Raises:
        ResourceError: The processes cannot be connected.
    """
    environment = TorchrunEnvironment.from_environment()
    if environment is None:
        yield None
        return
    from regard.training.heartbeat import Failure, end_process, write_message
    from regard.training.launch import connect
    from regard.training.signals import raising_once

    try:
        launch = connect(environment)
    except ResourceError as error:
        if environment.rank:
            write_message(error_text(error))
        raise
    with raising_once():
        try:
            yield launch
            launch.finish()
        except BaseException as error:
            if _is_connection_loss(error):
                failure = launch.fail_lost()
            else:
                ending = _describe(error)
                text = f"{launch.world.name(environment.rank)}: {type(error).__name__}: {error}"
                own = Ending(UNEXPECTED, text) if ending is None else ending
                failure = launch.fail(Failure(code=own.code, message=own.message))
                if ending is None:
                    raise
            note_code(failure.code)
            end_process(failure.code)


def _describe(error: BaseException) -> Ending | None:
    ending = describe_failure(error)
    if ending is None and isinstance(error, OSError):
        return describe_output_failure(error)
    return ending


def _is_connection_loss(error: BaseException) -> bool:
    """Return whether an operation with other processes failed because one of them has ended."""
    import torch.distributed as dist

    is_of_torch = isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
    return isinstance(error, dist.DistError) or (is_of_torch and "gloo" in str(error))


class _Silence(TextIOBase):
    """Standard output of a process whose output the first one writes."""

    def write(self, text: str) -> int:
        """Drop a text."""
        return len(text)
