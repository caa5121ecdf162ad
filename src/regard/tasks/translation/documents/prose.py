"""A text cut into sentences, for a model that translates sentences; and put together again.

What is between sentences stays as it is: the ends of lines, indents, bullets, columns of spaces.
Lines that continue a sentence are one text, which is broken again into as many lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regard.tasks.translation.documents.placeholders import Syntax

_BULLET = re.compile(r"\s*(?:[-*•–—>]+\s+|\d+[.)]\s+|\[[ xX]\]\s+)*")
_COLUMNS = re.compile(r"(\s{2,}|\t)")
_SENTENCE_END = re.compile(
    r"""[.!?…]["'”’»)\]]*(\s+)(?=["'“„«(\[]*[^\W\d_a-zß-ÿ]|[<*`])|(?<=[。！？])()(?=.)"""
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|St|No|Fig|approx|resp|incl|z\.B)\.$"
)
_LONG_LINE = 40  # characters, from which a line is one that was wrapped
_END_OF_THOUGHT = (".", ":", "!", "?", "…", ";", "。", "！", "？")


@dataclass(frozen=True)
class Paragraph:
    """Lines that are one text.

    Args:
        pieces: What is between sentences at even indices, sentences at odd ones, without spaces
            around them.
        breaks: The ends of its lines but the last, each with the indent of the next line.
    """

    pieces: Sequence[str]
    breaks: Sequence[str] = ()

    @property
    def sentences(self) -> Sequence[str]:
        """What is translated."""
        return self.pieces[1::2]


def split_paragraphs(text: str, syntax: Syntax, *, is_wrapped: bool) -> list[Paragraph]:
    """Return the paragraphs of a text, cut into sentences; `join_paragraphs` gives it again.

    Args:
        text: Any text.
        syntax: What counts as a placeholder, which is not cut.
        is_wrapped: Whether all lines are one text; else those that seem to continue one.
    """
    lines = re.split(r"([^\S\n]*\r?\n)", text)
    contents, ends = lines[::2], [*lines[1::2], ""]
    paragraphs, start = [], 0
    for index in range(len(contents)):
        is_last = index + 1 == len(contents)
        if is_last or not _continues(contents[index], contents[index + 1], is_wrapped=is_wrapped):
            paragraph = _paragraph(contents[start : index + 1], ends[start:index], syntax)
            paragraphs.append(paragraph)
            if ends[index]:
                paragraphs.append(Paragraph([ends[index]]))
            start = index + 1
    return paragraphs


def _continues(line: str, following: str, *, is_wrapped: bool) -> bool:
    """Return whether a line is continued by the next one."""
    if not line.strip() or not following.strip():
        return False
    if is_wrapped:
        return True
    begins_small = following.lstrip()[0].islower() and _COLUMNS.search(line.strip()) is None
    return begins_small and len(line) >= _LONG_LINE and not line.endswith(_END_OF_THOUGHT)


def _paragraph(lines: Sequence[str], ends: Sequence[str], syntax: Syntax) -> Paragraph:
    """Join lines to a paragraph; the first one keeps its indent and its bullet."""
    indents = [line[: len(line) - len(line.lstrip())] for line in lines[1:]]
    breaks = [end + indent for end, indent in zip(ends, indents, strict=True)]
    text = " ".join([lines[0], *map(str.strip, lines[1:])])
    bullet = _BULLET.match(text)
    begin = bullet.end() if bullet else 0
    pieces = [text[:begin]]
    for column in _split_outside(text[begin:], _COLUMNS, syntax):
        for part in _split_outside(column, _SENTENCE_END, syntax):
            core = part.strip()
            if not syntax.has_words(core):  # nor has what is between columns or sentences
                pieces[-1] += part
                continue
            before, _, after = part.partition(core)
            pieces[-1] += before
            pieces += [core, after]
    return Paragraph(pieces, breaks)


def _split_outside(text: str, pattern: re.Pattern[str], syntax: Syntax) -> list[str]:
    """Split a text at the last group of a pattern, but not within placeholders."""
    is_covered = syntax.covers(text)
    parts, end = [], 0
    for match in pattern.finditer(text):
        group = match.lastindex or 1
        start, stop = match.span(group)
        if is_covered(start) or (
            pattern is _SENTENCE_END and _ABBREVIATION.search(text[end:start].rstrip())
        ):
            continue
        parts += [text[end:start], text[start:stop]]
        end = stop
    return [*parts, text[end:]]


def join_paragraphs(
    paragraphs: Sequence[Paragraph], syntax: Syntax, translate: Callable[[str], str]
) -> str:
    """Return the text of paragraphs with each sentence translated."""
    return "".join(_join(paragraph, syntax, translate) for paragraph in paragraphs)


def _join(paragraph: Paragraph, syntax: Syntax, translate: Callable[[str], str]) -> str:
    """Return the text of a paragraph, broken into as many lines as it has."""
    pieces = list(paragraph.pieces)
    pieces[1::2] = map(translate, paragraph.sentences)
    text = "".join(pieces)
    if not paragraph.breaks:
        return text
    lines = break_evenly(text, 1 + len(paragraph.breaks), syntax)
    ends = [*paragraph.breaks[: len(lines) - 1], ""]
    return "".join(line + end for line, end in zip(lines, ends, strict=True))


def break_evenly(text: str, num_lines: int, syntax: Syntax) -> list[str]:
    """Return a text as lines of about the same length, broken outside of placeholders.

    A text without spaces is broken between characters.

    Args:
        text: A text of one line.
        num_lines: Number of lines; fewer where there are not enough spaces.
        syntax: What counts as a placeholder.

    >>> break_evenly("one two three four", 2, Syntax())
    ['one two', 'three four']
    """
    is_covered = syntax.covers(text)
    spaces = [i for i, char in enumerate(text) if char == " " and not is_covered(i)]
    has_spaces = bool(spaces)
    spaces = spaces or [i for i in range(1, len(text)) if not is_covered(i)]
    lines, start = [], 0
    for left in range(num_lines, 1, -1):
        goal = start + (len(text) - start) / left
        free = [index for index in spaces if start < index < len(text) - 1]
        if not free:
            break
        index = min(free, key=lambda space: abs(space - goal))
        lines.append(text[start:index])
        start = index + has_spaces
    return [*lines, text[start:]]
