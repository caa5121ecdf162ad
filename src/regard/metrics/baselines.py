"""Baselines of translation, which need no understanding of the source.

Copying the source, and answering with the target of the most similar training source: TF-IDF
vectors compared by their cosine (Salton and Buckley 1988, "Term-weighting approaches in automatic
text retrieval").

Cost: the inverted index holds a row and a weight for every distinct word of a sentence; a query
sums the lists of its words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from regard.errors import DataError, ShapeError
from regard.metrics.words import UNSPACED

_TERM = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def copy_source(sources: Sequence[str]) -> list[str]:
    """Return the sources as translations."""
    return list(sources)


class NearestNeighbor:
    """Translates with the target of the most similar training source.

    Words are compared without regard to case; in a script without spaces between words, single
    characters are compared. The first of equally similar sources is taken, also where none is
    similar.

    Args:
        sources: Training sources.
        targets: Their targets, one for each.

    Raises:
        DataError: There are no training pairs.
        ShapeError: The lengths differ.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        if len(sources) != len(targets):
            raise ShapeError(
                f"the numbers of sources ({len(sources):,}) and targets ({len(targets):,}) "
                "differ.  Give one target for each source."
            )
        if not sources:
            raise DataError("no training pairs to search for the nearest.  Give one or more.")
        self._targets = list(targets)
        self._terms: dict[str, int] = {}
        # The inverted index: for each term the rows that hold it, and its weight there. Sorted by
        # row, then by term: equal bags of words have norms that are bit-identical.
        postings: list[tuple[int, int, int]] = []
        for row, source in enumerate(sources):
            postings += sorted(
                (self._terms.setdefault(term, len(self._terms)), row, count)
                for term, count in Counter(_split_terms(source)).items()
            )
        terms, rows, counts = np.array(postings, dtype=np.int64).reshape(-1, 3).T
        document_frequency = np.bincount(terms, minlength=len(self._terms))
        # One added to numerator, denominator and logarithm: no weight is zero.
        self._idf = np.log((1 + len(sources)) / (1 + document_frequency)) + 1
        weights = counts * self._idf[terms]
        norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(sources)))
        by_term = np.argsort(terms, kind="stable")
        self._rows = rows[by_term]
        self._weights = weights[by_term] / norms[self._rows]
        self._starts = np.concatenate([[0], np.cumsum(document_frequency)])

    def translate(self, queries: Sequence[str]) -> list[str]:
        """Return the target of the training source nearest to each query."""
        return [self._targets[self._nearest(query)] for query in queries]

    def _nearest(self, query: str) -> int:
        """Return the row with the highest cosine; the query's own norm changes no order."""
        similarity = np.zeros(len(self._targets))
        for term, count in Counter(_split_terms(query)).items():
            index = self._terms.get(term)
            if index is None:
                continue
            postings = slice(self._starts[index], self._starts[index + 1])
            similarity[self._rows[postings]] += count * self._idf[index] * self._weights[postings]
        return int(similarity.argmax())


def _split_terms(text: str) -> list[str]:
    """Return the words of a text, or its characters where its script has no spaces.

    >>> _split_terms("Open the File, 打开文件")
    ['open', 'the', 'file', '打', '开', '文', '件']
    """
    return _TERM.findall(text.casefold())
