"""Translations of the texts of a document, with placeholders unharmed.

A sentence is translated as it is: models with a copy mechanism keep placeholders. Where the first
output harms one, the first of the others that does not is taken, and else what is between the
placeholders is translated and put together again, which keeps them by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from regard.tasks.translation.documents.document import Segment
from regard.tasks.translation.documents.placeholders import (
    Syntax,
    find_accelerator,
    put_accelerator,
)
from regard.tasks.translation.documents.prose import (
    Paragraph,
    Sentence,
    join_paragraphs,
    split_paragraphs,
)
from regard.tasks.translation.documents.wording import (
    as_capitals,
    as_sentence,
    is_all_capitals,
    match_wording,
)

Write = Callable[[Sequence[str]], list[list[str]]]
"""Returns the outputs of each of some sentences, best first."""
_EDGES = re.compile(r"\A(\W*)(.*?)(\W*)\Z", re.DOTALL)


class Way(IntEnum):
    """How a translation came about, from the best to the worst."""

    AS_WRITTEN = 0
    ANOTHER_OUTPUT = 1
    IN_PARTS = 2
    AS_IN_THE_SOURCE = 3


class Filled(NamedTuple):
    """A translation of a segment.

    Args:
        text: The translation.
        way: The worst way of its sentences.
        has_placeholders: Whether the source has some.
    """

    text: str
    way: Way
    has_placeholders: bool


class _Query(NamedTuple):
    """A sentence, and what counts as a placeholder in it."""

    text: str
    syntax: Syntax


@dataclass(frozen=True)
class _Input:
    """What a model reads of a sentence, and how its output becomes a translation.

    Args:
        query: The sentence.
        text: What the model reads: without the mark of an accelerator, and in small letters.
        accelerator: Where its mark is in the sentence.
        is_capitals: Whether the sentence is in capitals.
    """

    query: _Query
    text: str
    accelerator: int | None
    is_capitals: bool

    @classmethod
    def prepare(cls, query: _Query) -> _Input:
        """Prepare a sentence."""
        text, syntax = query
        accelerator = find_accelerator(text) if syntax.has_accelerators else None
        if accelerator is not None:
            text = text[:accelerator] + text[accelerator + 1 :]
        is_capitals = is_all_capitals(text, syntax)
        text = as_sentence(text, syntax) if is_capitals else text
        return cls(query, text, accelerator, is_capitals)

    def finish(self, output: str) -> str | None:
        """Return the translation that an output is; None where it is empty or harmed."""
        syntax, source = self.query.syntax, self.query.text
        output = re.sub(" {2,}", " ", output)  # no sentence has more than one between words
        is_text = output.strip() and not set("\n\ufffd") & {*output} - {*source}
        if not is_text or not syntax.is_unharmed(self.text, output):
            return None
        output = match_wording(self.text, output, syntax)
        if not any(map(str.isalnum, output)):  # such as a full stop alone
            return None
        if self.is_capitals:
            output = as_capitals(output, syntax)
        if self.accelerator is not None:
            mark, key = source[self.accelerator : self.accelerator + 2]
            output = put_accelerator(output, mark, key, syntax.covers(output))
        return output


class _Sentences:
    """The translations of all sentences of a document, each asked for once.

    Args:
        write: The model.
        accepts: Says of a text whether the file can hold it.
    """

    def __init__(self, write: Write, accepts: Callable[[str], bool]) -> None:
        self._write, self._accepts = write, accepts
        self._whole: dict[_Query, tuple[str, Way] | None] = {}
        self._in_parts: dict[_Query, tuple[str, Way]] = {}

    def translate(self, queries: Iterable[_Query]) -> None:
        """Translate sentences, those whose outputs all are harmed in parts."""
        new = [query for query in dict.fromkeys(queries) if query not in self._whole]
        inputs = [_Input.prepare(query) for query in new]
        outputs = self._write([sentence.text for sentence in inputs])
        for query, sentence, texts in zip(new, inputs, outputs, strict=True):
            self._whole[query] = self._choose(sentence, texts)
        self.translate_in_parts(query for query in new if self._whole[query] is None)

    def _choose(self, sentence: _Input, outputs: Sequence[str]) -> tuple[str, Way] | None:
        """Return the first output that is unharmed; None where all are harmed."""
        for rank, output in enumerate(outputs):
            text = sentence.finish(output)
            if text is not None and self._accepts(text):
                return text, Way.ANOTHER_OUTPUT if rank else Way.AS_WRITTEN
        return None

    def translate_in_parts(self, queries: Iterable[_Query]) -> None:
        """Translate what is between the placeholders of sentences."""
        new = [query for query in dict.fromkeys(queries) if query not in self._in_parts]
        inputs = {query: _Input.prepare(query) for query in new}
        parts = {query: _parts_of(inputs[query]) for query in new}
        texts = list(dict.fromkeys(word for some in parts.values() for word in some[1::2] if word))
        outputs = dict(zip(texts, self._write(texts), strict=True))
        for query in new:
            self._in_parts[query] = self._join_parts(inputs[query], parts[query], outputs)

    def _join_parts(
        self, sentence: _Input, parts: Sequence[str], outputs: dict[str, list[str]]
    ) -> tuple[str, Way]:
        """Return the translation of a sentence from those of its parts."""
        syntax = sentence.query.syntax
        written = [
            self._part(part, outputs.get(part, []), syntax) if index % 2 else part
            for index, part in enumerate(parts)
        ]
        text = sentence.finish("".join(written))
        if text is None or not self._accepts(text) or written == list(parts):
            return sentence.query.text, Way.AS_IN_THE_SOURCE
        return text, Way.IN_PARTS

    def _part(self, part: str, outputs: Sequence[str], syntax: Syntax) -> str:
        """Return the first output for a part without a placeholder; else the part."""
        for output in outputs:
            text = match_wording(part, output, syntax) if output.strip() else ""
            if (
                any(map(str.isalnum, text))
                and not syntax.find(text)
                and "\n" not in text
                and self._accepts(text)
            ):
                return text
        return part

    def best(self, query: _Query) -> tuple[str, Way]:
        """Return the translation of a sentence, and its way."""
        return self._whole[query] or self._in_parts[query]

    def safest(self, query: _Query) -> tuple[str, Way]:
        """Return the translation of a sentence in parts, and its way."""
        return self._in_parts[query]


def _parts_of(sentence: _Input) -> list[str]:
    """Cut a sentence: what stays at even indices, words to be translated at odd ones."""
    syntax = sentence.query.syntax
    pieces = [""]
    for index, part in enumerate(syntax.split(sentence.text)):
        if index % 2 or not syntax.has_words(part):
            pieces[-1] += part
            continue
        ((before, words, after),) = _EDGES.findall(part)
        pieces[-1] += before
        pieces += [words, after]
    return pieces


def fill_segments(
    segments: Sequence[Segment], write: Write, accepts: Callable[[str], bool]
) -> list[Filled]:
    """Translate the texts of a document.

    Args:
        segments: The texts.
        write: Returns the outputs of the model for each of some sentences, best first.
        accepts: Says of a text whether the encoding of the file has its characters.

    Returns:
        A translation of each, whose placeholders are those of the segment.
    """
    sentences = _Sentences(write, accepts)
    paragraphs = [
        split_paragraphs(segment.text, segment.syntax, is_wrapped=segment.is_wrapped)
        for segment in segments
    ]
    queries = [
        _queries_of(some, segment.syntax)
        for some, segment in zip(paragraphs, segments, strict=True)
    ]
    sentences.translate(query for some in queries for query in some)
    filled = [
        _assemble(segment, some, sentences.best)
        for segment, some in zip(segments, paragraphs, strict=True)
    ]
    refused = [index for index, segment in enumerate(segments) if not _fits(segment, filled[index])]
    sentences.translate_in_parts(query for index in refused for query in queries[index])
    for index in refused:
        segment = segments[index]
        filled[index] = _assemble(segment, paragraphs[index], sentences.safest)
        if not _fits(segment, filled[index]):
            has_placeholders = filled[index].has_placeholders
            filled[index] = Filled(segment.text, Way.AS_IN_THE_SOURCE, has_placeholders)
    return filled


def _queries_of(paragraphs: Iterable[Paragraph], syntax: Syntax) -> list[_Query]:
    pieces = (piece for paragraph in paragraphs for piece in paragraph.pieces)
    return [_Query(piece.text, syntax) for piece in pieces if isinstance(piece, Sentence)]


def _assemble(
    segment: Segment,
    paragraphs: Sequence[Paragraph],
    translation: Callable[[_Query], tuple[str, Way]],
) -> Filled:
    """Return a segment with each of its sentences translated."""
    ways = [Way.AS_WRITTEN]

    def translate(text: str) -> str:
        output, way = translation(_Query(text, segment.syntax))
        ways.append(way)
        return output

    text = join_paragraphs(paragraphs, segment.syntax, translate)
    return Filled(text, max(ways), bool(segment.syntax.find(segment.text)))


def _fits(segment: Segment, filled: Filled) -> bool:
    """Return whether a translation has the placeholders of a segment and suits its format."""
    source = segment.text
    if segment.syntax.has_accelerators:  # the mark of one may be elsewhere
        source, output = _without_accelerators(source), _without_accelerators(filled.text)
    else:
        output = filled.text
    return segment.syntax.is_unharmed(source, output) and segment.accepts(filled.text)


def _without_accelerators(text: str) -> str:
    return re.sub(r"[&_](?=\w)(?!\w+;)", "", text)
