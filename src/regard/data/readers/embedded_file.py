"""Files within a row of a table: their bytes, and where the row is."""

from __future__ import annotations

import shlex
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from regard.data.readers.source import open_file, open_source

MEDIA_TO_FILES = 'python -c "import sys, regard.data.readers as r; r.write_media(*sys.argv[1:])"'
"""The command that writes the images or recordings of a table to folders of their labels."""


class EmbeddedFile(NamedTuple):
    """A file that a cell of a table holds.

    Args:
        name: Where it is, for messages: ``pets.parquet:12: column image``.
        content: Its bytes.
        table: Name of the table, or of a folder of tables.
    """

    name: str
    content: bytes
    table: str

    def __str__(self) -> str:
        return self.name


FileLike = str | Path | EmbeddedFile
"""A file on disk by its name, or one within a table."""


def open_file_like(file: FileLike) -> BinaryIO:
    """Return a file, opened to read bytes; raise `DataError` where it cannot be opened."""
    if isinstance(file, EmbeddedFile):
        return BytesIO(file.content)
    return open_file(str(file))


def read_file_like(file: FileLike) -> bytes:
    """Return the bytes of a file; raise `DataError` where it cannot be read."""
    return file.content if isinstance(file, EmbeddedFile) else open_source(file).content


def count_bytes(file: FileLike) -> int:
    """Return the size of a file in bytes."""
    return len(file.content) if isinstance(file, EmbeddedFile) else Path(file).stat().st_size


def advise_conversion(file: FileLike, command: str) -> str:
    """Return the command that converts a file; of one within a table, what writes it to a file.

    Args:
        file: The file.
        command: What to do about a file on disk.
    """
    if isinstance(file, EmbeddedFile):
        files = f"{MEDIA_TO_FILES} {shlex.quote(file.table)} files"
        return f"Leave the row out, or write all to a folder, and convert those: {files}"
    return command
