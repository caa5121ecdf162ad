"""Parameters of several verbs, for cyclopts.

To cyclopts a lone hyphen, which names standard input, is an option. It is replaced by a NUL, which
no word of a command line holds, and each parameter that can be a hyphen restores it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter as SignatureParameter
from inspect import signature
from typing import Any, get_args

from cyclopts import (
    CycloptsError,
    MissingArgumentError,
    Parameter,
    Token,
    UnusedCliTokensError,
    convert,
)

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
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return restore_hyphens(_describe_missing(error, verb))
    return restore_hyphens(f"{error}  See: {verb} --help")


def _describe_missing(error: MissingArgumentError, verb: str) -> str:
    """Return in words that a verb needs a word, or an option a value, and how the verb is used."""
    assert error.argument is not None, "what is missing"
    typed = [error.keyword, *(token.keyword for token in reversed(error.argument.tokens))]
    option = next(filter(None, typed), None)
    if option is not None:
        return f"{option} needs a value.  See: {verb} --help"
    if error.target is None or not error.argument.field_info.is_positional:
        return f"{error.argument.names[-1]} is missing.  See: {verb} --help"
    name = error.argument.field_info.name.upper()
    return f"{name} is missing.  {_usage(verb, _positionals(error.target))}"


def _positionals(function: Callable[..., object]) -> list[SignatureParameter]:
    """Return the parameters of a function that are words of the command line, not options."""
    parameters = signature(function, eval_str=True).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]


def _usage(verb: str, parameters: Iterable[SignatureParameter]) -> str:
    """Return how a verb is used: its words, in brackets where it does not need them."""
    usage = [verb]
    for parameter in parameters:
        name = parameter.name.upper()
        usage.append(name if parameter.default is parameter.empty else f"[{name}]")
    return f"Usage: {' '.join(usage)} [OPTIONS]  See: {verb} --help"


def _describe_surplus(words: Sequence[str], verb: str, function: Callable[..., object]) -> str:
    """Return in words that a verb does not take some words, and how it is used.

    Args:
        words: What is left of the command line.
        verb: The verb, such as ``regard answer``.
        function: Runs the verb; its positional parameters are the words that it takes.
    """
    parameters = _positionals(function)
    takes_text = any(
        Text in getattr(parameter.annotation, "__metadata__", ()) for parameter in parameters
    )
    listed = ", ".join(f'"{word}"' for word in words)
    verb_form = "is" if len(words) == 1 else "are"
    advice = ""
    if takes_text and all(map(os.path.exists, words)):
        advice = "  Several files?  Name their folder, or join them: one file is read."
    elif takes_text:
        advice = "  Put a text of several words in quotes."
    return f"{listed} {verb_form} not expected.{advice}  {_usage(verb, parameters)}"


Flag = Parameter(negative=())
Text = Parameter(converter=_convert_word)
"""A text, or a file with texts; ``-`` is standard input."""
Name = Parameter(converter=_convert_word, validator=_refuse_empty)
"""A file or folder; ``-`` is standard input where data is read."""
Output = Parameter(name=["--output", "-o"], converter=_convert_word, validator=_refuse_empty)
AsText = Parameter(name="--text", negative=())
Settings = Parameter(name="--set", negative=())
