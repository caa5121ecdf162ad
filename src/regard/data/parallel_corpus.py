"""Sentence pairs in columns."""

from __future__ import annotations

from regard.data.dropped_rows import DroppedRow
from regard.data.rows import Rows


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
