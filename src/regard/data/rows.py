"""Rows of data in columns: what every reader returns and everything downstream takes.

Columns (not one object a row) keep fifty million characters of text at about the size of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a file or folder; a subclass adds one list for each column, all of one length.

    Args:
        path: The file or folder as the user named it, for messages; ``-`` for standard input.
    """

    path: str

    def __len__(self) -> int:
        return len(next(iter(self._columns().values())))

    def select(self, rows: Iterable[int]) -> Self:
        """Return the rows at some indices (from 0), in the order of the indices."""
        rows = list(rows)
        columns = self._columns().items()
        return msgspec.structs.replace(
            self, **{name: [column[row] for row in rows] for name, column in columns}
        )

    def _columns(self) -> dict[str, list[Any]]:
        return {name: v for name, v in msgspec.structs.asdict(self).items() if name != "path"}
