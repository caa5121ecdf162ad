"""Where the elements of an XML file are, so that texts can be put in and all else stays.

A tree that is written again would change prefixes, quotes and spaces. Declarations of entities are
refused: a few of them expand to gigabytes. Cost: one pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr, unescape

from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.tasks.translation.documents.document import (
    Document,
    DocumentOptions,
    Segment,
    decode,
)
from regard.tasks.translation.documents.placeholders import Syntax

_ENCODING = re.compile(rb"""\s*<\?xml[^>]*\sencoding\s*=\s*["']([\w.-]+)["']""")
_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_MARKUP = (
    r"""<!\[CDATA\[.*?\]\]>|<!--.*?-->|<\?.*?\?>|</?[A-Za-z_](?:[^<>"']|"[^"]*"|'[^']*')*>"""
    r"|&(?!(?:lt|gt|amp|quot|apos);)[\w#]+;"
)
_QUOTES = {"&quot;": '"', "&apos;": "'"}
XML_LANG = "http://www.w3.org/XML/1998/namespace lang"
"""Name of the attribute ``xml:lang``."""


@dataclass(eq=False)
class Element:
    """An element, and the bytes of the file that it is.

    Args:
        name: Its name without the namespace.
        attributes: Its attributes; those of a namespace have it and a space before their name.
        line: Line of its start, from 1.
        start: First byte of its start tag.
        inner_start: Byte after the start tag.
        parent: The element that it is in.
        inner_end: First byte of its end tag; `inner_start` where it has none (``<x/>``).
        end: Byte after its end tag.
        children: The elements in it.
    """

    name: str
    attributes: dict[str, str]
    line: int
    start: int
    inner_start: int
    parent: Element | None
    inner_end: int = 0
    end: int = 0
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """Return the first child of a name; None where there is none."""
        return next((child for child in self.children if child.name == name), None)

    def descendants(self, *names: str) -> Iterator[Element]:
        """Yield all elements of some names in it, in order."""
        for child in self.children:
            if child.name in names:
                yield child
            yield from child.descendants(*names)

    def inherited(self, name: str) -> str | None:
        """Return an attribute of the element, or of the nearest that it is in and that has it."""
        element: Element | None = self
        while element is not None and name not in element.attributes:
            element = element.parent
        return None if element is None else element.attributes[name]


class Edit(NamedTuple):
    """A change of a file.

    Args:
        start: First byte that is replaced.
        end: Byte after the last one.
        content: What is put there.
    """

    start: int
    end: int
    content: str


EditUnit = Callable[[str, DocumentOptions], list[Edit]]
"""Returns the changes for a translation, which is XML."""


class XmlFile:
    """An XML file and its elements.

    Args:
        source: The file.
        encoding: Its encoding, where neither a byte order mark nor its declaration says it.

    Raises:
        DataError: It is not well-formed, or declares entities; the message names the line.
    """

    def __init__(self, source: DataSource, encoding: str) -> None:
        declared = _ENCODING.match(source.content.removeprefix(b"\xef\xbb\xbf"))
        text, self.encoding = decode(source, declared[1].decode() if declared else encoding)
        self.name = source.path
        self.has_mark = text.startswith("\ufeff")
        self.content = text.removeprefix("\ufeff").encode()
        self.root = self._parse()

    def _parse(self) -> Element:
        """Return the root with all that is in it."""
        parser = expat.ParserCreate("utf-8", " ")
        root = current = Element("", {}, 0, 0, 0, None)

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal current
            begin, line = parser.CurrentByteIndex, parser.CurrentLineNumber
            tag = _TAG.match(self.content, begin)
            stop = tag.end() if tag else begin
            local = name.rpartition(" ")[2]
            element = Element(local, attributes, line, begin, stop, current)
            current.children.append(element)
            current = element

        def end(_: str) -> None:
            nonlocal current
            element = current
            if self.content.endswith(b"/>", element.start, element.inner_start):
                element.inner_end = element.end = element.inner_start
            else:
                element.inner_end = parser.CurrentByteIndex
                element.end = self.content.index(b">", element.inner_end) + 1
            current = element.parent or root

        def refuse_entity(name: str, *_: object) -> None:
            raise DataError(
                f"{self.name}:{parser.CurrentLineNumber}: declares the entity {name}, which is not "
                "expanded.  Put its text in its place: xmllint --noent"
            )

        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.EntityDeclHandler = refuse_entity
        try:
            parser.Parse(self.content, True)
        except expat.ExpatError as error:
            cause = expat.ErrorString(error.code)
            raise DataError(
                f"{self.name}:{error.lineno}: not well-formed XML ({cause})."
            ) from error
        return root.children[0]

    def inner(self, element: Element) -> str:
        """Return the XML in an element."""
        return self.content[element.inner_start : element.inner_end].decode()

    def tag(self, element: Element) -> str:
        """Return the start tag of an element."""
        return self.content[element.start : element.inner_start].decode()

    def with_attributes(self, element: Element, **attributes: str) -> str:
        """Return the start tag of an element, not closed, with some attributes set."""
        tag = self.tag(element).removesuffix(">").removesuffix("/").rstrip()
        for name, value in attributes.items():
            pattern = re.compile(rf"""(?<=\s){name}\s*=\s*("[^"]*"|'[^']*')""")
            setting = f"{name}={quoteattr(value)}"
            if pattern.search(tag):
                tag = pattern.sub(lambda _, setting=setting: setting, tag, count=1)
            else:
                tag = f"{tag} {setting}"
        return f"{tag}>"

    def named_like(self, element: Element, name: str) -> str:
        """Return a name with the prefix that an element has in the file."""
        own = re.match(r"<([^\s/>]+)", self.tag(element))
        prefix, colon, _ = own[1].rpartition(":") if own else ("", "", "")
        return f"{prefix}{colon}{name}"

    def indent_of(self, element: Element) -> str:
        """Return the end of the line before an element and its indent; empty within a line."""
        begin = self.content.rfind(b"\n", 0, element.start)
        begin -= self.content.endswith(b"\r", 0, max(0, begin))
        space = self.content[max(0, begin) : element.start].decode()
        return "" if space.strip() else space


class InlineText(NamedTuple):
    """The text of an element for a model, with its markup.

    Args:
        text: The XML in the element, with signs in place of entities such as ``&lt;``.
        is_markup: For each tag in the text whether it is markup, and not signs that look so.
    """

    text: str
    is_markup: list[bool]


class InlineSyntax:
    """The markup within texts of a format.

    Args:
        opaque: Pattern of elements that stay with all that is in them.
    """

    def __init__(self, opaque: str) -> None:
        markup = f"{opaque}|{_MARKUP}"
        self.syntax = Syntax(extra=markup, ordered=markup, has_accelerators=True)
        self._markup = re.compile(markup, re.DOTALL)

    def find(self, text: str) -> list[str]:
        """Return the markup in a text, and the signs that look so, in order."""
        return [match[0] for match in self._markup.finditer(text)]

    def read(self, xml: str) -> InlineText | None:
        """Return the text of XML; None where signs in it look like its tags."""
        pieces, signs, is_markup, end = [], [], [], 0
        for match in [*self._markup.finditer(xml), None]:
            text = unescape(xml[end : match.start() if match else len(xml)], _QUOTES)
            similar = self.find(text)  # such as <b> of &lt;b&gt;
            tag = [match[0]] if match else []
            pieces += [text, *tag]
            signs += [*similar, *tag]
            is_markup += [*[False] * len(similar), *[True] * len(tag)]
            end = match.end() if match else end
        text = "".join(pieces)
        return InlineText(text, is_markup) if self.find(text) == signs else None

    def write(self, inline: InlineText, text: str) -> str:
        """Return the XML for a translation of a text, which has the same markup."""
        pieces, end = [], 0
        for match, is_tag in zip(self._markup.finditer(text), inline.is_markup, strict=True):
            tag = match[0] if is_tag else escape(match[0])
            pieces += [escape(text[end : match.start()]), tag]
            end = match.end()
        return "".join([*pieces, escape(text[end:])])

    def suits(self, inline: InlineText) -> Callable[[str], bool]:
        """Return what says of a translation whether it has the markup of its source."""
        markup = self.find(inline.text)
        return lambda text: self.find(text) == markup and _NOT_XML.search(text) is None


class XmlDocument(Document):
    """A file of XML whose texts are translated.

    Args:
        file: The file.
        inline: The markup within its texts.
        noun: What an entry is.
    """

    def __init__(self, file: XmlFile, inline: InlineSyntax, noun: str) -> None:
        super().__init__(noun, file.encoding)
        self.edit_head: Callable[[DocumentOptions], list[Edit]] = lambda _: []
        """Returns the changes for a file in which something has been filled."""
        self._file, self._inline = file, inline
        self._units: list[tuple[EditUnit, InlineText]] = []

    def add(self, xml: str, edit: EditUnit) -> None:
        """Add a text.

        Args:
            xml: The XML of its source.
            edit: Returns the changes for its translation.
        """
        inline = self._inline.read(xml)
        if inline is None:
            self.num_kept += 1
            return
        self.num_filled += 1
        syntax, accepts = self._inline.syntax, self._inline.suits(inline)
        self.segments.append(Segment(text=inline.text, syntax=syntax, accepts=accepts))
        self._units.append((edit, inline))

    def fill(self, translations: Sequence[str], options: DocumentOptions) -> str:
        """Return the text of the file with a translation of each text."""
        edits = self.edit_head(options) if self._units else []
        for (edit, inline), text in zip(self._units, translations, strict=True):
            edits += edit(self._inline.write(inline, text), options)
        pieces, end = [], 0
        for change in sorted(edits):
            pieces += [self._file.content[end : change.start].decode(), change.content]
            end = change.end
        mark = "\ufeff" if self._file.has_mark else ""
        return "".join([mark, *pieces, self._file.content[end:].decode()])
