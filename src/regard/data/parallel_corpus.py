"""Sentence pairs in columns."""

from __future__ import annotations

from itertools import pairwise

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import pluralize
from regard.data.readers.suffixes import PACKED
from regard.data.rows import Rows

_FEW_TEXTS = 10  # rows for each different source or target, from which they look like labels
_WITH_CELLS = (".tsv", ".csv", ".txt", *PACKED)  # whose columns have numbers
_MAX_DIGITS = 18  # of a number of a row


class ParallelCorpus(Rows, frozen=True, kw_only=True):
    """Aligned source and target sentences with the line each came from.

    Args:
        path: The file as the user named it, for messages; ``-`` for standard input.
        sources: One source sentence a row.
        targets: One target sentence a row.
        lines: The 1-based line of each row in its file.
    """

    sources: list[str]
    targets: list[str]
    lines: list[int]

    def keys(self) -> tuple[list[str], list[str]]:
        """Return sources and targets: pairs that share one must not be in different parts."""
        return self.sources, self.targets

    def drop(self, row: int, reason: str) -> DroppedRow:
        """Return the entry of a row that was left out."""
        return DroppedRow(line=self.lines[row], reason=reason, text=self.sources[row])


def describe_numbers(pairs: ParallelCorpus) -> str:
    """Return that the sources or targets are numbers that rise, as those of rows do; else nothing.

    >>> pairs = ParallelCorpus(path="a.tsv", sources=["7", "8"], targets=["a", "b"], lines=[1, 2])
    >>> describe_numbers(pairs)
    'The sources are numbers that rise.  Numbers of rows?  Leave that column out.'
    """
    for name, texts in (("sources", pairs.sources), ("targets", pairs.targets)):
        if len(texts) > 1 and all(text.isdecimal() and len(text) < _MAX_DIGITS for text in texts):
            numbers = list(map(int, texts))
            if all(one < other for one, other in pairwise(numbers)):
                return (
                    f"The {name} are numbers that rise.  Numbers of rows?  Leave that column out."
                )
    return ""


def describe_labels(pairs: ParallelCorpus) -> str:
    """Return that sources or targets look like labels, and how such texts are read; else nothing.

    >>> pairs = ParallelCorpus(path="a.csv", sources=["a"] * 10, targets=[*"0123456789"], lines=[])
    >>> describe_labels(pairs)
    '10 pairs have only 1 different source.  Labels?  `data.columns=2,1` `task=classification`'
    """
    for name, texts, columns in (
        ("source", pairs.sources, "2,1"),
        ("target", pairs.targets, "1,2"),
    ):
        num_texts = len(set(texts))
        if len(texts) >= _FEW_TEXTS * num_texts:
            remedy = f"`data.columns={columns}` `task=classification`"
            if not pairs.path.lower().endswith(_WITH_CELLS):
                remedy = "Texts with labels have them under the names text and label."
            return (
                f"{len(texts):,} pairs have only {pluralize(num_texts, f'different {name}')}.  "
                f"Labels?  {remedy}"
            )
    return ""
