"""Subtitles, SubRip (``.srt``) and WebVTT (``.vtt``): the times stay, the texts are translated.

The lines of a cue are one text, which is broken into as many lines again; a line that begins with a
dash is what another person says. WebVTT: https://www.w3.org/TR/webvtt1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.tasks.translation.documents.document import DocumentOptions, RangeDocument, decode
from regard.tasks.translation.documents.placeholders import Syntax

_STAMP = r"(?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_TIMES = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?")
_ARROW = "-->"
_SYNTAX = Syntax(extra=r"♪+|\{\\[^{}]*\}")
_OF_WEBVTT = ("WEBVTT", "NOTE", "STYLE", "REGION")

Line = tuple[int, str]
"""Where a line begins in the file, and its text without the end."""


def read_srt(source: DataSource, options: DocumentOptions) -> RangeDocument:
    """Return the texts of SubRip.

    Raises:
        DataError: A text has no times, or they cannot be read; the message names the line.
    """
    text, encoding = decode(source, options.encoding)
    document = RangeDocument(text, encoding, "cue")
    for number, block in _blocks(text):
        begin = _first_line_of_text(source.path, number, block)
        if not begin and not document.num_filled:
            raise DataError(
                f'{source.path}:{number}: "{block[0][1].strip()[:60]}" is neither the number of a '
                "cue nor its times, such as 00:00:01,000 --> 00:00:04,000."
            )
        document.num_filled += begin > 0  # without times, a text continues after a blank line
        _add(document, block[begin:])
    return document


def read_webvtt(source: DataSource, options: DocumentOptions) -> RangeDocument:
    """Return the texts of WebVTT; notes, styles and regions stay.

    Raises:
        DataError: The file does not begin with ``WEBVTT``, or times cannot be read.
    """
    text, encoding = decode(source, options.encoding)
    if not text.removeprefix("\ufeff").startswith("WEBVTT"):
        raise DataError(f"{source.path}:1: WEBVTT was expected at the beginning of the file.")
    document = RangeDocument(text, encoding, "cue")
    for number, block in _blocks(text):
        if block[0][1].removeprefix("\ufeff").startswith(_OF_WEBVTT) and _ARROW not in block[0][1]:
            continue
        begin = _first_line_of_text(source.path, number, block)
        if begin:
            document.num_filled += 1
            _add(document, block[begin:])
    return document


def _blocks(text: str) -> Iterator[tuple[int, list[Line]]]:
    """Yield the lines between blank ones, with the number of the first line."""
    block: list[Line] = []
    start = 0
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        content = line.rstrip("\r")
        if content.strip():
            block.append((start, content))
        elif block:
            yield number - len(block), block
            block = []
        start += len(line) + 1


def _first_line_of_text(name: str, number: int, block: Sequence[Line]) -> int:
    """Return the index of the line after the times of a cue; 0 where a block has no times.

    Raises:
        DataError: There is an arrow, but not between two times.
    """
    for index, (_, line) in enumerate(block[:2]):
        if _ARROW in line:
            if not _TIMES.fullmatch(line):
                raise DataError(
                    f'{name}:{number + index}: "{line.strip()[:60]}" are no times, such as '
                    "00:00:01,000 --> 00:00:04,000."
                )
            return index + 1
    return 0


def _add(document: RangeDocument, lines: Sequence[Line]) -> None:
    """Add the lines of a cue to a document, those of each person by themselves."""
    group: list[tuple[int, int]] = []
    for start, line in lines:
        text = line.strip()
        begin = start + line.index(text)
        if text.startswith(("-", "–", "—")) and group:
            document.add(group, _SYNTAX, _suits(line))
            group = []
        group.append((begin, begin + len(text)))
    if group:
        document.add(group, _SYNTAX, _suits("".join(line for _, line in lines)))


def _suits(source: str) -> Callable[[str], bool]:
    """Return what says of a translation whether it would be read as the text of one cue."""
    signs = source.count("<")

    def accepts(text: str) -> bool:
        lines = text.split("\n")
        return _ARROW not in text and all(map(str.strip, lines)) and text.count("<") <= signs

    return accepts
