"""Parameters of several verbs, for cyclopts.

To cyclopts a lone hyphen, which names standard input, is an option. It is replaced by a NUL, which
no word of a command line holds, and each parameter that can be a hyphen restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, get_args

from cyclopts import CycloptsError, Parameter, Token, UnusedCliTokensError, convert

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


def convert_typed(kind: Any, tokens: Sequence[Token]) -> Any:
    """Return the value of an option, which cyclopts would round where a whole number is expected.

    Raises:
        ValueError: It is a fraction, and the option takes whole numbers.
    """
    if int in (get_args(kind) or (kind,)) and any("." in token.value for token in tokens):
        raise ValueError(f"{tokens[0].value}: a whole number was expected.")
    return convert(kind, tokens)


def _refuse_empty(_: object, value: Any) -> None:
    """Raise ValueError for an empty name of a file or folder."""
    if value == "":
        raise ValueError("An empty name.  Name a file or folder.")


def describe_misuse(error: CycloptsError) -> str:
    """Return what is wrong with the words of a command, and where its usage is described."""
    verb = " ".join(("regard", *(error.command_chain or ())))
    if isinstance(error, UnusedCliTokensError) and error.target is not None:
        return restore_hyphens(_describe_surplus(error.unused_tokens or (), verb, error.target))
    return restore_hyphens(f"{error}  See: {verb} --help")


def _describe_surplus(words: Sequence[str], verb: str, function: Callable[..., object]) -> str:
    """Return in words that a verb does not take some words, and how it is used.

    Args:
        words: What is left of the command line.
        verb: The verb, such as ``regard answer``.
        function: Runs the verb; its positional parameters are the words that it takes.
    """
    usage, takes_text = [verb], False
    for parameter in signature(function, eval_str=True).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            name = parameter.name.upper()
            usage.append(name if parameter.default is parameter.empty else f"[{name}]")
            takes_text = Text in getattr(parameter.annotation, "__metadata__", ())
    listed = ", ".join(f'"{word}"' for word in words)
    verb_form = "is" if len(words) == 1 else "are"
    quotes = "  Put a text of several words in quotes." if takes_text else ""
    return (
        f"{listed} {verb_form} not expected.{quotes}  Usage: {' '.join(usage)} [OPTIONS]  "
        f"See: {verb} --help"
    )


Flag = Parameter(negative=())
Text = Parameter(converter=_convert_word)
"""A text, or a file with texts; ``-`` is standard input."""
Name = Parameter(converter=_convert_word, validator=_refuse_empty)
"""A file or folder; ``-`` is standard input where data is read."""
Output = Parameter(name=["--output", "-o"], converter=_convert_word, validator=_refuse_empty)
AsText = Parameter(name="--text", negative=())
Settings = Parameter(name="--set", negative=())
