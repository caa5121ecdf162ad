"""ROUGE scores of summaries in any script, with bootstrap intervals and a paired test.

ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum (Lin 2004, "ROUGE: A Package for Automatic Evaluation of
Summaries"), the mean F1 over the summaries in percent. On English they equal the package
``rouge-score`` with its defaults (no stemming; the sentences of ROUGE-Lsum are lines). Words of
other scripts count too, see `regard.metrics.words`; that package drops them.

Cost: bit-parallel longest common subsequences (Hyyrö 2004, "Bit-Parallel LCS-length Computation
Revisited"), one pass over the words of the longer text for every 64 words of the shorter. Summaries
of several lines need the whole table, row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Generic

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.metrics.bootstrap import (
    NUM_SAMPLES,
    SEED,
    M,
    MetricWithInterval,
    PairedScore,
    compare_means,
    mean_with_interval,
    require_aligned,
)
from regard.metrics.words import split_words
from regard.version import installed_version

ROUGE_NAMES: tuple[str, ...] = ("rouge1", "rouge2", "rougeL", "rougeLsum")
"""The scores, in the order in which they are computed."""


class RougeScores(
    msgspec.Struct, Generic[M], frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Scores of a set of summaries, or the differences of two systems in each.

    Args:
        rouge1: F1 of words, 0 to 100.
        rouge2: F1 of pairs of adjacent words, 0 to 100.
        rougeL: F1 of the longest common subsequence, 0 to 100.
        rougeLsum: The same, line by line of the reference, 0 to 100.
        num_summaries: Summaries scored.
    """

    rouge1: M
    rouge2: M
    rougeL: M  # noqa: N815 - the name of the field
    rougeLsum: M  # noqa: N815 - the name of the field
    num_summaries: int

    def by_name(self) -> dict[str, M]:
        """Return the scores by their names."""
        return {name: getattr(self, name) for name in ROUGE_NAMES}


def rouge_l(summaries: Sequence[str], references: Sequence[str]) -> float:
    """Return mean ROUGE-L, 0 to 100, without an interval.

    Args:
        summaries: Summaries of a system.
        references: What each should have been.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.

    >>> round(rouge_l(["the cat sat"], ["the cat is here"]), 1)
    57.1
    """
    require_aligned(summaries, references, "summaries")
    pairs = zip(map(split_words, summaries), map(split_words, references), strict=True)
    return float(np.mean([_f1_of_subsequence(*pair) for pair in pairs]))


def rouge_rows(summaries: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Return the scores of each summary, ``[rows, scores]``, 0 to 100, as in `ROUGE_NAMES`.

    Args:
        summaries: Summaries of a system.
        references: What each should have been.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    require_aligned(summaries, references, "summaries")
    return np.array([_score_pair(*pair) for pair in zip(summaries, references, strict=True)])


def score_summaries(
    summaries: Sequence[str], references: Sequence[str]
) -> RougeScores[MetricWithInterval]:
    """Return the ROUGE scores of summaries, with 95 % bootstrap intervals.

    Args:
        summaries: Summaries of a system.
        references: What each should have been.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    rows = rouge_rows(summaries, references)
    scores = {
        name: mean_with_interval(rows[:, index], rouge_signature(name))
        for index, name in enumerate(ROUGE_NAMES)
    }
    return RougeScores(**scores, num_summaries=len(rows))


def compare_summaries(
    summaries: Sequence[str], other: Sequence[str], references: Sequence[str]
) -> RougeScores[PairedScore]:
    """Return the difference of two systems by paired bootstrap, on the same resamples for both.

    Args:
        summaries: Summaries of the first system.
        other: Summaries of the second system.
        references: What each should have been.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    first, second = (rouge_rows(texts, references) for texts in (summaries, other))
    scores = {
        name: compare_means(first[:, index], second[:, index], rouge_signature(name))
        for index, name in enumerate(ROUGE_NAMES)
    }
    return RougeScores(**scores, num_summaries=len(first))


def rouge_signature(name: str) -> str:
    """Return how a score and its interval are computed, in the form of sacrebleu.

    >>> rouge_signature("rougeL").rpartition("|")[0]
    'rougeL|bs:1000|seed:12345|f1|case:lower|tok:unicode|stem:no'
    """
    rule = "f1|case:lower|tok:unicode|stem:no"
    return f"{name}|bs:{NUM_SAMPLES}|seed:{SEED}|{rule}|version:{installed_version()}"


def prefix_subsequences(reference: Sequence[str], words: Sequence[str]) -> Iterator[int]:
    """Yield the length of the longest common subsequence with each beginning of some words.

    Args:
        reference: Words of the reference.
        words: Words of the other text.

    Yields:
        The length for the first word, for the first two words, and so on.

    >>> list(prefix_subsequences(["a", "b", "c"], ["b", "a", "c"]))
    [1, 1, 2]
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(reference):
        positions[word] = positions.get(word, 0) | 1 << index
    # V of Hyyrö 2004, figure 1: bit i is 0 where reference[: i + 1] has a longer subsequence
    # than reference[:i].
    full = (1 << len(reference)) - 1
    vector, length = full, 0
    for word in words:
        matches = vector & positions.get(word, 0)
        if matches:
            vector = ((vector + matches) | (vector - matches)) & full
            length = len(reference) - vector.bit_count()
        yield length


def f1_percent(num_hits: int, num_words: int, num_expected: int) -> float:
    """Return the harmonic mean of precision and recall, in percent; 0 without a hit.

    Args:
        num_hits: What both texts have.
        num_words: What the summary has.
        num_expected: What the reference has.

    Returns:
        The F1 score, 0 to 100.
    """
    if not num_hits:
        return 0.0
    precision, recall = num_hits / num_words, num_hits / num_expected
    return 100.0 * (2 * precision * recall / (precision + recall))


def _score_pair(summary: str, reference: str) -> list[float]:
    """Return the scores of one summary, as in `ROUGE_NAMES`."""
    lines = [split_words(line) for line in summary.split("\n")]
    expected_lines = [split_words(line) for line in reference.split("\n")]
    words, expected = split_words(summary), split_words(reference)
    scores = [_f1_of_ngrams(words, expected, size) for size in (1, 2)]
    scores.append(_f1_of_subsequence(words, expected))
    lines, expected_lines = list(filter(None, lines)), list(filter(None, expected_lines))
    if len(lines) <= 1 and len(expected_lines) <= 1:
        scores.append(scores[-1])
    else:
        num_hits = _num_hits_of_lines(lines, expected_lines)
        scores.append(f1_percent(num_hits, len(words), len(expected)))
    return scores


def _f1_of_ngrams(words: Sequence[str], expected: Sequence[str], size: int) -> float:
    """Return the F1 score of n-grams, each counted as often as both texts have it."""
    ngrams, expected_ngrams = (
        Counter(zip(*(text[start:] for start in range(size)), strict=False))
        for text in (words, expected)
    )
    num_hits = (ngrams & expected_ngrams).total()
    return f1_percent(num_hits, ngrams.total(), expected_ngrams.total())


def _f1_of_subsequence(words: Sequence[str], expected: Sequence[str]) -> float:
    """Return the F1 score of the longest common subsequence."""
    num_hits = max(prefix_subsequences(expected, words), default=0)
    return f1_percent(num_hits, len(words), len(expected))


def _num_hits_of_lines(
    lines: Sequence[Sequence[str]], expected_lines: Sequence[Sequence[str]]
) -> int:
    """Return the words of the union of subsequences (Lin 2004, section 3.2), none counted twice.

    Each line of the reference has a longest common subsequence with each line of the summary, and
    hits are words of their union. A word has at most as many hits as either text has of it, as in
    version 1.5.5 of the ROUGE package.
    """
    counts = Counter(word for line in lines for word in line)
    expected_counts = Counter(word for line in expected_lines for word in line)
    hits: Counter[str] = Counter()
    for expected in expected_lines:
        indices = set().union(*(_subsequence(expected, line) for line in lines))
        hits.update(expected[index] for index in indices)
    return (hits & counts & expected_counts).total()


def _subsequence(expected: Sequence[str], line: Sequence[str]) -> list[int]:
    """Return the indices in `expected` of one longest common subsequence.

    Where several are longest, it is that of ``rouge-score``: from the end, a word of `line` is left
    out only where leaving out the word of `expected` would make the subsequence shorter.
    """
    numbers: dict[str, int] = {}
    rows, columns = (
        np.array([numbers.setdefault(word, len(numbers)) for word in words])
        for words in (expected, line)
    )
    table = np.zeros((len(rows) + 1, len(columns) + 1), dtype=np.int32)
    for index, number in enumerate(rows):
        extended = table[index, :-1] + (columns == number)
        np.maximum.accumulate(np.maximum(table[index, 1:], extended), out=table[index + 1, 1:])
    row, column = len(rows), len(columns)
    indices = []
    while row and column:
        if rows[row - 1] == columns[column - 1]:
            row, column = row - 1, column - 1
            indices.append(row)
        elif table[row, column - 1] > table[row - 1, column]:
            column -= 1
        else:
            row -= 1
    return indices
