"""Translation memories (TMX) and translations in XLIFF: each unit becomes an object of JSON.

A language is a key: ``{"en": "Open the file", "de": "Datei öffnen"}``. It is the language of its
tag without the region where the file has no other region of it next to that one. Codes of the
program that text was translated in, such as those in ``<bpt>`` and ``<ph>``, are left out; what is
between them is text. Declarations of entities are refused: a few of them expand to gigabytes.
https://www.gala-global.org/tmx-14b, XLIFF 1.2 and 2.1 of OASIS. Cost: one pass of expat, and the
texts of all units.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.parsers import expat

from regard.data.listing import pluralize
from regard.data.progress import tracked
from regard.data.readers.row_encoder import ROW_ENCODER
from regard.errors import DataError

WriteLine = Callable[[bytes], object]
"""Receives each line of JSON."""
_MEGABYTE = 1_000_000
_CODES = frozenset(["bpt", "ept", "ph", "it", "ut", "sub"])
"""Elements within a text that hold codes, not text."""
_XML_LANG = "http://www.w3.org/XML/1998/namespace lang"
_SEGMENTS = frozenset(["seg", "source", "target"])
_UNITS = frozenset(["tu", "trans-unit", "segment"])
_STATE = "\0state"  # among the texts of a unit, where no language has this name
_UNFINISHED = re.compile("new|initial|needs-.*")


class ConvertedUnits(NamedTuple):
    """What became of the units of a file.

    Args:
        names: The languages, that of the sources first.
        num_rows: Number of units.
        notes: What was left out of them.
    """

    names: tuple[str, ...]
    num_rows: int
    notes: tuple[str, ...]


def convert_units(name: str, content: bytes, write: WriteLine) -> ConvertedUnits:
    """Write the units of a file as lines of JSON, each on the line on which it begins in the file.

    Args:
        name: Name of the file, for messages.
        content: Its bytes.
        write: Receives each line.

    Returns:
        What became of the units.

    Raises:
        DataError: It is not well-formed, declares entities, or a text has no language.
    """
    reader = _UnitReader(name)
    reader.parse(content)
    names = _shorten(reader.units)
    columns = list(dict.fromkeys(names[tag] for tag in reader.tags() if tag in names))
    line = 1
    for unit in reader.units:
        write(b"\n" * (unit.line - line))
        texts = {names[tag]: text for tag, text in reversed(unit.texts.items())}
        write(ROW_ENCODER.encode({column: texts.get(column) for column in columns}) + b"\n")
        line = max(line, unit.line) + 1
    return ConvertedUnits(tuple(columns), len(reader.units), tuple(reader.notes()))


class _Unit(NamedTuple):
    """A unit: the 1-based line on which it begins, and its texts by language."""

    line: int
    texts: dict[str, str]


class _UnitReader:
    """Collects the units of a file as expat comes to their elements.

    Args:
        name: Name of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.units: list[_Unit] = []
        self._parser = expat.ParserCreate(None, " ")
        self._parser.buffer_text = True
        self._path: list[tuple[str, Mapping[str, str]]] = []
        self._unit = _Unit(0, {})
        self._pieces: list[str] = []
        self._depth = 0  # of elements within the text that is being read
        self._codes = 0  # of elements with codes that the present one is in
        self._first = ""  # language of the sources
        self._num_codes = self._num_unfinished = 0

    def parse(self, content: bytes) -> None:
        """Read all units of a file; raise `DataError` where it is damaged."""
        parser = self._parser
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._add
        parser.EntityDeclHandler = self._refuse_entity
        try:
            total = len(content) // _MEGABYTE
            starts = range(0, len(content), _MEGABYTE)
            for start in tracked(starts, f"reading {self.name}", total, "MB"):
                parser.Parse(content[start : start + _MEGABYTE], False)
            parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            line = parser.CurrentLineNumber
            cause = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else error
            raise DataError(f"{self.name}:{line}: not well-formed XML ({cause}).") from error

    def tags(self) -> list[str]:
        """Return the languages, that of the sources first."""
        return [self._first, *dict.fromkeys(tag for unit in self.units for tag in unit.texts)]

    def notes(self) -> list[str]:
        """Return what was left out."""
        notes = []
        if self._num_codes:
            notes.append(f"without {pluralize(self._num_codes, 'inline code')}")
        if self._num_unfinished:
            units = pluralize(self._num_unfinished, "unit")
            notes.append(f"without {units} whose state says that they are not translated")
        return notes

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        name = tag.rpartition(" ")[2]
        if self._depth:
            self._depth += 1
            self._codes += name in _CODES
            self._num_codes += name in _CODES and self._codes == 1
            return
        if not self._path:
            self._first = _fold(attributes.get("srcLang", ""))
        self._path.append((name, attributes))
        if name == "header" and "srclang" in attributes:
            self._first = _fold(attributes["srclang"])
        elif name == "file" and "source-language" in attributes:
            self._first = self._first or _fold(attributes["source-language"])
        elif name in _UNITS:
            self._unit = _Unit(self._parser.CurrentLineNumber, {})
        elif name in _SEGMENTS and self._is_in_unit():
            self._depth, self._pieces = 1, []

    def _is_in_unit(self) -> bool:
        """Return whether the present element is a text of a unit, not of an alternative or note."""
        above = [name for name, _ in self._path[-3:-1]]
        return above[-1:] == ["tuv"] or above[-1] in _UNITS

    def _add(self, text: str) -> None:
        """Take text that is not in a code."""
        if self._depth and not self._codes:
            self._pieces.append(text)

    def _end(self, tag: str) -> None:
        """End an element; that of a text or of a unit completes it."""
        name = tag.rpartition(" ")[2]
        if self._depth > 1:
            self._depth -= 1
            self._codes -= name in _CODES
            return
        if self._depth:
            self._depth = 0
            if text := " ".join("".join(self._pieces).split()):
                self._unit.texts.setdefault(self._language(name), text)
        elif name in _UNITS:
            self._complete()
        self._path.pop()

    def _complete(self) -> None:
        """Take a unit that has texts, and whose state does not say that it is not translated."""
        if self._is_unfinished():
            self._num_unfinished += 1
        elif self._unit.texts:
            self.units.append(self._unit)

    def _is_unfinished(self) -> bool:
        """Return whether the present unit is not translated, by its state or that of its target."""
        attributes = self._path[-1][1]
        state = self._unit.texts.pop(_STATE, "") or attributes.get("state", "")
        return _UNFINISHED.fullmatch(state) is not None or attributes.get("translate") == "no"

    def _language(self, name: str) -> str:
        """Return the language of the present text: its own, or that of the file."""
        if name == "seg":
            attributes = self._path[-2][1]
            language = attributes.get(_XML_LANG) or attributes.get("lang", "")
            if not language:
                raise DataError(
                    f"{self.name}:{self._parser.CurrentLineNumber}: <tuv> has no xml:lang, which "
                    "says its language."
                )
            return _fold(language)
        attributes = self._path[-1][1]
        if name == "target" and "state" in attributes:
            self._unit.texts[_STATE] = attributes["state"]
        keys = (
            ("source-language", "srcLang") if name == "source" else ("target-language", "trgLang")
        )
        declared = (above[key] for _, above in reversed(self._path) for key in keys if key in above)
        return _fold(attributes.get(_XML_LANG) or next(declared, name))

    def _refuse_entity(self, entity: str, *_: object) -> None:
        raise DataError(
            f"{self.name}:{self._parser.CurrentLineNumber}: declares the entity {entity}, which is "
            "not expanded.  Put its text in its place: xmllint --noent"
        )


def _fold(tag: str) -> str:
    """Return a tag of a language as it is usually written: ``en-US`` for ``EN_us``.

    >>> [_fold(tag) for tag in ("EN_us", "zh-hant-TW", "*all*")]
    ['en-US', 'zh-Hant-TW', '']
    """
    if tag == "*all*":
        return ""
    language, *subtags = re.split("[-_]", tag.strip())
    parts = [part.upper() if len(part) == 2 else part.title() for part in subtags]
    return "-".join([language.lower(), *(p.lower() if len(p) > 4 else p for p in parts)])


def _shorten(units: Sequence[_Unit]) -> dict[str, str]:
    """Return the name of each language: without the region, where no unit has two regions of it."""
    tags = dict.fromkeys(tag for unit in units for tag in unit.texts)
    apart = {
        base for unit in units for base, count in _count_bases(unit.texts).items() if count > 1
    }
    return {tag: tag if _base(tag) in apart else _base(tag) for tag in tags}


def _count_bases(tags: Iterable[str]) -> Counter[str]:
    return Counter(map(_base, tags))


def _base(tag: str) -> str:
    """Return the language of a tag; Chinese in two scripts is two."""
    language, *subtags = tag.split("-")
    return "-".join([language, *(part for part in subtags if len(part) == 4)])
