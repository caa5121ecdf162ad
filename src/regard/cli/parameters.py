"""Parameters of several verbs, for cyclopts.

To cyclopts a lone hyphen, which names standard input, is an option. It is replaced by a NUL, which
no word of a command line holds, and each parameter that can be a hyphen restores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclopts import Parameter, Token

_HYPHEN, _PROTECTED = "-", "\0"


def protect_hyphens(words: Sequence[str]) -> list[str]:
    """Return the words of a command with a NUL in place of each lone hyphen."""
    return [_PROTECTED if word == _HYPHEN else word for word in words]


def restore_hyphens(text: str) -> str:
    """Return a text with hyphens in place of NULs, as shown or as they are.

    >>> restore_hyphens(protect_hyphens(["-"])[0])
    '-'
    """
    return text.replace(_PROTECTED, _HYPHEN).replace(repr(_PROTECTED)[1:-1], _HYPHEN)


def _convert_word(_: object, tokens: Sequence[Token]) -> str:
    return _HYPHEN if tokens[0].value == _PROTECTED else tokens[0].value


def _refuse_empty(_: object, value: Any) -> None:
    """Raise ValueError for an empty name of a file or folder."""
    if value == "":
        raise ValueError("An empty name.  Name a file or folder.")


Flag = Parameter(negative=())
Text = Parameter(converter=_convert_word)
"""A text, or a file with texts; ``-`` is standard input."""
Name = Parameter(converter=_convert_word, validator=_refuse_empty)
"""A file or folder; ``-`` is standard input where data is read."""
Output = Parameter(name=["--output", "-o"], converter=_convert_word, validator=_refuse_empty)
AsText = Parameter(name="--text", negative=())
Settings = Parameter(name="--set", negative=())
