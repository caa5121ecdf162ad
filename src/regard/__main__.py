"""The command ``regard``, also ``python -m regard``: runs a verb; failures become exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from regard.cli.app import build_app, overview
from regard.cli.wording import error_text
from regard.errors import RegardError

_USAGE, _INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``regard``; None takes the process's own.

    Returns:
        The exit code: 0 ok, 2 usage, 3 data, 4 model, 5 resources, 130 or 143 when stopped.
    """
    warnings.formatwarning = lambda message, *_, **__: f"regard: note: {message}\n"
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    if words in ([], ["--help"], ["-h"]):
        print(overview())
        return 0
    if "--help-config" in words:  # alone it means all sections
        index = words.index("--help-config") + 1
        if index == len(words) or words[index].startswith("-"):
            words.insert(index, "all")
    from cyclopts import CycloptsError

    from regard.training.signals import Stopped

    try:
        build_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except RegardError as error:
        return _fail(error_text(error), error.exit_code)
    except CycloptsError as error:
        verb = " ".join(("regard", *(error.command_chain or ())))
        return _fail(f"{error}  See: {verb} --help", _USAGE)
    except Stopped as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has closed it: no further output, no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"regard: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
