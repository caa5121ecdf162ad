"""What a page says, read by Python's own parser."""

from __future__ import annotations

from html.parser import HTMLParser

_EMPTY = {"br", "meta", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, texts and tables of a page; an element that is not closed fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self._cell or []))
            self._cell = None

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.texts.append(data)
            if self._cell is not None:
                self._cell.append(data)

    @property
    def text(self) -> str:
        """All texts, one after the other."""
        return "".join(self.texts)

    def names(self) -> set[str]:
        """Return the names of all elements."""
        return {name for name, _ in self.elements}

    def table(self, caption: str) -> list[list[str]]:
        """Return the rows of the table whose first header is this."""
        return next(rows for rows in self.tables if rows[0][0] == caption)
