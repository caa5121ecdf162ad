"""Markdown: prose is translated; code, addresses, front matter, HTML and the structure stay.

markdown-it finds the blocks, as CommonMark and tables of GitHub define them; a translation is taken
only if it has the same inline elements when it is read again. https://spec.commonmark.org
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from regard.data.readers.source import DataSource
from regard.tasks.translation.documents.document import DocumentOptions, RangeDocument, decode
from regard.tasks.translation.documents.placeholders import Syntax

_FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n.*?\n\1[ \t]*\r?(?:\n|$)", re.DOTALL)
_CELL_END = re.compile(r"(?<!\\)\|")
_CODE = r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
_LINK_END = r"""\]\((?:[^()\s]|\([^()]*\))*(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)|\]\[[^\]]*\]"""
_IMAGE = rf"!\[[^\]]*(?:{_LINK_END})"
_EMPHASIS = r"\*+|~~|(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)"
_ORDERED = rf"{_LINK_END}|[\[\]]|{_EMPHASIS}"
_OTHERS = r"\[\^[^\]]+\]|\[![A-Z]+\]|\\[!-/:-@\[-`{-~]|:[a-z0-9_+-]+:"
_HARD_BREAK = re.compile(r"(?: {2,}|\\)$|^\s*\[![A-Z]+\]\s*$")  # or the title of an alert
_PROSE = {"text", "softbreak"}
_LITERAL = {"code_inline", "html_inline"}

Range = tuple[int, int]
"""Start and end of a text in a file."""


def read_markdown(source: DataSource, options: DocumentOptions) -> RangeDocument:
    """Return the prose of a file of Markdown.

    Raises:
        DataError: It is not text in its encoding.
    """
    text, encoding = decode(source, options.encoding)
    front_matter = _FRONT_MATTER.match(text)
    begin = front_matter.end() if front_matter else int(text.startswith("\ufeff"))
    references: dict[str, Any] = {}
    tokens = _parser().parse(text[begin:], references)
    document = RangeDocument(text, encoding, "paragraph")
    syntax = _syntax(references.get("references", {}))
    for ranges in _texts(text, tokens, _lines(text, begin)):
        lines = [text[start:end] for start, end in ranges]
        if not syntax.has_words("\n".join(lines)):
            document.num_kept += 1
            continue
        document.num_filled += 1
        for group in _between_hard_breaks(lines, ranges):
            segment = "\n".join(text[start:end] for start, end in group)
            document.add(group, syntax, _suits(segment, references))
    return document


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _syntax(references: dict[str, Any]) -> Syntax:
    """Return what counts as a placeholder in a file with some references, such as ``[label]``."""
    labels = "|".join(rf"{re.escape(label)}" for label in sorted(references, key=len, reverse=True))
    reference = [rf"(?i:\[(?:{labels})\](?:\[\])?)(?![\[(])"] if labels else []
    extra = "|".join([_CODE, *reference, _IMAGE, _OTHERS, _ORDERED])
    return Syntax(extra=extra, ordered=_ORDERED)


def _lines(text: str, begin: int) -> list[Range]:
    """Return the range of each line from an index on, without its end."""
    ranges = []
    for line in text[begin:].split("\n"):
        ranges.append((begin, begin + len(line.rstrip("\r"))))
        begin += len(line) + 1
    return ranges


def _texts(text: str, tokens: Sequence[Token], lines: Sequence[Range]) -> Iterator[list[Range]]:
    """Yield the ranges of the lines of each paragraph, heading and cell of a table."""
    cells: list[Range] = []
    for token in tokens:
        if token.map is None:
            continue
        if token.type == "tr_open":
            cells = _cells(text, lines[token.map[0]])
        if token.type != "inline":
            continue
        contents = token.content.split("\n")
        is_cell, ranges = bool(cells), lines[token.map[0] : token.map[1]]
        if is_cell:
            ranges = [cells.pop(0)]
            contents = [content.replace("|", "\\|") for content in contents]
        pairs = zip(ranges, contents, strict=False)
        parts = [part for line, content in pairs if (part := _find(text, line, content))]
        if len(parts) == len(contents) and token.content:
            yield parts


def _find(text: str, line: Range, content: str) -> Range | None:
    """Return where the end of a line has a content; None where it is written in another way."""
    start = text.rfind(content.strip(), *line)
    return None if start < 0 else (start, start + len(content.strip()))


def _cells(text: str, line: Range) -> list[Range]:
    """Return the range of each cell of a row."""
    start, end = line
    row = text[start:end]
    start += len(row) - len(row.lstrip(" \t>"))
    start += text.startswith("|", start)
    cells = []
    for match in [*_CELL_END.finditer(text, start, end), None]:
        stop = end if match is None else match.start()
        cells.append((start, stop))
        start = stop + 1
    return cells


def _between_hard_breaks(lines: Sequence[str], ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Yield the ranges of lines that are one text: up to a line that ends with a hard break."""
    group: list[Range] = []
    for line, (start, end) in zip(lines, ranges, strict=True):
        sign = _HARD_BREAK.search(line)
        group.append((start, start + sign.start() if sign else end))
        if sign:
            yield group
            group = []
    if group:
        yield group


def _suits(source: str, references: dict[str, Any]) -> Callable[[str], bool]:
    """Return what says of a translation whether it is read as the same elements as its source."""
    elements, num_bars = cache(partial(_elements, source, references)), _num_bars(source)
    return lambda text: _num_bars(text) == num_bars and _elements(text, references) == elements()


def _num_bars(text: str) -> int:
    """Return the number of bars, which separate the cells of a table."""
    return len(_CELL_END.findall(text))


def _elements(text: str, references: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the blocks and the inline elements of a text, and what of them is not prose."""
    blocks = _parser().parse(text, dict(references))
    children = [child for block in blocks for child in block.children or []]
    inline = [
        f"{child.type} {child.content if child.type in _LITERAL else ''} {child.attrs}"
        for child in children
        if child.type not in _PROSE
    ]
    return [block.type for block in blocks], sorted(inline)
