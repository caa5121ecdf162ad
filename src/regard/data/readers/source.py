"""What data is read from: a file, a stream or a folder, opened once and handed on.

The guess of the task, the report of problems, the hash and the rows are all taken from one
`DataSource`, so that they cannot disagree, and a pipe (`train <(zcat pairs.tsv.gz)`, ``-``) can be
used as a file can.

Cost: one read; the bytes of a file or stream stay in memory as long as the source does, next to the
texts that are read from them. Files of a folder are listed, not read.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from regard.data.readers import FORMATS
from regard.errors import DataError

OFFICIAL_LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}
"""Files that name what a collection of recordings holds out (Warden 2018, section 6)."""

_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_DESCRIPTOR = re.compile(r"/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")
_BYTES_A_READ = 1 << 20
_LINES_OF_CSV = 20  # that must agree in their number of cells
_BYTE_ORDER_MARKS = b"\xef\xbb\xbf\xff\xfe\0"


class DataSource:
    """A file, a stream or a folder of data.

    Args:
        path: As the user named it, for messages; ``-`` for standard input.
        content: Bytes of the file or stream; None for a folder.
        is_stream: Whether the content came from a pipe or standard input and cannot be read again:
            who wants to resume a run has to keep it.
    """

    def __init__(self, path: str, content: bytes | None, *, is_stream: bool = False) -> None:
        self.path, self.is_stream = path, is_stream
        self._content = content

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return self._content is None

    @property
    def content(self) -> bytes:
        """Bytes of the file or stream.

        Raises:
            DataError: It is a folder.
        """
        if self._content is None:
            raise DataError(f"{self.path}: {describe_folder_as_file()}")
        return self._content

    @cached_property
    def suffix(self) -> str:
        """Suffix of the name in lower case; of a stream, the one that its content should have."""
        if not self.is_stream:
            return Path(self.path).suffix.lower()
        # What is between the characters of UTF-16 would hide the first of them.
        first = self.content[:_BYTES_A_READ].lstrip(_BYTE_ORDER_MARKS).replace(b"\0", b"")
        lines = [line for line in first.decode("latin-1").splitlines() if line.strip()]
        line = lines[0].lstrip() if lines else ""
        if line.startswith("{") or "\t" in line:
            return ".jsonl" if line.startswith("{") else ".tsv"
        return ".csv" if _is_csv(lines[:_LINES_OF_CSV]) else ".txt"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 in hexadecimal: of the bytes, or of names and contents of a folder's data files.

        Other files of a folder may come and go, such as a model folder that a run writes there.

        Raises:
            DataError: A file of the folder cannot be read.
        """
        if self._content is not None:
            return hashlib.sha256(self._content).hexdigest()
        root, digest = Path(self.path), hashlib.sha256()
        for file in sorted(file for file in root.rglob("*") if _is_data(file)):
            digest.update(f"{file.relative_to(root).as_posix()}\0{file_hash(file)}\n".encode())
        return digest.hexdigest()

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Files of a folder and of the folders within it, in alphabetical order; each once.

        Names that begin with a dot are passed over, and folders that begin with an underscore, such
        as Speech Commands' ``_background_noise_``. A link to a folder elsewhere is followed; one to
        a folder that is here already is not.

        Raises:
            DataError: A folder cannot be read.
        """
        root = Path(self.path)
        try:
            return tuple(sorted(_walk(root, os.path.realpath(root), {os.path.realpath(root)})))
        except OSError as error:
            raise DataError(f"{root}: cannot be read ({error.strerror or error}).") from error


def open_source(path: str | Path) -> DataSource:
    """Read a file, or a stream to its end; list a folder.

    Args:
        path: A file, a folder, a pipe such as ``/dev/fd/63``, or ``-`` for standard input.

    Raises:
        DataError: It is missing or cannot be read.
    """
    name = str(path)
    if name in _STANDARD_INPUT:
        if sys.stdin is None:
            raise DataError(f"{name}: standard input is closed.  Name a file.")
        return DataSource(name, sys.stdin.buffer.read(), is_stream=True)
    try:
        stream = open_file(name)
    except DataError:
        if _is_folder(name):
            return DataSource(name, None)
        raise
    with stream:
        is_regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        try:
            content = stream.read()
        except OSError as error:
            raise DataError(f"{name}: {_open_fault(Path(name), error)}") from error
    is_stream = not is_regular or _DESCRIPTOR.fullmatch(name) is not None
    return DataSource(name, content, is_stream=is_stream)


def as_source(data: DataSource | str | Path) -> DataSource:
    """Return a source as it is; open what is a name.

    Raises:
        DataError: It is missing or cannot be read.
    """
    return data if isinstance(data, DataSource) else open_source(data)


def open_file(name: str) -> BinaryIO:
    """Open a file to read bytes.

    Raises:
        DataError: It is missing or cannot be opened.
    """
    try:
        return Path(name).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{name}: {_open_fault(Path(name), error)}") from error


def file_hash(path: str | Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal; the file is not kept in memory.

    Raises:
        DataError: The file is missing or cannot be opened.
    """
    digest = hashlib.sha256()
    with open_file(str(path)) as stream:
        while chunk := stream.read(_BYTES_A_READ):
            digest.update(chunk)
    return digest.hexdigest()


def describe_folder_as_file() -> str:
    """Say what to name instead of a folder, where a file was expected."""
    allowed = "TSV, CSV, JSONL, or two text files (`data.targets`)"
    return (
        f"a directory, not a file.  Name one file: {allowed}; or a folder with one folder of "
        "images or WAV files a label."
    )


def did_you_mean(word: str, known: list[str]) -> str:
    """Suggest the known word that is most like one that is not; empty where none is."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"  Did you mean {close[0]}?" if close else ""


def _is_csv(lines: list[str]) -> bool:
    """Check whether lines have equally many cells; running text has a space after its commas."""
    for separator in ",;":
        counts = {len(cells) for cells in csv.reader(lines, delimiter=separator)}
        if len(counts) == 1 and counts != {1} and f"{separator} " not in lines[0]:
            return len(lines) > 1
    return False


def _open_fault(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        siblings: list[str] = []
        with suppress(OSError):
            siblings = [str(file) for file in path.parent.iterdir() if file.is_file()]
        return f"no such file.{did_you_mean(str(path), siblings)}"
    if isinstance(error, IsADirectoryError | PermissionError) and path.is_dir():
        return describe_folder_as_file()
    if isinstance(error, PermissionError):
        return f"no permission to read it.  Allow it: chmod u+r {shlex.quote(str(path))}"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})."


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long a name
        return False


def _walk(folder: Path, root: str, entered: set[str]) -> Iterator[Path]:
    """List files at any depth; `root` and `entered` hold real paths of folders."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if entry.is_file():
                yield entry
        elif not entry.name.startswith("_"):
            real = os.path.realpath(entry)
            leads_back = entry.is_symlink() and f"{real}{os.sep}".startswith(f"{root}{os.sep}")
            if not leads_back and real not in entered:
                entered.add(real)
                yield from _walk(entry, root, entered)


def _is_data(path: Path) -> bool:
    """Check whether a file of a folder is part of its data."""
    is_known = FORMATS.get(path.suffix.lower()) in ("audio", "image")
    return (is_known or path.name in OFFICIAL_LISTS or "-ubyte" in path.name) and path.is_file()
