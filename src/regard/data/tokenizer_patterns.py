"""The regular expressions of a ``tokenizer.json``: those that could take forever are refused.

`tokenizers` matches them by Oniguruma, which backtracks and cannot be interrupted: ``(a+)+$`` takes
2^n steps on n letters. What is refused (Kirrage, Rathnayake & Thielecke 2013, section 2, names the
causes): a repeated group whose content can match the same text in several ways, since it has a
quantifier or alternatives of its own; more than three unlimited quantifiers one after another;
references back; and the extended form, which is not read here. No known vocabulary has one.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import NamedTuple

import msgspec

from regard.errors import WeightsError

_LONGEST = 5_000  # characters
_DEEPEST = 50  # groups within each other
_MOST_UNLIMITED = 3  # quantifiers on one path: n characters take up to n^3 steps
_MOST_REPEATS = 1_000
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d*)(,?)(\d*)\})[?+]?")
_REFERENCE = re.compile(r"\\(?:[1-9]|[kg][<'])")
_EXTENDED = re.compile(r"\(\?[a-wyzA-Z-]*x")  # spaces count as nothing, before quantifiers too
_GROUP_START = re.compile(r"\((?:\?(?:<?[=!]|[>:~]|<\w+>|[a-zA-Z-]*:|[a-zA-Z-]*(?=\))))?")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|.)", re.DOTALL)


class _Parts(msgspec.Struct):
    """The parts of a tokenizer that may hold regular expressions."""

    normalizer: object = None
    pre_tokenizer: object = None
    post_processor: object = None
    decoder: object = None


class _Cost(NamedTuple):
    """What a part of an expression may cost: unlimited quantifiers on a path, and ambiguity."""

    num_unlimited: int
    is_ambiguous: bool


class _TooCostlyError(ValueError):
    """An expression that could take forever, with the reason."""


def check_patterns(text: str, *, name: str) -> None:
    """Check every regular expression of a ``tokenizer.json``.

    Args:
        text: The content of the file.
        name: Name of the file, for messages.

    Raises:
        WeightsError: An expression could take forever on some text, or the file is not JSON.
    """
    try:
        parts = msgspec.json.decode(text, type=_Parts)
        patterns = _collect(msgspec.to_builtins(parts))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: not a tokenizer file ({error}).") from error
    for pattern in patterns:
        try:
            _check(pattern)
        except _TooCostlyError as error:
            raise WeightsError(
                f"{name}: the regular expression {pattern[:80]!r} could take forever ({error}).  "
                "Take the vocabulary from where it was published."
            ) from error


def _collect(value: object) -> list[str]:
    """Return the texts under the key ``Regex`` in nested objects."""
    if isinstance(value, dict):
        pattern, inner = value.get("Regex"), value.values()
    else:
        pattern, inner = None, value if isinstance(value, list) else ()
    patterns = list(chain.from_iterable(map(_collect, inner)))
    return [pattern, *patterns] if isinstance(pattern, str) else patterns


def _check(pattern: str) -> None:
    """Raise _TooCostlyError for an expression that could take forever.

    Raises:
        _TooCostlyError: It has a form that is not taken, which the message names.

    >>> _check(r" ?[^\\s\\p{L}]+|\\s+(?!\\S)")
    >>> _check(r"(a+)+$")
    Traceback (most recent call last):
    ...
    regard.data.tokenizer_patterns._TooCostlyError: a repeated group that can match in several ways
    """
    if len(pattern) > _LONGEST:
        raise _TooCostlyError(f"{len(pattern):,} characters, {_LONGEST:,} at most are taken")
    if _REFERENCE.search(pattern.replace("\\\\", "")):
        raise _TooCostlyError("a reference back")
    if _EXTENDED.search(pattern):
        raise _TooCostlyError("an extended expression")
    position = 0
    while position < len(pattern):
        _, position = _alternatives(pattern, position, 0)
        position += 1  # a closing bracket without its opening one


def _alternatives(pattern: str, position: int, depth: int) -> tuple[_Cost, int]:
    """Return the cost of the alternatives from a position on, and where they end."""
    if depth > _DEEPEST:
        raise _TooCostlyError(f"groups within each other, more than {_DEEPEST} deep")
    costs: list[int] = []
    num_unlimited, is_ambiguous = 0, False
    while position < len(pattern) and pattern[position] != ")":
        if pattern[position] == "|":
            costs.append(num_unlimited)
            num_unlimited, is_ambiguous, position = 0, True, position + 1
            continue
        cost, position = _atom(pattern, position, depth)
        cost, position = _repeated(cost, pattern, position)
        num_unlimited += cost.num_unlimited
        is_ambiguous |= cost.is_ambiguous
        if num_unlimited > _MOST_UNLIMITED:
            raise _TooCostlyError(f"more than {_MOST_UNLIMITED} unlimited quantifiers in a row")
    return _Cost(max([*costs, num_unlimited]), is_ambiguous), position


def _atom(pattern: str, position: int, depth: int) -> tuple[_Cost, int]:
    """Return the cost of a character, a class or a group, and where it ends."""
    if pattern[position] == "(":
        start = _GROUP_START.match(pattern, position)
        assert start is not None
        cost, end = _alternatives(pattern, start.end(), depth + 1)
        return cost, end + 1
    if pattern[position] == "[":
        return _Cost(0, False), _end_of_class(pattern, position)
    escape = _ESCAPE.match(pattern, position)
    return _Cost(0, False), position + 1 if escape is None else escape.end()


def _end_of_class(pattern: str, position: int) -> int:
    """Return where a class of characters ends, with classes within it."""
    depth = 0
    while position < len(pattern):
        if escape := _ESCAPE.match(pattern, position):
            position = escape.end()
            continue
        depth += {"[": 1, "]": -1}.get(pattern[position], 0)
        position += 1
        if depth == 0:
            break
        if pattern.startswith(("]", "^]"), position) and pattern[position - 1] == "[":
            position += 2 if pattern[position] == "^" else 1  # a bracket that is first is itself
    return position


def _bounds(quantifier: re.Match[str]) -> tuple[int, int | None]:
    """Return the least and the most repeats of a quantifier; None has no limit."""
    if quantifier[0][0] != "{":
        return int(quantifier[0][0] == "+"), 1 if quantifier[0][0] == "?" else None
    least = int(quantifier[1][:9] or 0)
    if not quantifier[2]:
        return least, least
    return least, int(quantifier[3][:9]) if quantifier[3] else None


def _repeated(cost: _Cost, pattern: str, position: int) -> tuple[_Cost, int]:
    """Return the cost of what ends at a position with the quantifiers that follow."""
    while (match := _QUANTIFIER.match(pattern, position)) is not None and match[0] != "{}":
        position = match.end()
        least, most = _bounds(match)
        copies = most or 1
        if max(least, copies) > _MOST_REPEATS:
            raise _TooCostlyError(f"more than {_MOST_REPEATS:,} repeats")
        if cost.is_ambiguous and most not in range(_MOST_UNLIMITED + 1):
            raise _TooCostlyError("a repeated group that can match in several ways")
        unlimited = cost.num_unlimited * copies + (most is None)
        cost = _Cost(unlimited, cost.is_ambiguous or least != most)
    return cost, position
