"""Values of settings: words and TOML converted by the type of a setting, and described."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, Literal, get_args

import msgspec
import msgspec.inspect as kinds

from regard.errors import ConfigError, did_you_mean
from regard.settings.validation import require_buildable

DecodingPrecision = Literal["float32", "bf16", "int8"]
"""Type of the weights that outputs are decoded with."""
NONE = "none"
"""How `None` is written."""
_LONGEST_TOML = 500_000  # characters, read in about a second
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|\'[^\'\n]*+\'?')
_DEEP_KEY = re.compile(r'(?<![\w-])(?:(?:[\w-]++|"")[ \t]*+\.[ \t]*+){20}')
"""The parser takes time quadratic in the parts of a name."""
_LISTS = (kinds.VarTupleType, kinds.TupleType)
_NOUNS = {
    kinds.BoolType: "true or false",
    kinds.IntType: "a whole number",
    kinds.FloatType: "a number",
    kinds.StrType: "text",
}


class Word(str):
    """A value as typed, which is converted by the type of its setting."""

    __slots__ = ()


def parse_toml(text: str) -> dict[str, Any]:
    """Return the settings in a TOML text, by name.

    Raises:
        ValueError: The text is not TOML, too long, or has tables too deep within each other.
    """
    if len(text) > _LONGEST_TOML:
        raise ValueError(f"{len(text):,} characters; {_LONGEST_TOML:,} at most are read")
    if _DEEP_KEY.search(_QUOTED.sub('""', text)):
        raise ValueError("a name with more than twenty dots, which no setting has")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("arrays or tables too deep within each other") from error


def convert_value(value: object, hint: object, name: str) -> object:
    """Return one value converted to its field's type; in TOML only `None` needs a word."""
    kind = kind_of(hint)
    plain = _parse_word(str(value), kind) if isinstance(value, Word) else value
    if plain == NONE and is_optional(kind):
        plain = None
    try:
        converted = msgspec.convert(plain, hint)
    except msgspec.ValidationError as error:
        words = [choice for choice, is_value in _choices(kind) if is_value]
        expected = f"{describe_values(kind)} was expected.{did_you_mean(word_of(value), words)}"
        raise ConfigError(f"{name}={word_of(value)}: {expected}") from error
    if type(converted) is int:
        try:
            require_buildable(name.rpartition(".")[2], converted)
        except ValueError as error:
            raise ConfigError(f"{name}={word_of(value)}: {error}") from error
    return converted


def kind_of(hint: object) -> kinds.Type:
    """Return a field's type, with choices in the order of their declaration and enums as such."""
    kind = kinds.type_info(hint)
    if isinstance(kind, kinds.UnionType):
        return kinds.UnionType(tuple(map(kind_of, get_args(hint))))
    if isinstance(kind, kinds.EnumType):
        return kinds.LiteralType(tuple(member.value for member in kind.cls))
    return kinds.LiteralType(get_args(hint)) if isinstance(kind, kinds.LiteralType) else kind


def is_optional(kind: kinds.Type) -> bool:
    """Return whether a value may be None."""
    return isinstance(kind, kinds.UnionType) and kind.includes_none


def _parse_word(text: str, kind: kinds.Type) -> object:
    """Return the value of a word; text that is not of the type stays text and is refused later."""
    parse = _PARSERS.get(type(kind))
    return text if parse is None else parse(text, kind)


def _parse_choice(text: str, kind: kinds.LiteralType) -> object:
    return next((value for value in kind.values if word_of(value) == text.strip()), text)


def _parse_flag(text: str, _: kinds.BoolType) -> object:
    return {"true": True, "false": False}.get(text.strip().lower(), text)


def _parse_number(text: str, kind: kinds.IntType | kinds.FloatType) -> object:
    try:
        value = int(text) if isinstance(kind, kinds.IntType) else float(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and math.isnan(value) else value


def _parse_list(text: str, kind: kinds.VarTupleType | kinds.TupleType) -> list[object]:
    if text.strip() in ("", "[]"):
        return []
    inner = _item_type(kind)
    return _parse_array(text) or [_parse_word(item.strip(), inner) for item in text.split(",")]


def _item_type(kind: kinds.VarTupleType | kinds.TupleType) -> kinds.Type:
    return kind.item_type if isinstance(kind, kinds.VarTupleType) else kind.item_types[0]


def _parse_union(text: str, kind: kinds.UnionType) -> object:
    """Return the value of a word as the first of several types that it fits, as text last."""
    if kind.includes_none and text.strip().lower() == NONE:
        return None
    is_array = bool(_parse_array(text)) or not _has_single_values(kind)
    members = [m for m in kind.types if is_array or not isinstance(m, _LISTS)]
    values = list(map(partial(_parse_word, text), members))
    return next((value for value in values if not isinstance(value, str)), text)


_PARSERS: dict[type[kinds.Type], Callable[[str, Any], object]] = {
    kinds.UnionType: _parse_union,
    kinds.LiteralType: _parse_choice,
    kinds.BoolType: _parse_flag,
    kinds.IntType: _parse_number,
    kinds.FloatType: _parse_number,
    kinds.VarTupleType: _parse_list,
    kinds.TupleType: _parse_list,
}
"""Readers of words by the type of their setting; words of other types stay text."""


def _has_single_values(kind: kinds.UnionType) -> bool:
    """Return whether a union has members other than lists and None: then a list has brackets."""
    return any(not isinstance(member, (*_LISTS, kinds.NoneType)) for member in kind.types)


def _parse_array(text: str) -> list[object]:
    """Return the items of an array as TOML writes it; empty for other text."""
    try:
        items = parse_toml(f"items = {text.strip()}")["items"]
    except ValueError:
        return []
    return items if isinstance(items, list) else []


def word_of(value: object) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, str):
        return str(value)
    value = msgspec.to_builtins(value)
    if isinstance(value, (list, tuple)):
        return ",".join(word_of(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _choices(kind: kinds.Type) -> list[tuple[str, bool]]:
    """Return every alternative of a type, True where it is a value and not a description."""
    match kind:
        case kinds.UnionType():
            return _choices_of_members(kind)
        case kinds.LiteralType():
            return [(word_of(value), True) for value in kind.values]
        case kinds.VarTupleType() | kinds.TupleType():
            return [(f"a comma-separated list of {_items(kind)}", False)]
        case kinds.NoneType():
            return [(NONE, True)]
    return [(_NOUNS[type(kind)], False)]


def _choices_of_members(kind: kinds.UnionType) -> list[tuple[str, bool]]:
    members = sorted(kind.types, key=lambda member: isinstance(member, kinds.NoneType))
    choices = list(chain.from_iterable(map(_choices, members)))
    if _has_single_values(kind):
        return [(text.replace("comma-separated", "bracketed"), v) for text, v in choices]
    return choices


def describe_values(kind: kinds.Type) -> str:
    """Return the values of a type in words: ``a number or none``, ``one of pre, post``."""
    *firsts, last = [choice for choice, _ in _choices(kind)]
    if firsts and all(is_value for _, is_value in _choices(kind)):
        return f"one of {', '.join([*firsts, last])}"
    return f"{', '.join(firsts)} or {last}" if firsts else last


def _items(kind: kinds.VarTupleType | kinds.TupleType) -> str:
    """Return the items of a list in words: ``2 numbers``, ``pre, post``."""
    count = f"{len(kind.item_types)} " if isinstance(kind, kinds.TupleType) else ""
    item = describe_values(_item_type(kind)).removeprefix("one of ")
    return count + (f"{item[2:]}s" if item.startswith("a ") else item)
