"""Inference with a trained summarizer: documents in, summaries out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Unpack, overload

import msgspec

from regard.settings.validation import iterate_texts, require_texts
from regard.tasks.sequence_to_sequence.predictor import (
    Candidate,
    SearchOptions,
    TargetWriter,
    require_one_output,
    warn_of_empty,
    write_in_chunks,
)

_CHUNK_SIZE = 64  # documents of a stream that are sorted by length and summarized together


class Summary(Candidate, frozen=True, kw_only=True):
    """One summary of a document.

    Args:
        truncated: Tokens of the document that were cut off, and not read.
    """

    truncated: int = 0


class Summarizer(TargetWriter):
    """A trained summarizer, which also scores and streams its summaries."""

    verb = "summarize"

    @overload
    def summarize(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, documents: str, **options: Unpack[SearchOptions]
    ) -> str: ...
    @overload
    def summarize(
        self, documents: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[str]: ...
    def summarize(
        self, documents: str | Sequence[str], **options: Unpack[SearchOptions]
    ) -> str | list[str]:
        """Summarize a document, or several.

        The end of a document that is longer than `max_source_length` is cut off, with a warning.

        Args:
            documents: The texts; the summary of an empty one is empty. Another one whose summary is
                empty is warned of.
            options: How the summaries are searched for, see `SearchOptions`.

        Returns:
            The best summary of each, in the same order; of one string, a string.

        Raises:
            ConfigError: An option is out of its range, or `nbest` is above 1.
        """
        require_one_output(options, "summarize_best")
        is_single = isinstance(documents, str)
        documents = [documents] if is_single else require_texts(documents, "documents")
        results = zip(documents, self.summarize_best(documents, **options), strict=True)
        best = [summaries[0] for _, summaries in warn_of_empty(results, "document")]
        if num_cut := sum(summary.truncated > 0 for summary in best):
            warnings.warn(self.describe_cut(num_cut, len(best)), stacklevel=2)
        texts = [summary.text for summary in best]
        return texts[0] if is_single else texts

    def summarize_best(
        self, documents: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[list[Summary]]:
        """Return the `nbest` best summaries of each document, best first, with scores.

        Args:
            documents: The texts; the summary of an empty one is empty.
            options: How the summaries are searched for, see `SearchOptions`.

        Raises:
            ConfigError: An option is out of its range, or a document is not a text.
        """
        documents = require_texts(documents, "documents")
        search, limit = self.search_config(**options), self.max_source_length
        rows = self.encode_sources([text if text.strip() else "" for text in documents])
        outputs = self.write([row[:limit] for row in rows], search)
        return [
            [
                Summary(**msgspec.structs.asdict(output), truncated=max(0, len(row) - limit))
                for output in best
            ]
            for row, best in zip(rows, outputs, strict=True)
        ]

    def stream(
        self, documents: Iterable[str], **options: Unpack[SearchOptions]
    ) -> Iterator[tuple[str, list[Summary]]]:
        """Summarize documents in order and in constant memory, while they are read.

        After the last one, those whose summary is empty are warned of.

        Args:
            documents: The texts.
            options: How the summaries are searched for, see `SearchOptions`.

        Yields:
            Each document with its summaries.

        Raises:
            ConfigError: An option is out of its range, or a document is not a text.
        """
        write = partial(self.summarize_best, **options)
        texts = iterate_texts(documents, "documents")
        yield from write_in_chunks(texts, write, chunk_size=_CHUNK_SIZE, noun="document")

    def describe_cut(self, num_cut: int, num_documents: int) -> str:
        """Return in words that the end of some documents was not read."""
        limit = f"{self.max_source_length:,} tokens"
        if num_documents == 1:
            return f"the document is longer than {limit}: the rest was cut off and not read"
        verb = "is" if num_cut == 1 else "are"
        return (
            f"{num_cut:,} of {num_documents:,} documents {verb} longer than {limit}: the rest was "
            "cut off and not read"
        )
