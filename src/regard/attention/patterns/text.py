"""Patterns as text, for settings and command lines: ``local:256|global:0``.

    pattern   = any ("|" any)*            either allows
    any       = one ("&" one)*            both allow; binds tighter than "|"
    one       = "(" pattern ")" | name | name ":" numbers

The names are told by `KNOWN`. In a decoder every pattern is causal.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal

from regard.attention.patterns import (
    Causal,
    Full,
    Global,
    Hierarchical,
    Local,
    RandomBlocks,
    RelativeWindow,
    Strided,
    TopK,
)
from regard.attention.patterns.base import Intersection, Pattern, ScoreDependentPattern, Union
from regard.errors import ConfigError

KNOWN = (
    "full, causal, local:B, local:B,A, strided:S, global:P,P,..., random:SIZE:COUNT, top_k:K, "
    "hierarchical:B, joined by | and & and parentheses"
)

_FORMS = {
    "full": "full, without numbers",
    "causal": "causal, without numbers",
    "local": "local:B or local:B,A (positions before, after), e.g. local:256, or both a fraction "
    "of the length, e.g. local:0.1",
    "strided": "strided:S (every S-th key), e.g. strided:8",
    "global": "global:P,P,... (positions from 0), e.g. global:0",
    "random": "random:SIZE:COUNT or random:SIZE:COUNT:SEED (positions in a block, blocks that each "
    "sees), e.g. random:64:3",
    "top_k": "top_k:K (keys a query keeps), e.g. top_k:16",
    "hierarchical": "hierarchical:B (positions in a block), e.g. hierarchical:64",
}

_NO_WINDOW = "the window must be 1 or more (or a fraction of the length, e.g. local:0.1)."

_NUMBER = re.compile(r"[0-9]{1,18}")
_SHARE = re.compile(r"[0-9]*\.[0-9]+|0")
_TOKEN = re.compile(r"[|&()]|[^|&()]+")


def parse_pattern(text: str, *, is_decoder: bool = False) -> Pattern:
    """Read a pattern.

    Args:
        text: ``full``, ``causal``, ``local:B`` (B positions before, and B after in an encoder),
            ``local:B,A`` (B before, A after), each perhaps as a fraction of the length such as
            ``local:0.1``, ``strided:S``, ``global:P,P,...``, ``random:SIZE:COUNT:SEED`` (0 where
            the seed is left out), joined by ``|``, ``&`` (binds tighter) and parentheses; or
            ``top_k:K`` or ``hierarchical:B`` alone, with ``,causal`` for their causal form. Spaces
            do not matter.
        is_decoder: Allow only keys at or before the query, whatever the text says.

    Returns:
        The pattern.

    Raises:
        ConfigError: The text is no pattern; the message tells what is allowed.

    >>> parse_pattern("local:256|global:0")
    (Local(before=256, after=256) | Global(positions=(0,)))
    >>> parse_pattern("local:256", is_decoder=True)
    (Local(before=256, after=0) & Causal())
    """
    pattern = _Parser("".join(text.split()), is_decoder).parse()
    if not is_decoder or isinstance(pattern, ScoreDependentPattern) or _has_causal_factor(pattern):
        return pattern
    return Causal() if isinstance(pattern, Full) else pattern & Causal()


def format_pattern(pattern: Pattern) -> str:
    """Write a pattern as `parse_pattern` reads it.

    Args:
        pattern: The pattern.

    Returns:
        Text that `parse_pattern` turns into an equal pattern, outside decoders or where the pattern
        is causal already.

    Raises:
        ConfigError: The pattern has no text form (a table of `Blocks`, or one of your own).

    >>> format_pattern((Local(2, 0) | Global([0, 5])) & Causal())
    '(local:2,0|global:0,5)&causal'
    """
    if isinstance(pattern, Union | Intersection):
        return (
            f"{_operand(pattern, pattern.left)}{pattern.symbol}{_operand(pattern, pattern.right)}"
        )
    if isinstance(pattern, Full | Causal):
        return type(pattern).__name__.lower()
    if isinstance(pattern, Local):
        return f"local:{pattern.before},{pattern.after}"
    if isinstance(pattern, RelativeWindow):
        return f"local:{_decimal(pattern.before)},{_decimal(pattern.after)}"
    if isinstance(pattern, RandomBlocks):
        return f"random:{pattern.size}:{pattern.per_row}:{pattern.seed}"
    if isinstance(pattern, Strided):
        return f"strided:{pattern.stride}"
    if isinstance(pattern, Global) and pattern.positions:
        return f"global:{','.join(map(str, pattern.positions))}"
    if isinstance(pattern, TopK):
        return f"top_k:{pattern.k}" + (",causal" if pattern.causal else "")
    if isinstance(pattern, Hierarchical):
        return f"hierarchical:{pattern.block}" + (",causal" if pattern.causal else "")
    raise ConfigError(f"{pattern!r} has no text form.  Known: {KNOWN}.")


def _decimal(number: float) -> str:
    """Write a number with a point and without an exponent, so that it reads back the same."""
    return f"{Decimal(str(float(number))):f}"


def _operand(parent: Union | Intersection, child: Pattern) -> str:
    """Write one side, in parentheses unless reading from the left gives the same tree."""
    text = format_pattern(child)
    is_plain = not isinstance(child, Union | Intersection)
    is_left = child is parent.left
    binds = isinstance(child, Intersection) and isinstance(parent, Union)
    if is_plain or binds or (is_left and type(child) is type(parent)):
        return text
    return f"({text})"


def _has_causal_factor(pattern: Pattern) -> bool:
    if isinstance(pattern, Intersection):
        return _has_causal_factor(pattern.left) or _has_causal_factor(pattern.right)
    return isinstance(pattern, Causal)


class _Parser:
    """Reads one text, from left to right."""

    def __init__(self, text: str, is_decoder: bool) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._is_decoder = is_decoder

    def parse(self) -> Pattern:
        pattern = self._either()
        if self._tokens:
            raise self._error(f'"{self._tokens[0]}" is not expected after a complete pattern.')
        return pattern

    def _either(self) -> Pattern:
        pattern = self._both()
        while self._take("|"):
            pattern = self._join(pattern, "|", self._both())
        return pattern

    def _both(self) -> Pattern:
        pattern = self._one()
        while self._take("&"):
            pattern = self._join(pattern, "&", self._one())
        return pattern

    def _one(self) -> Pattern:
        if self._take("("):
            pattern = self._either()
            if not self._take(")"):
                raise self._error("a closing parenthesis is missing.")
            return pattern
        if not self._tokens or self._tokens[0] in "|&)":
            raise self._error(f"a pattern is missing.  Known: {KNOWN}.")
        return self._named(self._tokens.pop(0))

    def _take(self, symbol: str) -> bool:
        found = bool(self._tokens) and self._tokens[0] == symbol
        if found:
            self._tokens.pop(0)
        return found

    def _join(self, left: Pattern, symbol: str, right: Pattern) -> Pattern:
        for side in (left, right):
            if isinstance(side, ScoreDependentPattern):
                raise self._error(side.refusal)
        return left | right if symbol == "|" else left & right

    def _named(self, token: str) -> Pattern:
        name, colon, rest = token.partition(":")
        if name not in _FORMS:
            raise ConfigError(_unknown(token, name, colon + rest))
        is_causal = self._is_decoder
        if name in ("top_k", "hierarchical") and rest.endswith(",causal"):
            rest, is_causal = rest.removesuffix(",causal"), True
        try:
            if name == "local" and "." in rest:
                return self._share(rest.split(","))
            parts = rest.split(":" if name == "random" else ",")
            numbers = [int(part) for part in parts if _NUMBER.fullmatch(part)]
            if len(numbers) < len(parts) and colon:
                raise ConfigError(f"expected {_FORMS[name]}.")
            return self._build(name, numbers, is_causal)
        except ConfigError as error:
            raise self._error(str(error)) from error

    def _share(self, parts: list[str]) -> Pattern:
        if len(parts) > 2 or not all(_SHARE.fullmatch(part) for part in parts):
            raise ConfigError(f"expected {_FORMS['local']}.")
        before, *given = map(float, parts)
        after = given[0] if given else 0.0 if self._is_decoder else before
        if before == after == 0:
            raise ConfigError(_NO_WINDOW)
        return RelativeWindow(before, after)

    def _build(self, name: str, numbers: list[int], is_causal: bool) -> Pattern:
        match name, numbers:
            case "full", []:
                return Full()
            case "causal", []:
                return Causal()
            case "local", [0]:
                raise ConfigError(_NO_WINDOW)
            case "local", [before]:
                return Local(before, 0 if self._is_decoder else before)
            case "local", [before, after]:
                return Local(before, after)
            case "strided", [stride]:
                return Strided(stride)
            case "global", [_, *_]:
                return Global(numbers)
            case "random", [size, per_row]:
                return RandomBlocks(size, per_row)
            case "random", [size, per_row, seed]:
                return RandomBlocks(size, per_row, seed)
            case "top_k", [k]:
                return TopK(k, causal=is_causal)
            case "hierarchical", [block]:
                return Hierarchical(block, causal=is_causal)
        raise ConfigError(f"expected {_FORMS[name]}.")

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"attention.pattern={self._text}: {problem}")


def _unknown(token: str, name: str, arguments: str) -> str:
    close = difflib.get_close_matches(name.lower(), _FORMS, n=1)
    hint = f"  Did you mean {close[0]}{arguments}?" if close else ""
    return f'attention.pattern: "{token}" is not a pattern.{hint}  Known: {KNOWN}.'
