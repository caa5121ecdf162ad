"""What a file was read as: its contents, the columns that are read, and the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from regard.data.listing import list_first
from regard.data.readers.columns import find_column

_NUM_NAMED = 10  # columns in a message


class ReadAs(NamedTuple):
    """What a file was read as.

    Args:
        text: In words, such as ``sentence pairs (tab-separated, no header)``; empty if unknown.
        columns: Names of the columns that are read; empty for data without a header.
        unused: Names of the other columns.
        notes: How the data is written, where its name does not say it.
    """

    text: str = ""
    columns: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def unused_name(self, column: str) -> str | None:
        """Return which of the other columns is one, by its name or a synonym."""
        return find_column(self.unused, column)

    @classmethod
    def of(
        cls,
        contents: str,
        columns: Sequence[str] = (),
        unused: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> ReadAs:
        """Return what columns of some contents, such as ``sentence pairs``, were read as."""
        unused = [name.strip() or "a column without a name" for name in unused]
        text = contents
        if columns:
            noun = "column" if len(columns) == 1 else "columns"
            text += f", {noun} {', '.join(columns)}"
        not_used = [f"not used: {list_first(unused, _NUM_NAMED)}"] if unused else []
        in_brackets = ", ".join([*notes, *not_used])
        text += f" ({in_brackets})" if in_brackets else ""
        return cls(text, tuple(columns), tuple(unused), tuple(notes))
