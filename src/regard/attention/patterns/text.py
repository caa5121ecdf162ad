"""Patterns as text, for settings and command lines: ``local:256|global:0``.

    pattern   = union
    union     = intersection ("|" intersection)*      either allows
    intersection = operand ("&" operand)*             both allow; binds tighter than "|"
    operand   = "(" pattern ")" | name | name ":" arguments

The names are those of `PATTERNS`, whose classes read their own arguments. In a decoder every
pattern is causal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regard.attention.patterns import PATTERNS, Causal, Full
from regard.attention.patterns.base import (
    LengthDependentPair,
    MaskPair,
    Pattern,
    ScoreDependentPattern,
)
from regard.errors import ConfigError, did_you_mean

PATTERNS.import_all()
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
        ConfigError: The text does not describe a pattern; the message says what is allowed.

    >>> parse_pattern("local:256|global:0")
    (Local(before=256, after=256) | Global(positions=(0,)))
    >>> parse_pattern("local:256", is_decoder=True)
    (Local(before=256, after=0) & Causal())
    """
    text = "".join(text.split())
    tokens = [*_TOKEN.findall(text)]  # a copy: PyTorch 2.11's compiler takes nothing from a result
    pattern = _Parser(text, tokens, is_decoder).parse()
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

    >>> from regard.attention import Global, Local
    >>> format_pattern((Local(2, 0) | Global([0, 5])) & Causal())
    '(local:2,0|global:0,5)&causal'
    """
    text = pattern.to_text()
    if text is not None:
        return text
    while isinstance(pattern, MaskPair | LengthDependentPair):
        pattern = pattern.left if pattern.left.to_text() is None else pattern.right
    raise ConfigError(f"{pattern!r} has no text form.  Known: {known_forms()}.")


def known_forms() -> str:
    """List the text forms of all patterns."""
    forms = ", ".join(kind.synopsis for kind in PATTERNS.values())
    return f"{forms}, joined by | and & and parentheses"


def _has_causal_factor(pattern: Pattern) -> bool:
    if isinstance(pattern, MaskPair | LengthDependentPair) and pattern.symbol == "&":
        return _has_causal_factor(pattern.left) or _has_causal_factor(pattern.right)
    return isinstance(pattern, Causal)


@dataclass(eq=False)
class _Parser:
    """Reads one text, from left to right; tokens are taken out as they are read."""

    text: str
    tokens: list[str]
    is_decoder: bool

    def parse(self) -> Pattern:
        pattern = self._union()
        if self.tokens:
            raise self._error(f'"{self.tokens[0]}" is not expected after a complete pattern.')
        return pattern

    def _union(self) -> Pattern:
        pattern = self._intersection()
        while self._next_is("|"):
            pattern = self._join(pattern, "|", self._intersection())
        return pattern

    def _intersection(self) -> Pattern:
        pattern = self._operand()
        while self._next_is("&"):
            pattern = self._join(pattern, "&", self._operand())
        return pattern

    def _operand(self) -> Pattern:
        if self._next_is("("):
            pattern = self._union()
            if not self._next_is(")"):
                raise self._error("a closing parenthesis is missing.")
            return pattern
        if not self.tokens or self.tokens[0] in "|&)":
            raise self._error(f"a pattern is missing.  Known: {known_forms()}.")
        return self._named(self.tokens.pop(0))

    def _next_is(self, symbol: str) -> bool:
        """Skip a symbol; False where another token or none comes next."""
        is_next = bool(self.tokens) and self.tokens[0] == symbol
        if is_next:
            self.tokens.pop(0)
        return is_next

    def _join(self, left: Pattern, symbol: str, right: Pattern) -> Pattern:
        for operand in (left, right):
            if isinstance(operand, ScoreDependentPattern):
                raise self._error(operand.refusal)
        return left | right if symbol == "|" else left & right

    def _named(self, token: str) -> Pattern:
        name, colon, arguments = token.partition(":")
        if name not in PATTERNS:
            forms = {pattern: f"{pattern}{colon}{arguments}" for pattern in PATTERNS}
            hint = did_you_mean(name.lower(), forms)
            raise ConfigError(
                f'attention.pattern: "{token}" is not a pattern.{hint}  Known: {known_forms()}.'
            )
        try:
            return PATTERNS[name].from_text(
                arguments if colon else None, is_decoder=self.is_decoder
            )
        except ConfigError as error:
            raise self._error(str(error)) from error

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"attention.pattern={self.text}: {problem}")
