"""A document: the texts of a file that are to be translated, and how they are put into it."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from regard.data.listing import pluralize
from regard.data.readers.source import DataSource
from regard.data.readers.text_lines import read_lines
from regard.errors import ConfigError, DataError
from regard.tasks.translation.documents.placeholders import Syntax

_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A text of a document that is to be translated.

    Args:
        text: The text.
        syntax: What counts as a placeholder in it.
        is_wrapped: Whether all its lines are one text.
        accepts: Says of a translation whether the format can hold it.
    """

    text: str
    syntax: Syntax = field(default_factory=Syntax)
    is_wrapped: bool = False
    accepts: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, kw_only=True)
class DocumentOptions:
    """How a document is read and written.

    Args:
        target: Code of the language that is written; empty where that is unknown.
        fuzzy: Whether translations are marked as to be reviewed, in formats that have such a mark.
        encoding: Encoding of the file, of formats that do not say it themselves.
        now: The time of the translation.
    """

    target: str = ""
    fuzzy: bool = True
    encoding: str = "utf-8"
    now: datetime = field(default_factory=lambda: datetime.now().astimezone())


class Document(ABC):
    """A file whose texts are translated.

    Args:
        noun: What an entry is, such as ``cue``.
        encoding: Encoding of the file.
    """

    def __init__(self, noun: str, encoding: str) -> None:
        self.noun, self.encoding = noun, encoding
        self.source_language = ""
        """Code of the language of its texts; empty where the file does not say it."""
        self.target_language = ""
        """Code of the language that it is to be translated to; empty where the file has none."""
        self.segments: list[Segment] = []
        """The texts that are to be translated."""
        self.num_kept = 0
        """Number of entries that stay as they are."""
        self.num_filled = 0
        """Number of entries that the segments are in."""

    @abstractmethod
    def fill(self, translations: Sequence[str], options: DocumentOptions) -> str:
        """Return the text of the file with a translation of each segment."""


class RangeDocument(Document):
    """A file in which each text is a range of its characters, or one of each of some lines.

    Args:
        text: The text of the file.
        encoding: Its encoding.
        noun: What an entry is.
    """

    def __init__(self, text: str, encoding: str, noun: str) -> None:
        super().__init__(noun, encoding)
        self._text = text
        self._ranges: list[Sequence[tuple[int, int]]] = []

    def add(
        self,
        ranges: Sequence[tuple[int, int]],
        syntax: Syntax,
        accepts: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Add the lines of a text, in the order of the file.

        Args:
            ranges: Start and end of the text of each line.
            syntax: What counts as a placeholder.
            accepts: Says of a translation whether the format can hold it.
        """
        text = "\n".join(self._text[start:end] for start, end in ranges)
        self.segments.append(Segment(text=text, syntax=syntax, is_wrapped=True, accepts=accepts))
        self._ranges.append(ranges)

    def fill(self, translations: Sequence[str], options: DocumentOptions) -> str:  # noqa: ARG002
        """Return the text of the file with a translation in place of each text.

        What is between two lines of a text stays between those of its translation.
        """
        pieces, end = [], 0
        for ranges, translation in zip(self._ranges, translations, strict=True):
            pieces.append(self._text[end : ranges[0][0]])
            for index, line in enumerate(translation.split("\n")):
                if index:
                    pieces.append(self._text[ranges[index - 1][1] : ranges[index][0]])
                pieces.append(line)
            end = ranges[-1][1]
        return "".join([*pieces, self._text[end:]])


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a translation of a file did.

    Args:
        entries: Number of entries of the file: messages, units, cues or paragraphs.
        filled: Those that were translated.
        kept: Those that stay as they were, such as those that had a translation.
        as_written: Texts with placeholders whose first output had them all.
        by_another_output: Those of which a later output had.
        in_parts: Those that were translated between the placeholders.
        as_in_the_source: Texts that stay in the language of the source, because the model writes
            nothing for them that the file can hold.
    """

    entries: int
    filled: int
    kept: int
    as_written: int
    by_another_output: int
    in_parts: int
    as_in_the_source: int

    def describe(self, noun: str) -> str:
        """Return the counts in words; `noun` is what an entry is."""
        plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
        counts = (
            f"{pluralize(self.entries, noun, plural)}, {self.filled:,} filled, {self.kept:,} kept; "
            f"placeholders: {self.as_written:,} as written, {self.by_another_output:,} by another "
            f"output, {self.in_parts:,} in parts"
        )
        if not self.as_in_the_source:
            return counts
        return f"{counts}; {pluralize(self.as_in_the_source, 'text')} as in the source"


def decode(source: DataSource, encoding: str) -> tuple[str, str]:
    """Return the text of a file with its line ends and its byte order mark, and its encoding.

    UTF-16 is known by its mark.

    Raises:
        ConfigError: The encoding is unknown.
        DataError: It is not text in this encoding; the message names the line and the byte.
    """
    content = source.content
    wide = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if wide is None:
        try:
            for _ in read_lines(source, encoding=encoding):
                pass
        except ConfigError as error:  # the encoding may be one that the file names
            raise ConfigError(f"{source.path}: {error}") from error
    try:
        return content.decode(wide or encoding), wide or encoding
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path}: not {wide or encoding} ({error}).") from error


def is_encodable(encoding: str) -> Callable[[str], bool]:
    """Return what says of a text whether an encoding has all of its characters."""

    def accepts(text: str) -> bool:
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return False
        return True

    return accepts


def newline_of(text: str) -> str:
    """Return what ends the first line of a text."""
    line, end, _ = text.partition("\n")
    return "\r\n" if end and line.endswith("\r") else "\n"
