"""Sentence pairs in columns: what every reader returns and everything downstream takes.

Columns (not one object a row) keep fifty million characters of text at about the size of the file.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class ParallelCorpus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Aligned source and target sentences with the place each came from.

    Args:
        path: The file as the user named it, for messages; ``-`` for standard input.
        sources: One source sentence a row.
        targets: One target sentence a row, same length as `sources`.
        lines: The 1-based line of each row in its file, same length as `sources`.
    """

    path: str
    sources: list[str]
    targets: list[str]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.sources)

    def select(self, rows: Iterable[int]) -> ParallelCorpus:
        """Return the rows at the given 0-based indices, in the order given."""
        rows = list(rows)
        return ParallelCorpus(
            path=self.path,
            sources=[self.sources[row] for row in rows],
            targets=[self.targets[row] for row in rows],
            lines=[self.lines[row] for row in rows],
        )
