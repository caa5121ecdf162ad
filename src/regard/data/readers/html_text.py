"""The text of a page of HTML: what a browser shows of it, a line for each block.

Scripts, styles, the title and templates are left out; what repeats on each page of a site is not.
Cost: one pass of the standard library's parser, in Python.
"""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser

from regard.data.progress import tracked
from regard.data.readers.problems import require_readable
from regard.data.readers.source import DataSource
from regard.data.readers.suffixes import suffix_of
from regard.data.readers.text_lines import TextFile, numbered_lines
from regard.errors import DataError

Attributes = list[tuple[str, str | None]]
"""Names and values of the attributes of a tag."""
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
_START = re.compile(
    # What matched is not tried in another way: many comments would take forever.
    rb"\s*+(?:(?><\?xml[^>]*>|<!--.*?-->)\s*+)*+<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
_CHARSET = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_WINDOWS = dict.fromkeys(["ascii", "iso8859-1"], "cp1252")
_SEARCHED = 4096  # bytes in which the encoding is declared
_PIECE = 1_000_000  # characters of a line that are parsed at once
_MARK = b"\xef\xbb\xbf"
_UNSEEN = frozenset(["script", "style", "title", "template", "noscript", "svg", "math"])
_WITHIN_LINES = re.compile(
    "abbr|acronym|a|bdi|bdo|big|b|cite|code|data|del|dfn|em|font|img|ins|i|kbd|label|mark|q|ruby|"
    "rb|rp|rt|samp|small|span|strike|strong|sub|sup|s|time|tt|u|var|wbr"
)
"""Elements that end no line; all others are blocks."""
_CELLS = frozenset(["td", "th"])


def is_html(name: str, content: bytes) -> bool:
    """Return whether a file is a page of HTML, by its name or its beginning.

    >>> is_html("page.htm", b"a"), is_html("-", b"<!DOCTYPE html><p>a"), is_html("a.txt", b"<p>")
    (True, True, False)
    """
    return suffix_of(name) in HTML_SUFFIXES or bool(
        _START.match(content[:_SEARCHED].removeprefix(_MARK))
    )


def read_html(source: DataSource, encoding: str = "utf-8") -> str:
    """Return the text of a page.

    Args:
        source: The page.
        encoding: Its encoding, where the page does not declare one that is known.

    Raises:
        DataError: It cannot be decoded, or has no text.
    """
    file = TextFile(source.path, _find_encoding(source.content, encoding), source.content, [])
    parser = _TextParser()
    for _, line in numbered_lines(file):
        pieces = range(0, len(line), _PIECE)  # a page may be one line
        for start in tracked(pieces, f"reading {source.path}", len(pieces), "MB"):
            parser.feed(line[start : start + _PIECE])
    parser.close()
    require_readable(file.problems)
    text = parser.text()
    if not text:
        raise DataError(f"{source.path}: a page of HTML without text.")
    return text


def _find_encoding(content: bytes, encoding: str) -> str:
    """Return the encoding that a page declares, or another where it declares none that is known.

    A page that says in ASCII that it is UTF-16 is UTF-8 (HTML standard, 13.2.3.2), and Latin-1 is
    Windows' extension of it (Encoding standard, 4.2).

    >>> names = b"UTF-16", b"x-unknown", b"iso-8859-1"
    >>> [_find_encoding(b"<meta charset=%b>" % name, "utf-8") for name in names]
    ['utf-8', 'utf-8', 'cp1252']
    """
    declared = _CHARSET.search(content[:_SEARCHED])
    if declared is None or content.startswith(_MARK):
        return encoding
    try:
        name = codecs.lookup(declared[1].decode()).name
    except LookupError:
        return encoding
    return "utf-8" if name.startswith("utf-16") else _WINDOWS.get(name, name)


class _TextParser(HTMLParser):
    """Collects the text between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._unseen = ""  # the outermost element that is not shown
        self._depth = 0  # of elements of that name in it
        self._num_pre = 0

    def text(self) -> str:
        """Return the lines that are not blank."""
        lines = "".join(self._pieces).split("\n")
        return "\n".join(filter(None, (" ".join(line.split()) for line in lines)))

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:  # noqa: ARG002
        """Begin an element: a block on a line of its own."""
        if self._unseen:
            self._depth += tag == self._unseen
        elif tag in _UNSEEN:
            self._unseen, self._depth = tag, 1
        else:
            self._num_pre += tag == "pre"
            self._separate(tag)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:  # noqa: ARG002
        """Pass over an element without content, such as ``<br/>``."""
        if not self._unseen:
            self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if self._unseen:
            self._depth -= tag == self._unseen
            if not self._depth:
                self._unseen = ""
        else:
            self._num_pre = max(0, self._num_pre - (tag == "pre"))
            self._separate(tag)

    def handle_data(self, data: str) -> None:
        """Take text that is shown; ends of lines count in ``<pre>`` alone."""
        if not self._unseen:
            self._pieces.append(data if self._num_pre else re.sub(r"\s+", " ", data))

    def _separate(self, tag: str) -> None:
        """End a line at a block, and a word at a cell of a table."""
        if tag in _CELLS:
            self._pieces.append(" ")
        elif _WITHIN_LINES.fullmatch(tag) is None:
            self._pieces.append("\n")
