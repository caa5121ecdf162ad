"""Translations of the texts of a document, with placeholders unharmed.

A sentence is translated as it is: models with a copy mechanism keep placeholders. Where the first
output harms one, the first of the others that does not is taken, and else what is between the
placeholders is translated and put together again, which keeps them by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from regard.tasks.translation.documents.document import Segment
from regard.tasks.translation.documents.placeholders import (
    Syntax,
    find_accelerator,
    put_accelerator,
)
from regard.tasks.translation.documents.prose import join_paragraphs, split_paragraphs
from regard.tasks.translation.documents.wording import (
    as_capitals,
    as_sentence,
    is_all_capitals,
    match_wording,
)

Write = Callable[[Sequence[str]], list[list[str]]]
"""Returns the outputs of each of some sentences, best first."""
_ACCELERATOR = re.compile(r"[&_](?=\w)(?!\w+;)")
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


class _Text:
    """A segment cut into sentences.

    Args:
        segment: The segment.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment, self.syntax = segment, segment.syntax
        self._paragraphs = split_paragraphs(
            segment.text, segment.syntax, is_wrapped=segment.is_wrapped
        )

    @property
    def queries(self) -> Iterator[_Query]:
        """Its sentences."""
        for paragraph in self._paragraphs:
            yield from (_Query(sentence, self.syntax) for sentence in paragraph.sentences)

    def fill(self, translation_of: Callable[[_Query], tuple[str, Way]]) -> Filled:
        """Return the segment with each of its sentences translated."""
        ways = [Way.AS_WRITTEN]

        def translate(sentence: str) -> str:
            output, way = translation_of(_Query(sentence, self.syntax))
            ways.append(way)
            return output

        text = join_paragraphs(self._paragraphs, self.syntax, translate)
        return Filled(text, max(ways), bool(self.syntax.find(self.segment.text)))

    def fits(self, filled: Filled) -> bool:
        """Return whether a translation has the placeholders and suits the format."""
        source, output = self.segment.text, filled.text
        if self.syntax.has_accelerators:  # the mark of one may be elsewhere
            source, output = (_ACCELERATOR.sub("", text) for text in (source, output))
        return self.syntax.is_unharmed(source, output) and self.segment.accepts(filled.text)


def fill_segments(
    segments: Sequence[Segment], write: Write, accepts: Callable[[str], bool]
) -> list[Filled]:
    """Return a translation of each text of a document, with the placeholders of the text.

    Args:
        segments: The texts.
        write: Returns the outputs of the model for each of some sentences, best first.
        accepts: Says of a text whether the encoding of the file has its characters.
    """
    sentences, texts = _Sentences(write, accepts), list(map(_Text, segments))
    sentences.translate(query for text in texts for query in text.queries)
    filled = [text.fill(sentences.best) for text in texts]
    refused = [row for row, text in enumerate(texts) if not text.fits(filled[row])]
    sentences.translate_in_parts(query for row in refused for query in texts[row].queries)
    for row in refused:
        text = texts[row]
        filled[row] = text.fill(sentences.safest)
        if not text.fits(filled[row]):
            filled[row] = filled[row]._replace(text=text.segment.text, way=Way.AS_IN_THE_SOURCE)
    return filled
