"""Where rows come from that are not lines of text: tables of Parquet or Arrow, or units of TMX."""

from __future__ import annotations

import hashlib
import os
import shlex
from bisect import bisect_right
from collections.abc import Mapping

import msgspec

OBJECTS = "JSONL"
"""What files of a folder are that have an object of JSON a line."""
SUFFIXES_OF_TEXT = {OBJECTS: ".jsonl", "CSV": ".csv", "TSV": ".tsv"}
"""Suffixes of files of text, whose lines are taken as they are, by what they are."""
_READ = {
    "Parquet": "pyarrow.parquet as p; t = p.read_table(sys.argv[1])",
    "Arrow": "pyarrow as p; t = p.ipc.open_file(sys.argv[1]).read_all()",
    "Arrow stream": "pyarrow as p; t = p.ipc.open_stream(sys.argv[1]).read_all()",
}
"""What reads a table ``t`` in Python, by its form."""


def hash_of_files(hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 of names and contents of files, in hexadecimal.

    Args:
        hashes: Those of their contents, by their names, which may not be Unicode.
    """
    digest = hashlib.sha256()
    for name, content_hash in hashes.items():
        digest.update(os.fsencode(name) + f"\0{content_hash}\n".encode())
    return digest.hexdigest()


class TableOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The files whose rows became objects of JSON, a line each.

    Args:
        form: What the files are, such as ``Parquet`` or ``TMX``.
        sha256: Hash of their bytes, in hexadecimal.
        notes: How they were read, for the line that says what the data was read as.
        files: Names of the files of a folder; empty for one file.
        first_lines: 1-based line of the first row of each of `files`.
        held_out: Parts of the folder next to the one that was read: ``valid``, ``test``.
        media: What columns of ``images`` or ``recordings`` hold, by name.
    """

    form: str
    sha256: str = ""
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    first_lines: tuple[int, ...] = ()
    held_out: tuple[str, ...] = ()
    media: dict[str, str] = {}

    @property
    def has_encoding(self) -> bool:
        """Whether the form says how texts are encoded; that of text does not."""
        return self.form not in SUFFIXES_OF_TEXT

    @property
    def suffix(self) -> str:
        """Suffix of a file with the rows: of CSV and TSV their own, else that of JSONL."""
        return SUFFIXES_OF_TEXT.get(self.form, ".jsonl")

    def locate(self, line: int) -> str:
        """Return the file of a row and its number there; empty where there is one file.

        >>> TableOrigin(form="Parquet", files=("a", "b"), first_lines=(1, 11)).locate(12)
        'b:2'
        """
        if not self.files:
            return ""
        index = bisect_right(self.first_lines, line) - 1
        return f"{self.files[index]}:{line - self.first_lines[index] + 1}"

    def print_command(self, name: str) -> str:
        """Return the command that prints the rows of a file, or a folder, as JSONL."""
        if self.form in SUFFIXES_OF_TEXT:
            return f"cat {shlex.join(self.files)}"
        rows = "[print(json.dumps(row, default=str)) for row in t.to_pylist()]"
        return f'python -c "import json, sys, {_READ[self.form]}; {rows}" {shlex.quote(name)}'
