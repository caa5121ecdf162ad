"""Catalogs of gettext, ``.po`` and ``.pot``: what is not translated is filled, the rest stays.

Lines of other entries are the same bytes afterwards, so that the difference to the file before is
what was translated. Fuzzy entries are kept: they hold a proposal that somebody is to look at, such
as those of this program after its last run. https://www.gnu.org/software/gettext/manual
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from gettext import c2py

import polib

from regard.data.readers.source import DataSource
from regard.data.readers.text_lines import without_end
from regard.errors import DataError
from regard.tasks.translation.documents.document import (
    Document,
    DocumentOptions,
    Segment,
    decode,
    newline_of,
)
from regard.tasks.translation.documents.placeholders import Syntax
from regard.tasks.translation.languages import base_code

_CHARSET = re.compile(rb'"Content-Type:[^"]*charset=([\w.:-]+)')
_LINE = re.compile(
    r"""\s*(?P<obsolete>\#~)?\s*(?P<previous>\#?\|)?\s*
    (?P<keyword>msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)?\s*"(?:[^"\\]|\\.)*"\s*""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"\s*#(?![~|])")
_LINE_ENDS = frozenset("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")  # to Python, but not to gettext
_PRIVATE_USE = 0xE000  # characters that mean what those who use them agree on
_FAULT = re.compile(r"\(line (\d+)\)(?:: (.*))?")
_PLURAL_FORMS = re.compile(r"nplurals\s*=\s*(\d+)\s*;\s*plural\s*=\s*([^;]+)")
_GERMANIC = (2, "n != 1")  # what gettext takes where a catalog does not say it
_LONGEST_LINE = 79
_MOST_COUNTED = 1000  # numbers that are looked at to learn which of them a plural form is for
_NO_CHARSET = ("", "CHARSET")


@dataclass
class _Entry:
    """Where the lines of an entry are, from 0, and what polib reads in them.

    Args:
        start: The first line of its comments.
        keywords: The first line of each of its keywords, such as ``msgid``, in order.
        end: The line after its last string.
        is_obsolete: Whether it is commented out.
    """

    start: int
    keywords: dict[str, int]
    end: int
    is_obsolete: bool = False

    @property
    def has_translation(self) -> bool:
        """Whether it has a string for a translation, which may be empty."""
        return any(keyword.startswith("msgstr") for keyword in self.keywords)

    def expects(self, keyword: str) -> bool:
        """Return whether a keyword may come next."""
        is_string = keyword.startswith("msgstr") or keyword == "msgid_plural"
        return keyword not in self.keywords and (not is_string or "msgid" in self.keywords)


class Catalog(Document):
    """A catalog of gettext; see `Document`.

    Args:
        name: Name of the file.
        text: Its text.
        encoding: Its encoding.
        target: Code of the language that is written, where the file does not say it.
    """

    def __init__(self, name: str, text: str, encoding: str, target: str = "") -> None:
        super().__init__("entry", encoding)
        self._newline = newline_of(text)
        self._lines = text.split("\n")
        entries = _find_entries(name, [line.rstrip("\r") for line in self._lines])
        messages, self._metadata, self._header = _parse(name, text, entries)
        self.target_language = self._metadata.get("Language", "").strip()
        self._num_plurals, self._plural = self._plural_forms(target)
        self._forms = _sources_of_forms(self._num_plurals, self._plural)
        self._filled: list[tuple[_Entry, str]] = []  # with the keyword of the string
        for entry, message in zip(entries, messages, strict=True):
            if entry is not self._header:
                self._add(entry, message)

    def _plural_forms(self, target: str) -> tuple[int, str]:
        """Return the number of plural forms, and the expression that chooses one."""
        written = _PLURAL_FORMS.search(self._metadata.get("Plural-Forms", ""))
        if written is not None:
            return int(written[1]), written[2].strip()
        return _known_plural_forms(self.target_language or target) or _GERMANIC

    def _add(self, entry: _Entry, message: polib.POEntry) -> None:
        """Take the strings of an entry that are to be filled."""
        if entry.is_obsolete:
            return
        forms = {"msgstr": message.msgstr}
        sources = {"msgstr": message.msgid}
        if message.msgid_plural:
            forms = {f"msgstr[{i}]": "" for i in range(self._num_plurals)}
            forms |= {f"msgstr[{i}]": text for i, text in message.msgstr_plural.items()}
            sources = dict(zip(forms, self._form_sources(message, len(forms)), strict=True))
        empty = [keyword for keyword, text in forms.items() if not text]
        if not empty or message.fuzzy or not message.msgid:
            self.num_kept += 1
            return
        self.num_filled += 1
        is_printf = any(
            flag.endswith("-format") and not flag.startswith(("no-", "possible-"))
            for flag in message.flags
        )
        syntax = Syntax(is_printf=is_printf, has_accelerators=True)
        for keyword in empty:
            self.segments.append(Segment(text=sources[keyword], syntax=syntax))
            self._filled.append((entry, keyword))

    def _form_sources(self, message: polib.POEntry, num_forms: int) -> list[str]:
        """Return which source each plural form of an entry translates."""
        syntax = Syntax()
        is_for_all = syntax.is_unharmed(message.msgid, message.msgid_plural)
        forms = [*self._forms, *["plural"] * (num_forms - len(self._forms))]
        singular = {"one"} if not is_for_all else {"one", "among others"}
        return [message.msgid if form in singular else message.msgid_plural for form in forms]

    def fill(self, translations: Sequence[str], options: DocumentOptions) -> str:
        """Return the catalog with translations, marked as fuzzy if that is asked for.

        A header without a language or plural forms gets them, and the time of the revision.
        """
        entries = {entry.start: entry for entry, _ in self._filled}
        texts: dict[int, dict[str, str]] = {start: {} for start in entries}
        for (entry, keyword), text in zip(self._filled, translations, strict=True):
            texts[entry.start][keyword] = text
        lines = list(self._lines)
        for start in reversed(entries):  # from the end: lines before keep their place
            self._write_entry(lines, entries[start], texts[start], fuzzy=options.fuzzy)
        if self._header is not None and self._filled:
            self._write_header(lines, self._header, options)
        return "\n".join(lines)

    def _write_entry(
        self, lines: list[str], entry: _Entry, texts: dict[str, str], *, fuzzy: bool
    ) -> None:
        """Write the strings of an entry, and its flag."""
        written = {k: line for k, line in entry.keywords.items() if k.startswith("msgstr")}
        starts = sorted(written.items(), key=lambda item: item[1])
        ends = [*[line for _, line in starts[1:]], entry.end]
        old = {k: lines[begin:end] for (k, begin), end in zip(starts, ends, strict=True)}
        new = {k: self._with_ends(_string_lines(k, text)) for k, text in texts.items()}
        strings = [line for _, some in sorted({**old, **new}.items()) for line in some]
        begin = starts[0][1]
        if entry.end == len(lines) and strings:  # the file has no end of line at its end
            strings[-1] = strings[-1].rstrip("\r")
        lines[begin : entry.end] = strings
        if fuzzy:
            self._mark(lines, entry)

    def _mark(self, lines: list[str], entry: _Entry) -> None:
        """Add the flag fuzzy to an entry."""
        before = min(entry.keywords.values())
        flags = [i for i in range(entry.start, before) if lines[i].lstrip().startswith("#,")]
        if flags:
            lines[flags[0]] = re.sub(r"#,\s*", "#, fuzzy, ", lines[flags[0]], count=1)
        else:
            lines[before:before] = self._with_ends(["#, fuzzy"])

    def _with_ends(self, lines: Sequence[str]) -> list[str]:
        """Return lines that end as those of the file do."""
        return [line + self._newline.removesuffix("\n") for line in lines]

    def _write_header(self, lines: list[str], header: _Entry, options: DocumentOptions) -> None:
        """Write into the header what tools expect of a catalog that has been translated."""
        target = options.target or self.target_language
        fields = {"PO-Revision-Date": options.now.strftime("%Y-%m-%d %H:%M%z")}
        if target:
            fields["Language"] = target.replace("-", "_")
        if not _PLURAL_FORMS.search(self._metadata.get("Plural-Forms", "")) and (
            self._num_plurals,
            self._plural,
        ) == (_known_plural_forms(target) or ()):
            fields["Plural-Forms"] = f"nplurals={self._num_plurals}; plural={self._plural};"
        if "charset=CHARSET" in self._metadata.get("Content-Type", ""):
            fields["Content-Type"] = f"text/plain; charset={self.encoding.upper()}"
        for name, value in fields.items():
            self._write_field(lines, header, name, value)
        for index in range(header.start, header.keywords["msgid"]):
            if lines[index].strip() == "#, fuzzy":  # of a template, which it no longer is
                del lines[index]
                break

    def _write_field(self, lines: list[str], header: _Entry, name: str, value: str) -> None:
        """Write one field of the header, in place of its line or after the last one."""
        (line,) = self._with_ends([f'"{name}: {polib.escape(value)}\\n"'])
        field = re.compile(rf'\s*"{name}:.*\\n"\s*', re.IGNORECASE)
        index = header.keywords["msgstr"]
        end = index + 1
        while end < len(lines) and lines[end].lstrip().startswith('"'):
            if field.fullmatch(lines[end]):
                lines[end] = line
                return
            end += 1
        if name not in self._metadata:
            lines.insert(end, line)


def read_catalog(source: DataSource, options: DocumentOptions) -> Catalog:
    """Return a catalog; its header says the encoding, unless one is set that is not UTF-8.

    Raises:
        DataError: It is not one, or damaged; the message names the line.
    """
    charset = _CHARSET.search(source.content)
    named = charset[1].decode() if charset else ""
    is_set = options.encoding.lower().replace("-", "") != "utf8"
    encoding = options.encoding if is_set or named in _NO_CHARSET else named
    text, encoding = decode(source, encoding)
    return Catalog(source.path, text, encoding, options.target)


def _find_entries(name: str, lines: Sequence[str]) -> list[_Entry]:
    """Return where the entries of a catalog are.

    Raises:
        DataError: A line does not belong to a catalog, or an entry ends before its translation.
    """
    entries: list[_Entry] = []
    entry = _Entry(0, {}, 0)
    for number, match in _strings(name, lines):
        keyword = match["keyword"]
        if keyword in ("msgctxt", "msgid") and entry.has_translation:
            entries.append(entry)
            entry = _Entry(entry.end, {}, entry.end)
        if keyword is not None:
            if not entry.expects(keyword):
                raise DataError(
                    f"{name}:{number + 1}: {keyword} was not expected here: an entry has msgctxt "
                    "or none, msgid, msgid_plural or none, and msgstr."
                )
            entry.keywords[keyword] = number
            entry.is_obsolete = match["obsolete"] is not None
        elif not entry.keywords:
            raise DataError(f"{name}:{number + 1}: a text in quotes without msgid before it.")
        entry.end = number + 1
    if entry.keywords and not entry.has_translation:
        raise DataError(f"{name}:{entry.end}: the file ends within an entry, before its msgstr.")
    return [*entries, entry] if entry.keywords else entries


def _strings(name: str, lines: Sequence[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield the lines with strings that are no comments; raise DataError for any other line."""
    for number, line in enumerate(lines):
        if not line.strip() or _COMMENT.match(line):
            continue
        match = _LINE.fullmatch(line.removeprefix("\ufeff"))
        if match is None:
            raise DataError(
                f'{name}:{number + 1}: "{line.strip()[:60]}" is not a line of a catalog: msgctxt, '
                "msgid, msgstr and a text in quotes, or a comment, was expected."
            )
        if not match["previous"]:
            yield number, match


def _parse(
    name: str, text: str, entries: Sequence[_Entry]
) -> tuple[list[polib.POEntry], dict[str, str], _Entry | None]:
    """Return the messages of a catalog, one for each entry, and fields and entry of its header.

    Raises:
        DataError: polib cannot read it.
    """
    lines = [without_end(line) for line in text.removeprefix("\ufeff").split("\n")]
    # polib wants a space after the sign of a comment, and takes more signs for ends of lines.
    spaced = [re.sub(r"^\s*#([.:,=]?)(?=[^\s~|.:,=])", r"#\1 ", line) for line in lines]
    content = "\n".join(line.replace("#=", "# ", 1) for line in spaced) + "\n"
    stand_ins = _stand_ins(content)
    content = content.translate(stand_ins)
    try:
        messages = polib.pofile(content)
    except (OSError, ValueError) as error:
        fault = _FAULT.search(str(error))
        where = f":{fault[1]}" if fault else ""
        raise DataError(
            f"{name}{where}: {(fault and fault[2]) or 'not a catalog of gettext'}."
        ) from error
    header = next((entry for entry in entries if _is_header(entry, lines)), None)
    parsed = list(messages)
    if header is not None and len(parsed) + 1 == len(entries):
        parsed.insert(entries.index(header), polib.POEntry(msgid=""))
    if len(parsed) != len(entries):
        raise DataError(f"{name}: entries of this catalog cannot be distinguished.")
    line_ends = {ord(stand_in): chr(code) for code, stand_in in stand_ins.items()}
    for message in parsed:
        message.msgid = message.msgid.translate(line_ends)
        message.msgid_plural = (message.msgid_plural or "").translate(line_ends)
    return parsed, dict(messages.metadata), header


def _stand_ins(content: str) -> dict[int, str]:
    """Return for each character that ends lines to Python alone one that a text does not have."""
    present = set(content)
    unused = (chr(code) for code in range(_PRIVATE_USE, sys.maxunicode) if chr(code) not in present)
    ends = sorted(_LINE_ENDS & present)
    return dict(zip(map(ord, ends), unused, strict=False))


def _is_header(entry: _Entry, lines: Sequence[str]) -> bool:
    """Return whether an entry has an empty ``msgid``."""
    end = min(line for keyword, line in entry.keywords.items() if keyword.startswith("msgstr"))
    strings = "".join(lines[entry.keywords["msgid"] : end])
    is_plain = not entry.is_obsolete and "msgctxt" not in entry.keywords
    return is_plain and re.fullmatch(r'\s*msgid\s*(?:""\s*)*', strings) is not None


def _known_plural_forms(language: str) -> tuple[int, str] | None:
    """Return the plural forms of a language as Babel has them; None of an unknown one."""
    from babel.messages.plurals import PLURALS

    return PLURALS.get(language.replace("-", "_")) or PLURALS.get(base_code(language))


def _sources_of_forms(num_plurals: int, plural: str) -> list[str]:
    """Return for each plural form what it is for: ``one``, ``among others`` or ``plural``.

    These are a form of the number 1 alone, one of 1 and other numbers, and one of other numbers.
    """
    try:
        form_of = c2py(plural)
    except ValueError:  # such as the EXPRESSION of a template
        form_of = c2py(_GERMANIC[1])
    numbers: list[list[int]] = [[] for _ in range(num_plurals)]
    for number in range(_MOST_COUNTED):
        form = form_of(number)
        if 0 <= form < num_plurals:
            numbers[form].append(number)
    if num_plurals == 1:
        return ["plural"]
    return ["one" if some == [1] else "among others" if 1 in some else "plural" for some in numbers]


def _string_lines(keyword: str, text: str) -> list[str]:
    """Return the lines of a string as gettext writes them: broken after ends of lines and words."""
    escaped = polib.escape(text)
    if "\n" not in text.rstrip("\n") and len(f'{keyword} "{escaped}"') <= _LONGEST_LINE:
        return [f'{keyword} "{escaped}"']
    lines = [f'{keyword} ""']
    for part in re.findall(r"[^\n]*\n|[^\n]+", text):
        current = ""
        for word in re.findall(r"\S*\s*", polib.escape(part)):
            if current and len(current) + len(word) + 2 > _LONGEST_LINE:
                lines.append(f'"{current}"')
                current = ""
            current += word
        lines.append(f'"{current}"')
    return lines
