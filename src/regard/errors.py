"""The exceptions of regard: every failure a user can cause or meet, and its exit code.

    RegardError
    ├── ConfigError     a setting, an argument or an output folder is wrong      exit 2
    ├── DataError       a data file is missing, malformed or unsuitable          exit 3
    ├── WeightsError    a model folder or checkpoint is missing or damaged       exit 4
    ├── ResourceError   there is not enough memory or disk space                 exit 5
    └── ShapeError      a tensor has the wrong shape, type or device             exit 1

A message says what was given, what is allowed and what to do next, on as few lines as it takes. A
setting to change is written in backticks, `` `data.encoding=latin1` ``, like an argument of
`regard.train`, such as `` `output` ``; a command that helps is a `NextStep`. The command line alone
turns these into options and commands (`regard.cli.wording`), so a message is right in Python too.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

_NO_MEMORY = re.compile(
    "can't allocate memory|cannot allocate memory|not enough memory|out of memory|bad_alloc|"
    "failed to map segment|can't start new thread",
    re.IGNORECASE,
)
_ASKED_FOR = re.compile(r"[Tt]ried to allocate (?:(\d+) bytes|(\d[\d.]* [KMGT]iB))")
_LONGEST_VALUE = 40  # characters of a wrong value in a message


class NextStep(NamedTuple):
    """A command that helps after a failure or a warning.

    Args:
        purpose: What it is for, such as ``See all 3``.
        verb: Verb of the command line, such as ``check``.
        arguments: Its positional arguments.
        settings: Settings by name, such as ``{"output": "ende"}``.
    """

    purpose: str
    verb: str
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


class RegardError(Exception):
    """Base of every error that regard raises on purpose.

    Args:
        message: What is wrong, and what to do about it.
        next_steps: Commands that help.
    """

    exit_code = 1

    def __init__(self, message: str, *next_steps: NextStep) -> None:
        super().__init__(message)
        self.next_steps = next_steps


class ConfigError(RegardError, ValueError):
    """A setting, an argument or an output folder cannot be used as given."""

    exit_code = 2


class DataError(RegardError, ValueError):
    """A data file is missing, malformed or unsuitable for the task."""

    exit_code = 3


class WeightsError(RegardError):
    """A model folder or a checkpoint is missing, incomplete or damaged."""

    exit_code = 4


class ResourceError(RegardError):
    """There is not enough memory or disk space."""

    exit_code = 5


def describe_lack_of_memory(error: BaseException) -> str | None:
    """Return a sentence where an error means that memory is not enough, else None.

    These are `MemoryError`, the errors of PyTorch's allocators, of CUDA, and of the system, which
    also refuses threads and libraries for it.

    >>> describe_lack_of_memory(MemoryError())
    'out of memory.'
    >>> describe_lack_of_memory(RuntimeError("out of memory. Tried to allocate 2.00 GiB."))
    'out of memory (2.00 GiB more were needed).'
    """
    is_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    kinds = (RuntimeError, ImportError, OSError, SystemError)
    if not isinstance(error, MemoryError) and not is_system:
        is_refused = isinstance(error, kinds) and not isinstance(error, RegardError)
        if not is_refused or _NO_MEMORY.search(str(error)) is None:
            return None
    asked = _ASKED_FOR.search(str(error))
    if asked is None:
        return "out of memory."
    amount = asked[2] or f"{int(asked[1]) / 1e6:,.0f} MB"
    return f"out of memory ({amount} more were needed)."


@contextmanager
def resource_errors(remedy: str | Callable[[], str]) -> Iterator[None]:
    """Raise ResourceError where the body needs more memory than there is.

    Args:
        remedy: What would need less, as a sentence, or a function that finds it.

    Raises:
        ResourceError: With the remedy.
    """  # noqa: DOC501 - other errors of the body pass as they are
    try:
        yield
    except (MemoryError, RuntimeError, ImportError, OSError, SystemError) as error:
        cause = describe_lack_of_memory(error)
        if cause is None:
            raise
        sentence = remedy if isinstance(remedy, str) else remedy()
        raise ResourceError(f"{cause}  {sentence}") from error


class ShapeError(RegardError, ValueError):
    """A tensor argument has a shape, type or device that the operation cannot take."""


def did_you_mean(word: str, candidates: Mapping[str, str] | Iterable[str]) -> str:
    """Return the question that an error asks after a word that is not known.

    Args:
        word: What was given.
        candidates: The known words; a mapping has what is proposed for each.

    Returns:
        ``"  Did you mean X?"`` for the most similar candidate; empty if none is similar.

    >>> did_you_mean("adem", ["adam", "muon"])
    '  Did you mean adam?'
    """
    proposals = (
        candidates if isinstance(candidates, Mapping) else {name: name for name in candidates}
    )
    close = difflib.get_close_matches(word, proposals, n=1)
    return f"  Did you mean {proposals[close[0]]}?" if close else ""


def advise_on_windows_path(name: str) -> str:
    r"""Return how a path of Windows is written under WSL; empty for any other name.

    >>> advise_on_windows_path(r"C:\data\pairs.tsv"), advise_on_windows_path("pairs.tsv")
    ('  A path of Windows?  Under WSL it is /mnt/c/data/pairs.tsv', '')
    """
    path = PureWindowsPath(name)
    if "\\" not in name and not (path.drive and path.is_absolute()):
        return ""
    is_on_drive = path.is_absolute() and len(path.drive) == 2  # a letter and a colon
    folder = Path("/mnt", path.drive[0].lower(), *path.parts[1:]) if is_on_drive else path
    return f"  A path of Windows?  Under WSL it is {folder.as_posix()}"


def shorten(value: object) -> str:
    """Return a wrong value as a message shows it: the beginning of a long one.

    >>> shorten("4"), shorten(10**50)
    ("'4'", '1000000000000000000000000000000000000000...')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more digits
        return "a number of over 4,300 digits"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
