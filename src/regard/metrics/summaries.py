"""Baselines of summaries, and how much of a document they copy.

The first words of a document and its first sentence need no understanding of it. Coverage and
density measure extractive fragments (Grusky, Naaman and Artzi 2018, "Newsroom: A Dataset of 1.3
Million Summaries with Diverse Extractive Strategies", section 4.1).

Cost: linear in the words of the documents, except for words that a document repeats often.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from regard.metrics.bootstrap import require_aligned
from regard.metrics.rouge import f1_percent, prefix_subsequences
from regard.metrics.words import first_words, split_words

_END_OF_SENTENCE = re.compile(  # before a capital letter, or after a mark that needs no space
    r"[.!?…؟।]+[\"'»”’)\]]*(?=\s+[^\sa-z])|[。！？｡]+[」』”’）]*|\n\s*\n"
)
_MAX_WORDS = 200  # of the first words that are tried as a summary


class ExtractiveFragments(msgspec.Struct, frozen=True, kw_only=True):
    """How much of summaries is copied from their documents.

    Args:
        coverage: Words of a summary that belong to a fragment of its document, in percent.
        density: Mean length of the fragment that a word of a summary belongs to, in words; 0 for a
            word of none.
    """

    coverage: float
    density: float


def first_sentence(document: str) -> str:
    """Return the first sentence of a document; all of it where no end of a sentence is found.

    >>> first_sentence("It costs 3.50 today, e.g. here. Tomorrow it is free.")
    'It costs 3.50 today, e.g. here.'
    >>> first_sentence("今天下雨。明天晴。")
    '今天下雨。'
    """
    document = document.strip()
    end = _END_OF_SENTENCE.search(document)
    return document if end is None else document[: end.end()].strip()


def best_num_words(documents: Sequence[str], summaries: Sequence[str]) -> int:
    """Return how many first words of the documents are the best summary by ROUGE-L, on average.

    Args:
        documents: Documents, one or more.
        summaries: Their summaries.

    Returns:
        1 to 200 words; of equally good numbers the smallest.

    Raises:
        DataError: There are no documents.
        ShapeError: The lengths differ.

    >>> best_num_words(["one two three four"], ["two three"])
    3
    """
    require_aligned(documents, summaries, "documents")
    totals = np.zeros(_MAX_WORDS)
    for document, summary in zip(documents, summaries, strict=True):
        expected = split_words(summary)
        words = split_words(first_words(document, _MAX_WORDS))[:_MAX_WORDS]
        scores = [
            f1_percent(num_hits, num_words, len(expected))
            for num_words, num_hits in enumerate(prefix_subsequences(expected, words), start=1)
        ]
        totals[: len(scores)] += scores
        totals[len(scores) :] += scores[-1] if scores else 0.0  # a short document is used whole
    return int(totals.argmax()) + 1


def extractive_fragments(documents: Sequence[str], summaries: Sequence[str]) -> ExtractiveFragments:
    """Return mean coverage and density of summaries; a summary without words has 0 of both.

    Args:
        documents: Documents, one or more.
        summaries: A summary of each.

    Raises:
        DataError: There are no documents.
        ShapeError: The lengths differ.

    >>> extractive_fragments(["the cat sat on the mat"], ["a cat sat down"])
    ExtractiveFragments(coverage=50.0, density=1.0)
    """
    require_aligned(documents, summaries, "documents")
    coverages, densities = [], []
    for document, summary in zip(documents, summaries, strict=True):
        words = split_words(summary)
        lengths = np.array(_fragment_lengths(split_words(document), words))
        coverages.append(lengths.sum() / max(1, len(words)))
        densities.append((lengths**2).sum() / max(1, len(words)))
    return ExtractiveFragments(
        coverage=100.0 * float(np.mean(coverages)), density=float(np.mean(densities))
    )


def _fragment_lengths(document: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Return the lengths of the fragments of a summary, from left to right (figure 3).

    At each word the longest run of words is taken that the document has too.
    """
    starts: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(document):
        starts[word].append(index)
    lengths, position = [], 0
    while position < len(summary):
        longest = 0
        for start in starts.get(summary[position], ()):
            length = 1
            while (
                start + length < len(document)
                and position + length < len(summary)
                and document[start + length] == summary[position + length]
            ):
                length += 1
            longest = max(longest, length)
        if longest:
            lengths.append(longest)
        position += max(1, longest)
    return lengths
