"""Checks of numbers in settings, for the ``__post_init__`` of a configuration.

Each takes the configuration and names of settings, and raises ``ValueError`` in the form that
`regard.settings.binding` expects. A setting that is `None` passes. `require_range` checks a number
that is not part of a configuration, `require_options` the options of a call, and `require_texts`
the texts that a model is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from regard.errors import ConfigError, did_you_mean, shorten

_SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST = 10**12
"""Largest whole number of a setting or on the command line."""
_LARGEST_SIZE = 1 << 24  # of a layer: 10^7 rows of 10^7 float32 are above any memory
_LARGEST_DEPTH = 1_000  # layers: more are built for hours

_NOUNS = {str: "a text", Path: "a path", Sequence: "a list of texts"}

C = TypeVar("C", bound=msgspec.Struct)
"""A configuration."""


def require_at_least(least: int, config: msgspec.Struct, *names: str) -> None:
    """Check that settings are `least` or more.

    >>> class Sizes(msgspec.Struct):
    ...     dim: int = 0
    >>> require_at_least(1, Sizes(), "dim")
    Traceback (most recent call last):
    ...
    ValueError: dim must be 1 or more, not 0
    """
    _require(lambda value: value >= least, f"{least} or more", config, names)
    for name in names:
        require_buildable(name, getattr(config, name))


def require_at_most(most: int, config: msgspec.Struct, *names: str) -> None:
    """Check that settings are `most` or less."""
    _require(lambda value: value <= most, f"{most:,} or less", config, names)


def require_range(name: str, value: float | None, low: float, high: float) -> None:
    """Check that a number is in a range; None passes.

    Raises:
        ConfigError: It is not.

    >>> require_range("--top", 0, 1, 1000)
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: --top 0: must be 1 to 1,000.
    """
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{name} {shorten(value)}: must be {low:,} to {high:,}.")


def require_path(name: str, value: object, what: str) -> None:
    """Check that an argument is a path.

    Args:
        name: Name of the argument.
        value: The value.
        what: What the path is of, such as ``a model folder``.

    Raises:
        TypeError: It is not.

    >>> require_path("folder", None, "a model folder")
    Traceback (most recent call last):
    ...
    TypeError: `folder`: the path of a model folder was expected, a text or a Path, not NoneType.
    """
    if not isinstance(value, str | PathLike):
        raise TypeError(
            f"`{name}`: the path of {what} was expected, a text or a Path, not "
            f"{type(value).__name__}."
        )


def require_kind(name: str, value: object, kind: type, expected: str) -> None:
    """Check that an argument is of a class.

    Args:
        name: Name of the argument.
        value: The value.
        kind: The class.
        expected: What is expected, in words.

    Raises:
        TypeError: It is of another one.

    >>> require_kind("explanation", None, dict, "what `explain` returns")
    Traceback (most recent call last):
    ...
    TypeError: `explanation`: what `explain` returns was expected, not NoneType.
    """
    if not isinstance(value, kind):
        raise TypeError(f"`{name}`: {expected} was expected, not {type(value).__name__}.")


def require_number(name: str, value: object, *, is_whole: bool = False) -> None:
    """Check that an argument is a number, and not NaN; None passes, and infinity.

    Args:
        name: Name of the argument.
        value: The value.
        is_whole: Whether it must be a whole number.

    Raises:
        ConfigError: It is not, or is a whole number beyond `LARGEST`.

    >>> require_number("beam", "4", is_whole=True)
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: `beam`: a whole number was expected, not '4' (str).
    """
    kind, noun = (Integral, "a whole number") if is_whole else (Real, "a number")
    if value is not None and not _is_number(value, kind):
        _refuse_type(name, noun, value)
    if isinstance(value, Integral) and abs(int(value)) > LARGEST:
        raise ConfigError(f"`{name}` must be {-LARGEST:,} to {LARGEST:,}, not {shorten(value)}.")


def _is_number(value: Any, kind: type[Integral | Real]) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return isinstance(value, Integral) or not math.isnan(value)


def require_flag(name: str, value: object) -> None:
    """Check that an argument is True or False; None passes.

    Raises:
        ConfigError: It is something else, such as text or a number.

    >>> require_flag("drop_overlap", "no")
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: `drop_overlap`: True or False was expected, not 'no' (str).
    """
    if value is not None and not isinstance(value, bool):
        _refuse_type(name, "True or False", value)


def _refuse_type(name: str, expected: str, value: object) -> NoReturn:
    kind = type(value).__name__
    raise ConfigError(f"`{name}`: {expected} was expected, not {shorten(value)} ({kind}).")


def require_options(kind: type, options: Mapping[str, object]) -> None:
    """Check the names and the types of the options of a call; None passes.

    Args:
        kind: A `TypedDict`, whose types are those of `require_type`.
        options: The options.

    Raises:
        ConfigError: An option is unknown, or its value is of another type.
    """
    hints = get_type_hints(kind)
    for name, value in options.items():
        if name not in hints:
            hint = did_you_mean(name, list(hints))
            raise ConfigError(f"`{name}`: no such option.{hint}  All: {', '.join(hints)}")
        require_type(name, value, hints[name])


def require_type(name: str, value: object, hint: object) -> None:
    """Check the type of an argument; None passes.

    Args:
        name: Name of the argument.
        value: The value.
        hint: bool, int or float, or a union of texts, paths, sequences and other classes.

    Raises:
        ConfigError: It is of another type.

    >>> require_type("minutes", "1", float | None)
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: `minutes`: a number was expected, not '1' (str).
    """
    kinds: list[Any] = [get_origin(kind) or kind for kind in get_args(hint) or (hint,)]
    if bool in kinds:
        require_flag(name, value)
    elif float in kinds or int in kinds:
        require_number(name, value, is_whole=float not in kinds)
    elif not isinstance(value, (*kinds, NoneType)):
        _refuse_type(name, " or ".join(filter(None, map(_NOUNS.get, kinds))), value)


def replace_values(config: C, **values: Any) -> C:
    """Return a configuration with other values, for the options of a call.

    Raises:
        ConfigError: A check of the configuration refuses a value; its names are in backticks.
    """
    try:
        return msgspec.structs.replace(config, **values)
    except ValueError as error:
        names = "|".join(config.__struct_fields__)
        message = re.sub(rf"\b({names})\b", r"`\1`", str(error))
        raise ConfigError(f"{message}.") from error


def require_texts(texts: object, name: str) -> list[str]:
    """Return texts as a list, checked before a model reads them.

    Args:
        texts: A list, or anything else that gives one text after the other.
        name: What they are, in the plural, such as ``documents``.

    Raises:
        ConfigError: It is one text, bytes, a mapping or no collection; or one of them is not a
            text, or has half of a surrogate pair, which is in no encoding.

    >>> require_texts(["a", None], "documents")
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: documents[1]: a text was expected, not NoneType.
    """
    return list(iterate_texts(texts, name))


def iterate_texts(texts: object, name: str) -> Iterator[str]:
    """Yield texts, each checked before a model reads it, as `require_texts` checks a list."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        expected = "a list of texts" if isinstance(texts, str) else "a text or a list of texts"
        raise ConfigError(f"{name}: {expected} was expected, not {type(texts).__name__}.")
    for index, text in enumerate(texts):
        item = f"{name}[{index}]"
        if not isinstance(text, str):
            raise ConfigError(f"{item}: a text was expected, not {type(text).__name__}.")
        if half := _SURROGATE.search(text):
            where = f"(U+{ord(half[0]):04X}) at character {half.start():,}"
            raise ConfigError(f"{item}: half of a character {where}.")
        yield text


def require_positive(config: msgspec.Struct, *names: str, allow_infinity: bool = False) -> None:
    """Check that settings are above 0, and finite unless infinity has a meaning."""
    _require(lambda value: value > 0, "above 0", config, names)
    if not allow_infinity:
        require_finite(config, *names)


def require_probability(config: msgspec.Struct, *names: str) -> None:
    """Check that settings are 0 or more and below 1, as rates of dropout are."""
    _require(lambda value: 0 <= value < 1, "at least 0 and below 1", config, names)


def require_fraction(config: msgspec.Struct, *names: str) -> None:
    """Check that settings are above 0 and at most 1."""
    _require(lambda value: 0 < value <= 1, "above 0 and at most 1", config, names)


def require_finite(config: msgspec.Struct, *names: str) -> None:
    """Check that settings are finite numbers."""
    _require(math.isfinite, "finite", config, names)


def require_multiple(config: msgspec.Struct, name: str, divisor: str) -> None:
    """Check that a setting is a multiple of another, which is 1 or more."""
    value, divisor_value = getattr(config, name), getattr(config, divisor)
    if value % divisor_value:
        raise ValueError(f"{name} must be a multiple of {divisor} ({divisor_value}): {value}")


def require_even_heads(dim: int, num_heads: int) -> None:
    """Check that a size is even, as sinusoids need it, and a multiple of the heads."""
    require_buildable("dim", dim)
    if dim < 2 or dim % 2 or dim % num_heads:
        raise ValueError(f"dim must be even and a multiple of num_heads ({num_heads}), not {dim}")


def require_buildable(name: str, value: float | None) -> None:
    """Check that a number of layers, or the size of a layer, is one that can be built."""
    word = name.rpartition("_")[2]
    most = {"layers": _LARGEST_DEPTH, "dim": _LARGEST_SIZE, "heads": _LARGEST_SIZE}.get(word)
    if value is not None and most is not None and value > most:
        raise ValueError(f"{name} must be {most:,} or less, not {value:,}")


def _require(
    is_allowed: Callable[[float], bool],
    allowed: str,
    config: msgspec.Struct,
    names: tuple[str, ...],
) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"{name} must be {LARGEST:,} or less, not {shorten(value)}")
        if value is not None and not is_allowed(value):
            raise ValueError(f"{name} must be {allowed}, not {value}")
