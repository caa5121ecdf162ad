"""Rows of data in columns: what every reader returns and everything downstream takes.

Columns (not one object a row) keep fifty million characters of text at about the size of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Self

import msgspec
import numpy as np


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

    @property
    def sha256(self) -> str:
        """SHA-256 of all columns in hexadecimal, of arrays that of their shapes.

        Numbers of an array, such as the frames of a recording, are not the same on every machine.
        """
        digest = hashlib.sha256()
        for name, column in self._columns().items():
            digest.update(f"\0{name} {len(column)}".encode())
            for value in column:
                digest.update(b"\0" + _text_of(value).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _columns(self) -> dict[str, list[Any]]:
        return {name: v for name, v in msgspec.structs.asdict(self).items() if name != "path"}


def _text_of(value: object) -> str:
    """Return a value of a column as text: of an array its shape, of a tuple its items."""
    if isinstance(value, np.ndarray):
        return str(value.shape)
    if isinstance(value, tuple):
        return "\1".join(map(_text_of, value))
    return str(value) if isinstance(value, str | int | float) else type(value).__name__
