"""Settings: nested frozen structs to and from TOML, changed by words, described for help.

The structs live beside the classes they configure; this file knows only their fields.  A section
is a field whose type is a struct, a setting any other field, and both are named by a dotted path
(``optimizer.learning_rate``).  A value may be a number, a truth value, text, a `Literal`, an enum,
a tuple of one of these, or one of several, `None` included; `None` is written ``none``.  A section
may be one of several structs that msgspec tells apart by a tag: the tag is a setting of its own
(``model.family=lstm``) which begins the section anew from that struct's defaults.

Conventions for the structs: checks stand in ``__post_init__`` (`regard.settings.validation` has
those of numbers) and raise ``ValueError("dropout must be at least 0 and below 1, not 1.5")``, the
setting's name first (or ``"pattern: the window must be 1 or more"``, where the name is only a
label); meanings stand in the ``Args:`` part of the docstring.  An outer struct may give a section
other defaults than its own.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
import msgspec.inspect as kinds
import tomli_w
from msgspec.structs import FieldInfo, fields

from regard.errors import ConfigError, NextStep

T = TypeVar("T", bound=msgspec.Struct)
Table = dict[str, Any]
"""Settings by name; a section is a table of its own."""

_NONE = "none"
_WIDEST_CELL = 40  # characters; a longer cell pushes only its own line to the right
_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats
_NOUNS = {
    kinds.BoolType: "true or false",
    kinds.IntType: "a whole number",
    kinds.FloatType: "a number",
    kinds.StrType: "text",
}


def apply_settings(config: T, settings: Sequence[str]) -> T:
    """Return a copy of a configuration with settings of the command line applied.

    Checks run once, after all settings, so settings that only fit together may come in any order.

    Args:
        config: The configuration to start from; it is not changed.
        settings: ``section.key=value`` each, or ``key=value`` at the top; a later one wins.  Digits
            may be grouped (``8_000``), tuples are separated by commas or written as in TOML, `None`
            is ``none``.  Where one value will do too, a tuple takes TOML: ``["a", "b"]``.

    Returns:
        The changed configuration, of the same type.

    Raises:
        ConfigError: A setting is unknown, has no value, or has one that its type or check refuses.
    """
    return bind(type(config), parse_settings(settings), config)


class Word(str):
    """A value as it was typed, which its setting's type gives a meaning."""

    __slots__ = ()


def parse_settings(settings: Sequence[str]) -> Table:
    """Arrange settings as typed in nested tables.

    >>> parse_settings(["model.dim=64", "preset=tiny"])
    {'model': {'dim': '64'}, 'preset': 'tiny'}

    Raises:
        ConfigError: A setting has no value.
    """
    table: Table = {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f'setting "{setting}" has no value.  Write {setting}=VALUE.')
        *sections, name = path.strip().split(".")
        merge(
            table,
            functools.reduce(lambda value, key: {key: value}, sections[::-1], {name: Word(text)}),
        )
    return table


def merge(table: Table, other: Mapping[str, Any]) -> None:
    """Put the settings of another table into a table, section by section; the other's win."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            merge(table[key], value)
        else:
            table[key] = copy.deepcopy(value)


def bind(config_type: type[T], table: Mapping[str, Any], base: T | None = None) -> T:
    """Build a configuration from a table; what it leaves open is as in `base`, or the default.

    Args:
        config_type: The struct to build.
        table: Plain values as in TOML, or a `Word` as typed.
        base: The configuration to start from.

    Raises:
        ConfigError: A setting is unknown or missing, or has a value that its type or check refuses.
    """
    check_names(config_type, table, base)
    return _build(config_type, table, base, path="")


def check_names(
    config_type: type[msgspec.Struct], table: Mapping[str, Any], base: object = None
) -> None:
    """Refuse a table with an unknown name.

    Raises:
        ConfigError: With what it may mean, and where all names are listed.
    """
    _check_names(_known(config_type, table, base), table)


def convert_fields(
    config_type: type[msgspec.Struct], table: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Convert the values of one section to their types, without the checks of the whole section.

    Args:
        config_type: The section's struct.
        table: Its values; those of inner sections are left out.
        path: Its dotted name, for messages.

    Raises:
        ConfigError: A value is not of its setting's type.
    """
    return {
        field.name: _convert(table[field.name], field.type, _join(path, field.name))
        for field in fields(config_type)
        if field.name in table and not _structs(field.type)
    }


def to_toml(config: msgspec.Struct) -> str:
    """Write a configuration as TOML.

    A setting that is `None` is left out where `None` is its default, else written ``"none"``.

    Args:
        config: The configuration.

    Returns:
        Text that `from_toml` turns back into an equal configuration.

    Raises:
        ConfigError: An optional text setting is the word ``none``, which would be read as `None`.
    """
    return tomli_w.dumps(_table(config, None, ""))


def from_toml(text: str, config_type: type[T], *, name: str) -> T:
    """Read a configuration from TOML.

    Args:
        text: The TOML; settings that are left out take their defaults.
        config_type: The struct to make.
        name: The file's name for messages, such as ``ende/config.toml``.

    Returns:
        The configuration.

    Raises:
        ConfigError: The text is no TOML, a setting is unknown or missing, or a value is refused.
    """
    try:
        return bind(config_type, tomllib.loads(text))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", *error.next_steps) from error
    except ValueError as error:
        raise ConfigError(_syntax_error(str(error), text, name)) from error


def describe(
    config_type: type[msgspec.Struct],
    section: str | None = None,
    *,
    choices: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """List settings with default, allowed values and meaning, as a person reads them.

    Args:
        config_type: The struct to describe.
        section: The dotted name of a section, or of one setting; everything where `None`.
        choices: What settings of text may be, by name, where their type does not say it.

    Returns:
        Lines in four aligned columns, ending in a line feed.  Each section is opened by an empty
        line, its name and the first line of its struct's docstring.

    Raises:
        ConfigError: There is no such section.
    """
    rows = _rows(config_type, None, "")
    names = {row[0]: len(row) != 4 for row in rows}
    if section is not None and section not in names:
        message = _unknown(section, "", _Known(names, {}), is_section=True)
        raise ConfigError(message, _all_settings(""))
    if section is not None:
        rows = [row for row in rows if f"{row[0]}.".startswith(f"{section}.")]
    rows = [
        (*row[:2], ", ".join(choices[row[0]]), *row[3:]) if row[0] in choices else row
        for row in rows
    ]
    columns = zip(*[row for row in rows if len(row) == 4], strict=True)
    widths = [min(max(map(len, column)), _WIDEST_CELL) for column in columns]
    lines = []
    for row in rows:
        cells = map(str.ljust, row, widths) if len(row) == 4 else (f"\n{row[0]}", *row[1:])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines).strip("\n") + "\n"


def _structs(hint: object) -> tuple[type[msgspec.Struct], ...]:
    """Return the structs that a field's type allows; none where it is no section."""
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    structs = [m for m in members if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    return tuple(structs) if len(structs) == len(members) else ()


def _tag(struct: type[msgspec.Struct]) -> tuple[str, str]:
    """Return the tag of one of several structs: the name of the setting, and its value."""
    config = struct.__struct_config__
    return str(config.tag_field), str(config.tag)


def _chosen(
    structs: Sequence[type[msgspec.Struct]], table: object, base: object, path: str
) -> tuple[type[msgspec.Struct], object]:
    """Choose among the structs of a section by the tag in its table, else by the base.

    Returns:
        The struct, and the base if that is one of it.
    """
    chosen = next((struct for struct in structs if isinstance(base, struct)), structs[0])
    tag_field, _ = _tag(structs[0])
    given = table.get(tag_field) if len(structs) > 1 and isinstance(table, dict) else None
    if given is not None and not isinstance(given, dict):
        tags = {_tag(struct)[1]: struct for struct in structs}
        word = _word(given).strip()
        if word not in tags:
            meant = _did_you_mean(word, {tag: tag for tag in tags})
            expected = f"one of {', '.join(tags)} was expected.{meant}"
            raise ConfigError(f"{_join(path, tag_field)}={word}: {expected}")
        chosen = tags[word]
    return chosen, base if isinstance(base, chosen) else None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class _Known(NamedTuple):
    """All names of a configuration.

    `names` are dotted, True for a section; `members` tells of each section that is one of several
    structs which one it is, and then the others.
    """

    names: dict[str, bool]
    members: dict[str, list[type[msgspec.Struct]]]


def _known(
    config_type: type[msgspec.Struct], table: Mapping[str, object], base: object, path: str = ""
) -> _Known:
    """Collect the names in a struct, its sections chosen as `_build` will choose them."""
    known = _Known({}, {})
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        known.names[name] = bool(structs)
        if not structs:
            continue
        value = table.get(field.name)
        chosen, inner_base = _chosen(structs, value, default, name)
        if len(structs) > 1:
            known.names[_join(name, _tag(chosen)[0])] = False
            known.members[name] = [chosen, *(struct for struct in structs if struct is not chosen)]
        inner = _known(chosen, value if isinstance(value, dict) else {}, inner_base, name)
        known.names.update(inner.names)
        known.members.update(inner.members)
    return known


def _check_names(known: _Known, table: Mapping[str, object], path: str = "") -> None:
    """Refuse any key in nested tables that is not among the names, or a section without keys."""
    for key, value in table.items():
        name = _join(path, f'"{key}"' if "." in key else key)
        if name not in known.names:
            message = _unknown(name, path, known, is_section=isinstance(value, dict))
            raise ConfigError(message, _all_settings(path))
        if isinstance(value, dict):
            _check_names(known, value, name)
        elif known.names[name]:
            raise ConfigError(f"{name} is a section, not a setting.", _all_settings(name))


def _unknown(name: str, parent: str, known: _Known, *, is_section: bool) -> str:
    """Compose the message for an unknown name: what it may mean, and where all are listed."""
    noun, word = ("section", name) if is_section else ("setting", name.rpartition(".")[2])
    candidates = {}
    for other, other_is_section in known.names.items():
        above, _, last = other.rpartition(".")
        if is_section and other_is_section:
            candidates[other] = other
        elif not is_section and not other_is_section and (above == parent or last == word):
            candidates[last] = other
    meant = _did_you_mean(word, candidates)
    if parent in known.members:
        last = name.rpartition(".")[2]
        meant += _members_hint(parent, last, known.members[parent], is_section=is_section)
    return f"unknown {noun} {name}.{meant}"


def _all_settings(section: str) -> NextStep:
    return NextStep("All", "train", settings=(("help_config", section),))


def _members_hint(
    path: str, word: str, members: list[type[msgspec.Struct]], *, is_section: bool
) -> str:
    """Tell which of several structs has a setting, else what the chosen one, the first, has."""
    owners = [struct for struct in members if word in struct.__struct_fields__]
    if owners:
        tags = " or ".join(_tag(struct)[1] for struct in owners)
        return f"  It goes with {_join(path, _tag(members[0])[0])}={tags}."
    if is_section:
        return ""
    tag_field, tag = _tag(members[0])
    return f"  {_join(path, tag_field)}={tag} has {', '.join(members[0].__struct_fields__)}."


def _did_you_mean(word: str, candidates: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(word, candidates, n=1)
    return f"  Did you mean {candidates[close[0]]}?" if close else ""


def _fields(config_type: type, base: object) -> Iterator[tuple[FieldInfo, object]]:
    """Yield every field with its value in `base`, its default without one, or NODEFAULT."""
    for field in fields(config_type):
        if isinstance(base, msgspec.Struct):
            yield field, getattr(base, field.name)
        else:
            yield (
                field,
                field.default_factory() if callable(field.default_factory) else field.default,
            )


def _build(config_type: type[T], table: Mapping[str, object], base: object, *, path: str) -> T:
    """Make the struct at a dotted path from a table with right names, and `base` for the rest."""
    values: dict[str, object] = {}
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        value = table.get(field.name, {})
        if structs and isinstance(value, dict):
            chosen, inner_base = _chosen(structs, value, default, name)
            values[field.name] = _build(chosen, value, inner_base, path=name)
        elif field.name in table:
            values[field.name] = _convert(value, field.type, name)
        elif default is msgspec.NODEFAULT:
            raise ConfigError(f"setting {name} is missing.", _all_settings(path))
        else:
            values[field.name] = default
    try:
        return config_type(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(_refusal(values, path, str(error))) from error


def _refusal(values: Mapping[str, object], path: str, reason: str) -> str:
    """Say which setting a struct's own check refused: the one that the reason begins with."""
    word = re.match(r"(\w+)(: )?", reason)
    value = values.get(word[1], msgspec.NODEFAULT) if word else msgspec.NODEFAULT
    if word is None or value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return f"{path}: {reason}" if path else reason
    shown = reason[word.end() :] if word[2] else reason
    return f"{_join(path, word[1])}={_word(value)}: {shown}"


def _table(config: msgspec.Struct, base: object, path: str) -> dict[str, object]:
    """Return a struct as nested tables of plain values, without what is `None` by default."""
    table: dict[str, object] = {}
    for field, default in _fields(type(config), base):
        value, name = getattr(config, field.name), _join(path, field.name)
        if isinstance(value, msgspec.Struct):
            structs = _structs(field.type)
            tag = dict([_tag(type(value))]) if len(structs) > 1 else {}
            table[field.name] = tag | _table(value, _chosen(structs, tag, default, name)[1], name)
        elif value == _NONE and _is_optional(_kind(field.type)):
            raise ConfigError(f'{name}: the text "none" is taken, it means that nothing is set.')
        elif value is not None:
            table[field.name] = msgspec.to_builtins(value)
        elif default is not None:
            table[field.name] = _NONE
    return table


def _syntax_error(problem: str, text: str, name: str) -> str:
    """Put a message of `tomllib` into the form that all files share: FILE:LINE: problem."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", problem)
    if found is None:
        return f"{name}: {problem}."
    lines = text.split("\n")
    line = int(found[2] or len(lines))
    return f'{name}:{line}: {found[1]}.  "{lines[line - 1].strip()[:_LONGEST_QUOTE]}"'


def _convert(value: object, hint: object, name: str) -> object:
    """Convert one value to its field's type; in TOML only `None` needs a word."""
    kind = _kind(hint)
    if isinstance(value, Word):
        plain = _read_word(str(value), kind)
    else:
        plain = None if value == _NONE and _is_optional(kind) else value
    try:
        return msgspec.convert(plain, hint)
    except msgspec.ValidationError as error:
        choices = {choice: choice for choice, is_value in _choices(kind) if is_value}
        meant, shown = _did_you_mean(_word(value), choices), f"{name}={_word(value)}"
        raise ConfigError(f"{shown}: {_expectation(kind)} was expected.{meant}") from error


def _kind(hint: object) -> kinds.Type:
    """Return a field's type, with choices in the order of their declaration and enums as such."""
    kind = kinds.type_info(hint)
    if isinstance(kind, kinds.UnionType):
        return kinds.UnionType(tuple(map(_kind, get_args(hint))))
    if isinstance(kind, kinds.EnumType):
        return kinds.LiteralType(tuple(member.value for member in kind.cls))
    return kinds.LiteralType(get_args(hint)) if isinstance(kind, kinds.LiteralType) else kind


def _is_optional(kind: kinds.Type) -> bool:
    return isinstance(kind, kinds.UnionType) and kind.includes_none


def _read_word(text: str, kind: kinds.Type) -> object:
    """Read a word of the command line; what does not fit its type stays text, refused later."""
    match kind:
        case kinds.UnionType():
            return _read_union(text, kind)
        case kinds.LiteralType():
            return next((v for v in kind.values if _word(v) == text.strip()), text)
        case kinds.BoolType():
            return {"true": True, "false": False}.get(text.strip().lower(), text)
        case kinds.IntType():
            return _read_number(int, text)
        case kinds.FloatType():
            return _read_number(float, text)
        case kinds.VarTupleType(item_type=inner) | kinds.TupleType(item_types=(inner, *_)):
            items = [item.strip() for item in text.split(",") if text.strip()]
            return _read_array(text) or [_read_word(item, inner) for item in items]
    return text


def _read_union(text: str, kind: kinds.UnionType) -> object:
    """Read a word as the first of several types that it fits, as text last."""
    if kind.includes_none and text.strip().lower() == _NONE:
        return None
    lists = (kinds.VarTupleType, kinds.TupleType)
    members = [m for m in kind.types if _read_array(text) or not isinstance(m, lists)]
    readings = [_read_word(text, member) for member in members]
    return next((reading for reading in readings if not isinstance(reading, str)), text)


def _read_array(text: str) -> list[object]:
    """Read an array as TOML writes it; empty where the text is none."""
    try:
        items = tomllib.loads(f"items = {text.strip()}")["items"]
    except tomllib.TOMLDecodeError:
        return []
    return items if isinstance(items, list) else []


def _read_number(number: type[int] | type[float], text: str) -> int | float | str:
    try:
        value = number(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and math.isnan(value) else value


def _word(value: object) -> str:
    """Write a value as the command line takes it."""
    if isinstance(value, str):
        return str(value)
    value = msgspec.to_builtins(value)
    if isinstance(value, (list, tuple)):
        return ",".join(_word(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _choices(kind: kinds.Type) -> list[tuple[str, bool]]:
    """Return every alternative of a type, True where it is a value and not a description."""
    match kind:
        case kinds.UnionType():
            members = sorted(kind.types, key=lambda member: isinstance(member, kinds.NoneType))
            choices = [choice for member in members for choice in _choices(member)]
            return [(c.replace("comma-separated", "bracketed"), v) for c, v in choices]
        case kinds.LiteralType():
            return [(_word(value), True) for value in kind.values]
        case kinds.VarTupleType():
            return [(f"a comma-separated list of {_plural(kind.item_type)}", False)]
        case kinds.TupleType():
            count, items = len(kind.item_types), _plural(kind.item_types[0])
            return [(f"a comma-separated list of {count} {items}", False)]
        case kinds.NoneType():
            return [(_NONE, True)]
    return [(_NOUNS[type(kind)], False)]


def _expectation(kind: kinds.Type) -> str:
    """Say what a type takes, as in ``a number or none`` or ``one of pre, post``."""
    *firsts, last = [choice for choice, _ in _choices(kind)]
    if firsts and all(is_value for _, is_value in _choices(kind)):
        return f"one of {', '.join([*firsts, last])}"
    return f"{', '.join(firsts)} or {last}" if firsts else last


def _plural(kind: kinds.Type) -> str:
    expectation = _expectation(kind).removeprefix("one of ")
    return f"{expectation[2:]}s" if expectation.startswith("a ") else expectation


def _rows(config_type: type[msgspec.Struct], base: object, path: str) -> list[tuple[str, ...]]:
    """Return four cells a setting, then all of each section after its name and title."""
    settings, sections, meanings = [], [], _meanings(config_type)
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        if structs:
            sections += _section_rows(structs, default, name)
        else:
            word = "required" if default is msgspec.NODEFAULT else _word(default)
            allowed = _expectation(_kind(field.type)).removeprefix("one of ")
            settings.append((name, word, allowed.removeprefix("a "), meanings.get(field.name, "")))
    return settings + sections


def _section_rows(
    structs: Sequence[type[msgspec.Struct]], default: object, name: str
) -> list[tuple[str, ...]]:
    """Return the rows of a section; of several structs first those of the default, then each."""
    chosen, default = _chosen(structs, None, default, name)
    rows: list[tuple[str, ...]] = [(name, _title(chosen))]
    tag_field, tag = _tag(chosen)
    if len(structs) > 1:
        tags = ", ".join(_tag(struct)[1] for struct in structs)
        rows.append((_join(name, tag_field), tag, tags, "Which of these the section describes."))
    rows += _rows(chosen, default, name)
    for struct in structs:
        if struct is not chosen:
            rows.append((name, f"({tag_field}={_tag(struct)[1]})  {_title(struct)}"))
            rows += _rows(struct, None, name)
    return rows


def _title(struct: type[msgspec.Struct]) -> str:
    return inspect.cleandoc(struct.__doc__ or "").partition("\n")[0]


def _meanings(config_type: type) -> dict[str, str]:
    """Return the meaning of each argument from the ``Args:`` of a class and those it extends."""
    meanings: dict[str, str] = {}
    for owner in reversed(config_type.__mro__):
        docstring = inspect.cleandoc(vars(owner).get("__doc__") or "")
        arguments = re.split(r"\n(?=\S)", docstring.partition("\nArgs:\n")[2])[0]
        for entry in re.split(r"\n(?= {4}\w)", f"\n{arguments}"):
            name, _, meaning = entry.strip().partition(":")
            meanings[name.partition(" ")[0]] = " ".join(meaning.split())
    return meanings
