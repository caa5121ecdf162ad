"""The command ``regard``, also ``python -m regard``: runs a verb; failures become exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOBase, TextIOWrapper

try:
    from regard.cli import VERBS
    from regard.cli.app import build_app, overview
    from regard.cli.failures import (
        INTERRUPTED,
        USAGE,
        Ending,
        describe_failure,
        describe_output_failure,
    )
    from regard.cli.garbage import defer_collection
    from regard.cli.torchrun import (
        earlier_code,
        end_after_first,
        note_code,
        note_rank,
        prepare_rank,
        runs_on_all_ranks,
    )
    from regard.cli.wording import message_text
    from regard.errors import ConfigError
except KeyboardInterrupt:  # before `main` could catch it
    print("regard: interrupted", file=sys.stderr)
    sys.exit(130)

_SPINS = "10000"  # longer than the pause between two operations of a model; 1000 is 20 % slower
_BYTE = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as Python keeps it in a word


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``regard``; None takes the process's own.

    Returns:
        The exit code: 0 ok, 2 usage, 3 data, 4 model, 5 resources, 130 or 143 when stopped, 141
        when the reader of standard output left, as ``| head`` does.

    Of the processes that torchrun has started, the first alone works and writes; all of them train,
    and evaluate.
    """
    _bound_spinning()
    warnings.formatwarning = lambda message, *_, **__: (
        f"regard: note: {message_text(f'{message}')}\n"
    )
    words = _own_words() if arguments is None else list(arguments)
    sys.stdout = sys.stdout or _ClosedStream()
    sys.stderr = sys.stderr or _ClosedStream(is_silent=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        if (code := earlier_code()) is not None:
            return code
        is_other = prepare_rank()
        if is_other and not runs_on_all_ranks(words):
            note_rank()
            return 0
        ending = _run(words)
        note_code(ending.code)
        if is_other and ending.code:
            return end_after_first(ending.code)
        _fail(ending)
        sys.stdout.flush()
    except ConfigError as error:
        return _fail(Ending(error.exit_code, str(error)))
    except KeyboardInterrupt:  # outside the verb, while modules are loaded
        return _fail(Ending(INTERRUPTED, "interrupted"))
    except OSError as error:
        if error.filename is None:
            _discard_output()
        return _fail(describe_output_failure(error))
    return ending.code


def _run(words: list[str]) -> Ending:
    """Run a verb; return how it ends. An output that cannot be written raises OSError."""
    if (problem := _problem_of(words)) is not None:
        return Ending(USAGE, problem)
    if words in ([], ["--help"], ["-h"]):
        print(overview())
        return Ending(0)
    if "--help-config" in words:  # alone it means all sections
        index = words.index("--help-config") + 1
        if index == len(words) or words[index].startswith("-"):
            words.insert(index, "all")
    from cyclopts import CycloptsError

    from regard.cli.parameters import describe_misuse, protect_hyphens

    words = protect_hyphens(words)
    try:
        build_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return Ending(USAGE, describe_misuse(error))
    except BaseException as error:
        ending = describe_failure(error, words[0] if words else "")
        if ending is None:
            raise
        return ending
    return Ending(0)


def _own_words() -> list[str]:
    """Return the words of this process, in which garbage is collected later."""
    words = sys.argv[1:]
    verb = VERBS.get(words[0]) if words else None
    if verb is not None and verb.opens_model:
        defer_collection()
    return words


def _bound_spinning() -> None:
    """Let PyTorch's threads sleep soon when they wait for each other.

    By default a thread of OpenMP waits for the others in a loop of milliseconds. On a machine with
    other work it takes the core from the very thread that it waits for: the steps of a small model
    take 10 to 30 times as long. GNU OpenMP reads the setting when PyTorch is loaded; what the user
    has set stays.
    """
    user_settings = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    if not user_settings and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def _problem_of(words: Sequence[str]) -> str | None:
    """Return why a word cannot be a name or a text; None if all can."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            readable = word.encode("utf-8", "backslashreplace").decode()
            position = len(word[: error.start].encode()) + 1
            character = ord(word[error.start])
            if sys.getfilesystemencoding() != "utf-8" and _BYTE.match(word[error.start]):
                return (
                    f'"{os.fsencode(word).decode("utf-8", "backslashreplace")}": not in '
                    f"{sys.getfilesystemencoding()}, the encoding of this locale.  Take UTF-8: set "
                    "PYTHONUTF8=1"
                )
            if not _BYTE.match(word[error.start]):
                cause = f"half of a character (U+{character:04X}) at byte {position}."
            else:
                cause = f"not UTF-8 at byte {position} (0x{character - 0xDC00:02X})."
            return f'"{readable}": {cause}  Names and texts of a command are UTF-8.'
        if "\0" in word:
            return f"{word!r}: a NUL byte.  Names and texts of a command hold none."
    return None


def _fail(ending: Ending) -> int:
    """Say how a command ends; return its exit code."""
    if ending.message:
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):  # the message cannot be readable, the code can
            print(f"regard: {ending.message}", file=sys.stderr)
    return ending.code


def _discard_output() -> None:
    """Let what is still in the buffer of standard output go nowhere, without an error at exit."""
    with suppress(OSError, ValueError):  # a stream in memory has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stdout.flush()


class _ClosedStream(TextIOBase):
    """Stands for standard output that was closed before the start.

    Args:
        is_silent: Whether a text that is written to it is dropped without an error.
    """

    def __init__(self, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent

    def write(self, text: str) -> int:
        """Raise OSError, or drop the text."""
        if not self._is_silent:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return len(text)


if __name__ == "__main__":
    sys.exit(main())
