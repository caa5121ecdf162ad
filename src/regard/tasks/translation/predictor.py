"""Inference with a trained translation model: text in, text out."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from regard.settings.validation import iterate_texts, require_texts
from regard.tasks.sequence_to_sequence.predictor import (
    Candidate,
    SearchOptions,
    TargetWriter,
    require_one_output,
    warn_of_empty,
    write_in_chunks,
)

if TYPE_CHECKING:
    from regard.tasks.translation.documents.translation import FileTranslation

_STREAMED_LINES = 512  # lines that are sorted by length and decoded together
_TOKENS_PER_CHARACTER = 5  # at most four bytes, and one token more per word


class Translator(TargetWriter):
    """A trained translation model, which also scores and streams its translations."""

    verb = "translate"

    @property
    def language_tags(self) -> list[str]:
        """What a text begins with to say which language is to be written, such as ``<de>``."""
        return list(filter(self.tokenizer.language_tag, self.config.tokenizer.tags))

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str, **options: Unpack[SearchOptions]
    ) -> str: ...
    @overload
    def translate(self, texts: Sequence[str], **options: Unpack[SearchOptions]) -> list[str]: ...
    def translate(
        self, texts: str | Sequence[str], **options: Unpack[SearchOptions]
    ) -> str | list[str]:
        """Translate a sentence, or several.

        Args:
            texts: One sentence or line each; an empty one stays empty. Another one whose
                translation is empty is warned of.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The best translation of each, in the same order; of one string, a string.

        Raises:
            ConfigError: An option is out of its range, or `nbest` is above 1.
        """
        require_one_output(options, "translate_best")
        if isinstance(texts, str):
            return self.translate([texts], **options)[0]
        texts = require_texts(texts, "texts")
        results = zip(texts, self.translate_best(texts, **options), strict=True)
        return [best.text for _, (best, *_) in warn_of_empty(results, "line")]

    def translate_best(
        self, texts: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[list[Candidate]]:
        """Return the `nbest` best translations of each text, best first, with scores.

        A text longer than the model was trained on is split between words into parts, which are
        translated one by one and joined.

        Args:
            texts: One sentence or line each; an empty one stays empty.
            options: How the translations are searched for, see `SearchOptions`.

        Raises:
            ConfigError: An option is out of its range, or a text is something else.
        """
        texts = require_texts(texts, "texts")
        search = self.search_config(**options)
        self._warn_of_unknown_tags(texts)
        splits = [self._split(text) if text.strip() else [""] for text in texts]
        rows = self.tokenizer.encode([part for parts in splits for part in parts])
        outputs = iter(self.write(rows, search))
        return [
            _join(list(itertools.islice(outputs, len(parts))), self.tokenizer.language_tag(text))
            for text, parts in zip(texts, splits, strict=True)
        ]

    def stream(
        self, lines: Iterable[str], **options: Unpack[SearchOptions]
    ) -> Iterator[tuple[str, list[Candidate]]]:
        """Translate lines in order and in constant memory, while they are read.

        After the last one, those whose translation is empty are warned of.

        Args:
            lines: One sentence or line each.
            options: How the translations are searched for, see `SearchOptions`.

        Yields:
            Each line with its translations.

        Raises:
            ConfigError: An option is out of its range, or a line is not a text.
        """
        write = partial(self.translate_best, **options)
        texts = iterate_texts(lines, "lines")
        yield from write_in_chunks(texts, write, chunk_size=_STREAMED_LINES, noun="line")

    def translate_file(
        self,
        path: str | Path,
        output: str | Path | None = None,
        *,
        lang: str | None = None,
        fuzzy: bool = True,
        encoding: str = "utf-8",
        **options: Unpack[SearchOptions],
    ) -> FileTranslation:
        """Translate the texts of a file that are not translated yet, and keep the rest of it.

        Placeholders and markup are the same in a text and its translation. The formats are those of
        `regard.tasks.translation.documents.DOCUMENT_FORMATS`, known by the suffix of the name.

        Args:
            path: The file.
            output: File to write, completely or not at all; None writes none.
            lang: Codes such as ``en-de``, which go before those of the file and of the model. Where
                a model writes several languages, the target says which.
            fuzzy: Whether translations are marked as to be reviewed: as fuzzy in PO, by their state
                in XLIFF 1.2.
            encoding: Encoding of a file that does not say it itself.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The content of the translated file, and a report of what was done.

        Raises:
            ConfigError: An option is out of its range, it is unknown which language is to be
                written, or the output cannot be written.
            DataError: The file is missing, damaged, or of another format.
        """
        from regard.hub.storage import write_atomic
        from regard.tasks.translation.documents.document import DocumentOptions
        from regard.tasks.translation.documents.translation import translate_document

        require_one_output(options, "translate_best")
        settings = DocumentOptions(fuzzy=fuzzy, encoding=encoding)
        translation = translate_document(self, path, settings, lang=lang or "", **options)
        if output is not None:
            write_atomic(Path(output), translation.content)
        return translation

    def _warn_of_unknown_tags(self, texts: Sequence[str]) -> None:
        """Warn where a text begins with what looks like a tag, and the model has no such one."""
        for word in filter(None, map(self.unknown_tag, texts)):
            tags = ", ".join(self.language_tags)
            warnings.warn(f"{word} is read as text.  The tags of this model: {tags}.", stacklevel=3)

    def unknown_tag(self, text: str) -> str | None:
        """Return the tag that a text begins with where the model has tags, and no such one."""
        words = text.split(maxsplit=1)
        marks = {(tag[0], tag[-1]) for tag in self.language_tags if not tag[0].isalnum()}
        if not words or (words[0][0], words[0][-1]) not in marks:
            return None
        return None if self.tokenizer.language_tag(words[0]) else words[0]

    def _split(self, text: str) -> list[str]:
        """Split a text into parts of at most the trained length, between words where possible."""
        limit = self.config.data.max_length
        if len(text.encode()) <= limit or self._count_tokens([text])[0] <= limit:
            return [text]
        tag = self.tokenizer.language_tag(text)
        text = text.removeprefix(tag)
        if tag:  # each part begins with it, and with a space if the text does
            tag += " " * text.startswith(" ")
            limit -= self._count_tokens([tag])[0]
        words = _split_words(text, max(1, limit // _TOKENS_PER_CHARACTER))
        lengths = self._count_tokens(words)
        # The first word of a part loses the space before it, and may then have more tokens.
        first_lengths = self._count_tokens([word.strip() for word in words])
        parts = _pack(words, lengths, list(map(max, lengths, first_lengths)), limit)
        return [tag + part.strip() for part in parts]

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(row) for row in self.tokenizer.encode(texts)]


def _split_words(text: str, width: int) -> list[str]:
    """Return the words of a text, each with the space before it, cut to some characters."""
    return [
        word[start : start + width]
        for word in re.findall(r"\s*\S+|\s+$", text)
        for start in range(0, len(word), width)
    ]


def _pack(
    words: Sequence[str], lengths: Sequence[int], first_lengths: Sequence[int], limit: int
) -> list[str]:
    """Return words joined to parts, each as full as the next word allows; at least one.

    Args:
        words: The words, in order.
        lengths: Tokens of each within a part.
        first_lengths: Tokens of each at the beginning of a part.
        limit: Maximum number of tokens of a part of several words.
    """
    parts, room = [""], limit
    for word, length, first_length in zip(words, lengths, first_lengths, strict=True):
        if length > room and parts[-1]:
            parts.append("")
            room = limit
        room -= length if parts[-1] else first_length
        parts[-1] += word
    return parts


def _join(parts: list[list[Candidate]], tag: str) -> list[Candidate]:
    """Join the translations of the parts of one text: the best ones, the second best, and so on.

    A part with fewer translations than others gives its last one again. A tag that translations
    have is of no language but a placeholder, which the text has once where its parts begin with it.

    Args:
        parts: The translations of each part.
        tag: The tag that all parts begin with; empty if with none.

    Returns:
        As many translations as the part with most of them has.
    """
    if len(parts) == 1:
        return parts[0]
    most = max(map(len, parts))
    repeated = [[*part, *part[-1:] * (most - len(part))] for part in parts]
    return [_join_ranked(ranked, tag) for ranked in zip(*repeated, strict=True)]


def _join_ranked(ranked: Sequence[Candidate], tag: str) -> Candidate:
    """Return one translation of a text of one of each of its parts."""
    placeholder = rf"\s*{re.escape(tag)}"  # without a tag, the spaces at the beginning
    rest = [re.sub(placeholder, "", part.text, count=1) for part in ranked[1:]]
    return Candidate(
        text=" ".join(filter(None, map(str.strip, [ranked[0].text, *rest]))),
        score=sum(part.score for part in ranked) / len(ranked),
        confidence=min(part.confidence for part in ranked),
        is_complete=all(part.is_complete for part in ranked),
    )
