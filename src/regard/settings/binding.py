"""Settings: nested frozen structs, read from TOML and from words, written as TOML, described.

The structs are next to the classes that they configure; this module knows only their fields.  A
section is a field whose type is a struct, a setting is any other field, and both have a dotted name
(``optimizer.learning_rate``).  A value may be a number, a boolean, text, a `Literal`, an enum, a
tuple of one of these, or a union of them; `None` is written ``none``.  A section may be a union of
structs with a tag: the tag is a setting of its own (``model.family=lstm``), and another tag starts
the section from the defaults of that struct.

Conventions for the structs: ``__post_init__`` checks values (`regard.settings.validation` has
checks of numbers) and raises ``ValueError("dropout must be at least 0 and below 1, not 1.5")``, the
setting's name first (or ``"pattern: the window must be 1 or more"``, where the name is only a
label); the ``Args:`` of the docstring describe the settings.  An outer struct may define other
defaults for a section than the section's own.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
import tomli_w
from msgspec.structs import FieldInfo, fields

from regard.errors import ConfigError, NextStep, did_you_mean
from regard.settings.tagged import TaggedStructs
from regard.settings.values import (
    NONE,
    Word,
    convert_value,
    describe_values,
    is_optional,
    kind_of,
    parse_toml,
    word_of,
)

T = TypeVar("T", bound=msgspec.Struct)
Table = dict[str, Any]
"""Settings by name; a section is a nested table."""
_Struct = type[msgspec.Struct]

_WIDEST_CELL = 40  # characters; a longer cell moves only the rest of its own line
_MOST_SECTIONS = 20  # within each other
_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats


def parse_settings(settings: Sequence[str]) -> Table:
    """Return settings as typed in nested tables.

    Args:
        settings: ``section.key=value`` each, or ``key=value`` at the top; a later one wins.  Digits
            may be grouped (``8_000``), tuples are separated by commas or written as in TOML, `None`
            is ``none``.  Where a single value is allowed too, a tuple is TOML: ``["a", "b"]``.

    Raises:
        ConfigError: A setting has no value.

    >>> parse_settings(["model.dim=64", "preset=tiny"])
    {'model': {'dim': '64'}, 'preset': 'tiny'}
    """
    table: Table = {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f'setting "{setting}" has no value.  Write {setting}=VALUE.')
        *sections, name = path.strip().split(".")
        if len(sections) > _MOST_SECTIONS:
            raise ConfigError(f"unknown setting {path[:_LONGEST_QUOTE]}....", _all_settings(""))
        nested: Table = {name: Word(text)}
        for section in reversed(sections):
            nested = {section: nested}
        merge(table, nested)
    return table


def merge(table: Table, overrides: Mapping[str, Any]) -> None:
    """Copy the settings of another table into a table, section by section."""
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            merge(table[key], value)
        else:
            table[key] = copy.deepcopy(value)


def bind(config_type: type[T], table: Mapping[str, Any], base: T | None = None) -> T:
    """Return a configuration with the settings of a table.

    Checks run once, after all settings, so settings that only fit together may come in any order.

    Args:
        config_type: Type of the configuration.
        table: Plain values as in TOML, or a `Word` as typed.
        base: Configuration with the values of all other settings; None uses the defaults.

    Raises:
        ConfigError: A setting is unknown or missing, or has a value that its type or check refuses.
    """
    check_names(config_type, table, base)
    return _build(config_type, table, base, path="")


def check_names(config_type: _Struct, table: Mapping[str, Any], base: object = None) -> None:
    """Check that all names in a table exist.

    Raises:
        ConfigError: A name is unknown; with similar names, and where all names are listed.
    """
    _check_table(_collect_names(config_type, table, base), table)


def convert_fields(config_type: _Struct, table: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the values of one section, converted to their types, without the section's check.

    Args:
        config_type: The section's struct.
        table: Its values; those of inner sections are left out.
        path: Its dotted name, for messages.

    Raises:
        ConfigError: A value is not of its setting's type.
    """
    return {
        field.name: convert_value(table[field.name], field.type, _join(path, field.name))
        for field in _fields_of(config_type)
        if field.name in table and not _structs(field.type)
    }


def check_types(config: msgspec.Struct) -> None:
    """Check the type of every setting of a struct, for its ``__post_init__``.

    A whole number from NumPy becomes a plain one, a list becomes the tuple that a setting wants.

    Args:
        config: Changed in place where a value has a plainer form.

    Raises:
        ConfigError: A value is not of its setting's type, in the words of `bind`.

    >>> class Sizes(msgspec.Struct):
    ...     dim: int = 8
    ...     def __post_init__(self) -> None:
    ...         check_types(self)
    >>> Sizes(dim="16")
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: dim=16: a whole number was expected.
    """
    for field in _fields_of(type(config)):
        value = getattr(config, field.name)
        if value is field.default:
            continue
        converted = check_type(value, field.type, field.name)
        if converted is not value:
            msgspec.structs.force_setattr(config, field.name, converted)


def check_type(value: object, hint: object, name: str) -> object:
    """Return one value that is not part of a struct in its plain form, its type checked.

    Args:
        value: An argument, such as the name of an activation.
        hint: Its type, such as a `Literal`.
        name: Name of the argument, for the message.

    Raises:
        ConfigError: It is not of that type, in the words of `bind`.

    >>> from typing import Literal
    >>> check_type("sideways", Literal["pre", "post"], "norm")
    Traceback (most recent call last):
    ...
    regard.errors.ConfigError: norm=sideways: one of pre, post was expected.
    """
    structs = _structs(hint)
    if isinstance(value, msgspec.Struct) and isinstance(value, tuple(structs.values())):
        return value
    if structs:
        names = ", ".join(struct.__name__ for struct in structs.values())
        raise ConfigError(f"{name}={type(value).__name__}: one of {names} was expected.")
    value = _plain_number(value)
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return convert_value(value, hint, name)  # says what was expected


@cache
def _fields_of(config_type: _Struct) -> tuple[FieldInfo, ...]:
    """Return the fields of a struct; reading their types takes 0.3 ms each time."""
    return fields(config_type)


def to_toml(config: msgspec.Struct) -> str:
    """Return a configuration as TOML, from which `from_toml` reads an equal one.

    A setting that is `None` is left out where `None` is its default, else written ``"none"``.

    Raises:
        ConfigError: An optional text setting is the word ``none``, which would be read as `None`.
    """
    return tomli_w.dumps(_to_table(config, None, ""))


def from_toml(text: str, config_type: type[T], *, name: str) -> T:
    """Return the configuration in a TOML text.

    Args:
        text: The TOML; settings that are left out have their defaults.
        config_type: Type of the configuration.
        name: The file's name for messages, such as ``ende/config.toml``.

    Raises:
        ConfigError: The text is not TOML, a setting is unknown or missing, or a value is refused.
    """
    try:
        return bind(config_type, parse_toml(text))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", *error.next_steps) from error
    except ValueError as error:
        pattern = r"(.*) \(at (?:line (\d+), column \d+|end of document)\)"
        match = re.fullmatch(pattern, str(error))
        if match is None:
            raise ConfigError(f"{name}: {error}.") from error
        lines = text.split("\n")
        line = int(match[2] or len(lines))
        quote = lines[line - 1].strip()[:_LONGEST_QUOTE]
        raise ConfigError(f'{name}:{line}: {match[1]}.  "{quote}"') from error


def _plain_number(value: object) -> object:
    """Return a number of NumPy or PyTorch as one of Python; other values as they are."""
    item = getattr(value, "item", None)
    return item() if getattr(value, "ndim", None) == 0 and callable(item) else value


def describe(
    config_type: _Struct,
    section: str | None = None,
    *,
    base: object = None,
    choices: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """Return a list of settings with default, allowed values and meaning.

    Each section starts with an empty line, its name and the first line of its struct's docstring;
    settings are lines of four aligned columns.

    Args:
        config_type: The struct to describe.
        section: The dotted name of a section, or of one setting; `None` describes all.
        base: Configuration whose values are the defaults; `None` takes those of the struct.
        choices: Allowed values of settings whose type does not define them, by name.

    Raises:
        ConfigError: The section is unknown.
    """
    entries = list(_entries(config_type, base, ""))
    names = {entry.name: entry.is_section for entry in entries}
    if section is not None:
        if section not in names:
            message = _unknown_name(section, "", _Names(names, {}, {}), is_section=True)
            raise ConfigError(message, _all_settings(""))
        entries = [entry for entry in entries if f"{entry.name}.".startswith(f"{section}.")]
    return _align([entry.with_choices(choices.get(entry.name)) for entry in entries])


def _align(entries: Sequence[_Entry]) -> str:
    """Return the lines of entries, settings in columns."""
    columns = zip(*[entry.cells for entry in entries if not entry.is_section], strict=True)
    widths = [min(max(map(len, column)), _WIDEST_CELL) for column in columns]
    lines = []
    for entry in entries:
        title = (f"\n{entry.name}", entry.text)
        cells = title if entry.is_section else map(str.ljust, entry.cells, widths)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines).strip("\n") + "\n"


def _structs(hint: object) -> Mapping[str, _Struct]:
    """Return the structs that a field's type allows, by their tags; empty for a setting."""
    if isinstance(hint, TaggedStructs):
        return hint
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    structs = [m for m in members if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    return {_tag(m)[1]: m for m in structs} if len(structs) == len(members) else {}


def _tag(struct: _Struct) -> tuple[str, str]:
    """Return the tag of one of several structs: the name of the setting, and its value."""
    config = struct.__struct_config__
    return str(config.tag_field), str(config.tag)


def _select_struct(
    structs: Mapping[str, _Struct], table: object, base: object, path: str
) -> tuple[_Struct, object]:
    """Return the struct of a section by the tag in its table, else by its base.

    The second value is the base, or None where it is of another struct.

    Raises:
        ConfigError: No struct has that tag.
    """
    first = next(iter(structs))
    base_tag = _tag(type(base))[1] if isinstance(base, msgspec.Struct) else first
    selected = structs[base_tag if base_tag in structs else first]
    tag_field, _ = _tag(selected)
    tag = table.get(tag_field) if len(structs) > 1 and isinstance(table, dict) else None
    if not isinstance(tag, dict | None):
        word = word_of(tag).strip()
        if word not in structs:
            options = (
                f"one of {', '.join(structs)} was expected.{did_you_mean(word, list(structs))}"
            )
            raise ConfigError(f"{_join(path, tag_field)}={word}: {options}")
        selected = structs[word]
    return selected, base if isinstance(base, selected) else None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class _Names(NamedTuple):
    """All names of a configuration.

    Args:
        is_section: Whether each dotted name is a section.
        structs: The structs of each section that allows several.
        selected: The one that is selected, of each such section.
    """

    is_section: dict[str, bool]
    structs: dict[str, Mapping[str, _Struct]]
    selected: dict[str, _Struct]

    def similar_settings(self, parent: str, last: str) -> dict[str, str]:
        """Return the settings of a section, and those elsewhere of one name, by the last part."""
        settings = {}
        for name in (name for name, is_section in self.is_section.items() if not is_section):
            section, _, key = name.rpartition(".")
            if section == parent or key == last:
                settings[key] = name
        return settings

    def describe_owners(self, parent: str, last: str, *, is_section: bool) -> str:
        """Return which structs of a section have a name, or else the names of the selected one."""
        selected = self.selected.get(parent)
        if selected is None:
            return ""
        structs, (tag_field, tag) = self.structs[parent], _tag(selected)
        owners = [name for name in structs if last in structs[name].__struct_fields__]
        if owners:
            return f"  It goes with {_join(parent, tag_field)}={' or '.join(owners)}."
        settings = ", ".join(selected.__struct_fields__)
        return "" if is_section else f"  {_join(parent, tag_field)}={tag} has {settings}."


def _collect_names(
    config_type: _Struct, table: Mapping[str, object], base: object, path: str = ""
) -> _Names:
    """Return the names in a struct, with the structs of its sections that `_build` will select."""
    names = _Names({}, {}, {})
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        names.is_section[name] = bool(structs)
        if not structs:
            continue
        value = table.get(field.name)
        selected, inner_base = _select_struct(structs, value, default, name)
        if len(structs) > 1:
            names.is_section[_join(name, _tag(selected)[0])] = False
            names.structs[name], names.selected[name] = structs, selected
        values = value if isinstance(value, dict) else {}
        inner = _collect_names(selected, values, inner_base, name)
        names.is_section.update(inner.is_section)
        names.structs.update(inner.structs)
        names.selected.update(inner.selected)
    return names


def _check_table(names: _Names, table: Mapping[str, object], path: str = "") -> None:
    """Raise for a key in nested tables that is not among the names, or a section without keys."""
    for key, value in table.items():
        name = _join(path, f'"{key}"' if "." in key else key)
        if name not in names.is_section:
            message = _unknown_name(name, path, names, is_section=isinstance(value, dict))
            raise ConfigError(message, _all_settings(path))
        if isinstance(value, dict):
            _check_table(names, value, name)
        elif names.is_section[name]:
            raise ConfigError(f"{name} is a section, not a setting.", _all_settings(name))


def _unknown_name(name: str, parent: str, names: _Names, *, is_section: bool) -> str:
    """Return the message for an unknown name, with similar names."""
    last = name.rpartition(".")[2]
    if is_section:
        sections = [
            other for other, other_is_section in names.is_section.items() if other_is_section
        ]
        message = f"unknown section {name}.{did_you_mean(name, sections)}"
    else:
        message = (
            f"unknown setting {name}.{did_you_mean(last, names.similar_settings(parent, last))}"
        )
    return message + names.describe_owners(parent, last, is_section=is_section)


def _all_settings(section: str) -> NextStep:
    return NextStep("All", "train", settings=(("help_config", section),))


def _fields(config_type: _Struct, base: object) -> Iterator[tuple[FieldInfo, object]]:
    """Yield every field with its value in `base`; without a base its default, or NODEFAULT."""
    for field in _fields_of(config_type):
        if isinstance(base, msgspec.Struct):
            yield field, getattr(base, field.name)
        else:
            yield (
                field,
                field.default_factory() if callable(field.default_factory) else field.default,
            )


def _build(config_type: type[T], table: Mapping[str, object], base: object, *, path: str) -> T:
    """Return the struct at a dotted path, from a table of known names and the values of `base`."""
    values: dict[str, object] = {}
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        value = table.get(field.name, {})
        if structs and isinstance(value, dict):
            selected, inner_base = _select_struct(structs, value, default, name)
            values[field.name] = _build(selected, value, inner_base, path=name)
        elif field.name in table:
            values[field.name] = convert_value(value, field.type, name)
        elif default is msgspec.NODEFAULT:
            raise ConfigError(f"setting {name} is missing.", _all_settings(path))
        else:
            values[field.name] = default
    try:
        return config_type(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(_check_message(values, path, str(error))) from error


def _check_message(values: Mapping[str, object], path: str, reason: str) -> str:
    """Return the message of a struct's check, with the setting that the reason starts with."""
    name = re.split(r"\W", reason, maxsplit=1)[0]
    value = values.get(name, msgspec.NODEFAULT)
    if value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return f"{path}: {reason}" if path else reason
    return f"{_join(path, name)}={word_of(value)}: {reason.removeprefix(f'{name}: ')}"


def _to_table(config: msgspec.Struct, base: object, path: str) -> dict[str, object]:
    """Return a struct as nested tables of plain values, without what is `None` by default."""
    table: dict[str, object] = {}
    for field, default in _fields(type(config), base):
        value, name = getattr(config, field.name), _join(path, field.name)
        if isinstance(value, msgspec.Struct):
            structs = _structs(field.type)
            tag = dict([_tag(type(value))]) if len(structs) > 1 else {}
            inner_base = _select_struct(structs, tag, default, name)[1]
            table[field.name] = tag | _to_table(value, inner_base, name)
        elif value == NONE and is_optional(kind_of(field.type)):
            raise ConfigError(f'{name}: the text "none" is taken, it means that nothing is set.')
        elif value is not None or default is not None:
            table[field.name] = NONE if value is None else msgspec.to_builtins(value)
    return table


class _Entry(NamedTuple):
    """One line of a description: a setting, or the title of a section.

    Args:
        name: Dotted name.
        text: Meaning of a setting, or title of a section.
        default: Default of a setting.
        allowed: Allowed values of a setting.
        is_section: Whether it is the title of a section.
    """

    name: str
    text: str
    default: str = ""
    allowed: str = ""
    is_section: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of a setting."""
        return self.name, self.default, self.allowed, self.text

    def with_choices(self, choices: Sequence[str] | None) -> _Entry:
        """Return the setting with its allowed values; without these as it is."""
        return self if choices is None else self._replace(allowed=", ".join(choices))


def _entries(config_type: _Struct, base: object, path: str) -> Iterator[_Entry]:
    """Yield the settings of a struct, then each section after its title.

    In a section with several structs, that of the default comes first.
    """
    meanings = _meanings(config_type)
    sections = []
    for field, default in _fields(config_type, base):
        name, structs = _join(path, field.name), _structs(field.type)
        if structs:
            sections.append((name, structs, default))
            continue
        word = "required" if default is msgspec.NODEFAULT else word_of(default)
        allowed = describe_values(kind_of(field.type)).removeprefix("one of ").removeprefix("a ")
        yield _Entry(name, meanings.get(field.name, ""), word, allowed)
    for section in sections:
        yield from _section_entries(*section)


def _section_entries(
    name: str, structs: Mapping[str, _Struct], default: object
) -> Iterator[_Entry]:
    """Yield a section's title and settings, then those of its other structs."""
    selected, inner_base = _select_struct(structs, None, default, name)
    tag_field, tag = _tag(selected)
    yield _Entry(name, _title(selected), is_section=True)
    if len(structs) > 1:
        tags = ", ".join(structs)
        text = "Which of these the section describes."
        yield _Entry(_join(name, tag_field), text, tag, tags)
    yield from _entries(selected, inner_base, name)
    for struct in structs.values():
        if struct is not selected:
            title = f"({tag_field}={_tag(struct)[1]})  {_title(struct)}"
            yield _Entry(name, title, is_section=True)
            yield from _entries(struct, None, name)


def _title(struct: _Struct) -> str:
    return inspect.cleandoc(struct.__doc__ or "").partition("\n")[0]


def _meanings(config_type: _Struct) -> dict[str, str]:
    """Return the meaning of each argument from the ``Args:`` of a class and its base classes."""
    meanings: dict[str, str] = {}
    for owner in reversed(config_type.__mro__):
        docstring = inspect.cleandoc(vars(owner).get("__doc__") or "")
        arguments = re.split(r"\n(?=\S)", docstring.partition("\nArgs:\n")[2])[0]
        for entry in re.split(r"\n(?= {4}\w)", f"\n{arguments}"):
            name, _, meaning = entry.strip().partition(":")
            meanings[name.partition(" ")[0]] = " ".join(meaning.split())
    return meanings
