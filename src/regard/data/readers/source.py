"""Sources of data: a file, a stream or a folder, opened once.

The guess of the task, the report of problems, the hash and the rows come from one `DataSource`, so
that they agree, and a pipe (``train <(zcat pairs.tsv.gz)``, ``-``) works as a file does.

Cost: one read; the bytes of a file or stream stay in memory as long as the source does, in addition
to the texts that are read from them; of tables of Parquet and Arrow, their rows as JSON, without
images and recordings. Files of a folder are listed, not read.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import select
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from regard.data.free_memory import free_memory_bytes
from regard.data.readers import FORMATS, ROW_FORMATS
from regard.data.readers.packed import find_packing
from regard.data.readers.suffixes import suffix_of, suffix_of_content
from regard.data.readers.table_bytes import find_form
from regard.data.readers.table_folders import select_row_files, select_tables
from regard.data.readers.table_lines import TableLines, find_table_form
from regard.data.readers.table_origin import TableOrigin, hash_of_files
from regard.data.readers.text_folders import find_labeled_texts, read_labeled_files
from regard.errors import DataError, ResourceError, advise_on_windows_path, did_you_mean

OFFICIAL_LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}
"""Files that list the held-out parts of a collection of recordings (Warden 2018, section 6)."""

_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_DESCRIPTOR = re.compile(r"/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")
_BYTES_A_READ = 1 << 20
_NUM_START = 4096  # bytes by which the form of a table is known
_MAX_BYTES = 4 << 30  # of a stream or an archive, whose length is unknown before
_MEMORY_FRACTION = 0.25  # of what is free: the texts that are read from the bytes need more
_OF_A_MODEL = ("config.toml", "manifest.json")
_SECONDS_TO_WAIT = 30  # for the writer of a named pipe


class DataSource:
    """A file, a stream or a folder of data.

    Args:
        path: Its name as the user wrote it, for messages; ``-`` for standard input.
        content: Bytes of the file or stream; None for a folder.
        is_stream: Whether the content came from a pipe or standard input and cannot be read again:
            a run keeps a copy, so that it can be resumed.
        table: Where the content comes from if it is the rows of tables, as JSONL; else None.
        inner_name: Name of the file in an archive, whose only one it is; else empty.
    """

    def __init__(
        self,
        path: str,
        content: bytes | None,
        *,
        is_stream: bool = False,
        table: TableOrigin | None = None,
        inner_name: str = "",
    ) -> None:
        self.path, self.is_stream, self.table = path, is_stream, table
        self._inner_name = inner_name
        self._content = content

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return self._content is None

    @property
    def content(self) -> bytes:
        """Bytes of the file or stream; a folder raises `DataError`."""
        if self._content is None:
            raise DataError(f"{self.path}: {describe_folder_as_file()}")
        return self._content

    @cached_property
    def suffix(self) -> str:
        """Suffix of the name in lower case; of a stream, the suffix that fits its content."""
        if self.table is not None:
            return self.table.suffix
        if self.is_stream:
            return suffix_of_content(self.content[:_BYTES_A_READ])
        return suffix_of(self._inner_name or self.path)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 in hexadecimal: of the bytes, or of names and contents of a folder's data files.

        Other files of a folder may change, such as a model folder that a run writes there.
        """
        if self.table is not None and not self.is_stream:
            return self.table.sha256
        if self._content is not None:
            return hashlib.sha256(self._content).hexdigest()
        root = Path(self.path)
        files = {file.relative_to(root).as_posix(): file_hash(file) for file in self.data_files}
        return hash_of_files(files)

    @cached_property
    def data_files(self) -> tuple[Path, ...]:
        """Files of a folder that its hash is made of, in alphabetical order.

        Raises:
            DataError: A folder cannot be read.
        """
        files = {*Path(self.path).rglob("*"), *self.files}  # the latter follow links to folders
        return tuple(sorted(file for file in files if _has_data_name(file) and file.is_file()))

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Files of a folder and of the folders within it, in alphabetical order; each once.

        Names that begin with a dot are left out, and folders that begin with an underscore, such as
        Speech Commands' ``_background_noise_``, or that hold a model of a run. A link to a folder
        elsewhere is followed; a link to a folder within this one is not.

        Raises:
            DataError: A folder cannot be read, or a link in the place of a file of data leads
                nowhere.
        """
        root = Path(self.path)
        try:
            return tuple(sorted(_walk(root, os.path.realpath(root), {os.path.realpath(root)})))
        except OSError as error:
            raise DataError(describe_open_error(error.filename or str(root), error)) from error


def open_source(path: str | Path, part: str = "train", *, as_rows: bool = True) -> DataSource:
    """Return a file, a folder, or a stream that is read to its end, unpacked if it is packed.

    The rows of Parquet and Arrow become objects of JSON, also those of all such files of a folder,
    and so do the units of TMX and XLIFF.

    Args:
        path: A file, a folder, a pipe such as ``/dev/fd/63``, or ``-`` for standard input.
        part: Part of the data that is read of a folder of tables: ``train``, ``valid``, ``test``.
        as_rows: Whether tables and units become objects; else a file is what it is.

    Raises:
        DataError: It is missing or cannot be read.
        ResourceError: It is larger than the free memory, or unpacked than a quarter of it.
    """
    name = str(path)
    if name in _STANDARD_INPUT:
        content = _read_stream(name, standard_input(name))
        return _source_of_bytes(name, content, is_stream=True, as_rows=as_rows)
    try:
        kind = stat.S_IFMT(Path(name).stat().st_mode)
    except (OSError, ValueError):  # opening it fails with the reason
        kind = None
    if kind == stat.S_IFDIR:
        return _open_folder(name, part)
    is_stream = kind != stat.S_IFREG or _DESCRIPTOR.fullmatch(name) is not None
    if as_rows and not is_stream and (form := _table_form_on_disk(name)):
        lines = _table_lines(name)
        lines.add_table_on_disk(name, form)
        content, table = lines.finish()
        return DataSource(name, content, table=table)
    content = _read_pipe(name) if kind == stat.S_IFIFO else _read_file(name, kind)
    return _source_of_bytes(name, content, is_stream=is_stream, as_rows=as_rows)


def _open_folder(name: str, part: str) -> DataSource:
    """Return a folder; of tables or labelled texts in it, the rows of a part."""
    folder = DataSource(name, None)
    if any(map(_has_data_name, folder.files)):  # images, with a table about them
        return folder
    tables = select_row_files(folder.files)
    if not tables:
        texts = find_labeled_texts(Path(name), folder.files)
        if not texts.is_labeled:
            return folder
        content, table = read_labeled_files(
            name, texts, part, lambda path: _read_file(path, stat.S_IFREG)
        )
        return DataSource(name, content, table=table)
    selected = select_tables(Path(name), tables, part)
    lines = _table_lines(name)
    for file in map(str, selected.files):
        if form := _table_form_on_disk(file):
            lines.add_table_on_disk(file, form)
        else:
            lines.add(file, _unpack(file, _read_file(file, stat.S_IFREG))[0])
    content, table = lines.finish(selected, folder.files)
    return DataSource(name, content, table=table)


def _source_of_bytes(name: str, packed: bytes, *, is_stream: bool, as_rows: bool) -> DataSource:
    """Return a file or stream by its bytes, which are unpacked; of a table, the rows."""
    content, inner_name = _unpack(name, packed)
    if not as_rows or not find_table_form(inner_name or name, content):
        return DataSource(name, content, is_stream=is_stream, inner_name=inner_name)
    lines = _table_lines(name)
    lines.add(name, content)
    content, table = lines.finish()
    return DataSource(name, content, is_stream=is_stream, table=table)


def _table_form_on_disk(name: str) -> str:
    """Return what a table of Parquet or Arrow is, by its first bytes; empty for another file."""
    with open_file(name) as file:
        is_named = FORMATS.get(suffix_of(name)) in ROW_FORMATS
        return find_form(file.read(_NUM_START), is_named=is_named)


def _table_lines(name: str) -> TableLines:
    """Return what collects the rows of tables, as many as a stream may have."""
    most = _most_bytes()
    return TableLines(name, most, _too_long(f"{name}, as JSON", most, "Name a part of it"))


SourceLike = DataSource | str | Path
"""An open source, or the name of a file or folder; ``-`` is standard input."""


def as_source(data: SourceLike, part: str = "train") -> DataSource:
    """Return an open source unchanged; open a file or folder by its name, as `open_source` does."""
    return data if isinstance(data, DataSource) else open_source(data, part)


def as_path(data: SourceLike) -> str:
    """Return the name of the file or folder that data is read from."""
    return data.path if isinstance(data, DataSource) else str(data)


def open_file(name: str) -> BufferedReader:
    """Open a file to read bytes.

    Returns:
        The open file.

    Raises:
        DataError: It is missing, cannot be opened, or is a pipe or a device, which may have no end.
    """
    try:
        kind = stat.S_IFMT(Path(name).stat().st_mode)
        is_endless = kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)
        if not is_endless or Path(name).samefile(os.devnull):
            return Path(name).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(describe_open_error(name, error)) from error
    raise DataError(f"{name}: a pipe or a device, not a file.  Name a file.")


def standard_input(name: str) -> BinaryIO:
    """Return standard input; raise `DataError` if it is closed."""
    if sys.stdin is None or sys.stdin.closed:
        raise DataError(f"{name}: standard input is closed.  Name a file.")
    return sys.stdin.buffer


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; the file is not kept in memory."""
    with open_file(str(path)) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_folder_as_file() -> str:
    """Return what to name instead of a folder where a file was expected."""
    allowed = "TSV, CSV, JSONL, Parquet, text (.txt), or two text files (`data.targets`)"
    return (
        f"a directory, not a file.  Name one file: {allowed}; or a folder with one folder of "
        "images or WAV files a label."
    )


def describe_open_error(name: str, error: OSError | ValueError) -> str:
    """Return why a file cannot be opened, or a folder listed, and a remedy."""
    path = Path(name)
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        cause = f"a link to {path.readlink()}, which is not there.  Fetch that file."
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        siblings: dict[str, str] = {}
        with suppress(OSError):
            siblings = {sibling.name: str(sibling) for sibling in path.parent.iterdir()}
        hint = did_you_mean(path.name, siblings)
        is_address = "://" in name
        remedy = hint or advise_on_windows_path(name)
        if is_address:
            remedy = "  Download it, and name the file."
        if fnmatch.filter(siblings, path.name):
            remedy = f"  One file, or their folder, is read: {shlex.quote(str(path.parent))}"
        cause = f"no such file.{remedy}"
    elif isinstance(error, PermissionError) and (folder := _closed_folder(path)) is not None:
        name = str(folder)
        cause = f"no permission to list it.  Allow it: chmod u+rx {shlex.quote(name)}"
    elif isinstance(error, IsADirectoryError):
        cause = describe_folder_as_file()
    elif isinstance(error, PermissionError):
        cause = f"no permission to read it.  Allow it: chmod u+r {shlex.quote(str(path))}"
    else:
        cause = f"cannot be opened ({getattr(error, 'strerror', None) or error})."
    return f"{name}: {cause}"


def _closed_folder(path: Path) -> Path | None:
    """Return the folder that may not be listed: the path itself, or the first of those above it."""
    if os.path.isdir(path):  # noqa: PTH112 - which raises nothing
        return path
    return next(
        (one for one in reversed(path.parents) if not os.access(one, os.R_OK | os.X_OK)), None
    )


def _read_file(name: str, kind: int | None) -> bytes:
    """Read a file of a kind, as `stat` has it; a device that may have no end is refused."""
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and not Path(name).samefile(os.devnull):
        raise DataError(f"{name}: a device, not a file.  Name a file.")
    with open_file(name) as stream:
        try:
            # A file that grows meanwhile is read as far as it went; those of /proc state no size.
            size = os.fstat(stream.fileno()).st_size if kind == stat.S_IFREG else 0
            _require_memory_for_file(name, size)
            return stream.read(size) if size else _read_stream(name, stream)
        except OSError as error:
            raise DataError(describe_open_error(name, error)) from error


def _read_pipe(name: str) -> bytes:
    """Read a named pipe to which a process begins to write within half a minute."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(describe_open_error(name, error)) from error
    with os.fdopen(descriptor, "rb") as stream:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)  # and the end of the pipe, which always counts
        start = b""
        if not poll.poll(1000 * _SECONDS_TO_WAIT):
            with suppress(BlockingIOError):  # there is a writer, but it takes time
                start = os.read(descriptor, 1)
                if not start:
                    raise DataError(f"{name}: a pipe to which nothing is written.  Name a file.")
        os.set_blocking(descriptor, True)
        return start + _read_stream(name, stream)


def _read_stream(name: str, stream: BinaryIO) -> bytes:
    """Read a stream to its end; one of more than `_MAX_BYTES` is refused."""
    pieces, size, most = [], 0, _most_bytes()
    while piece := stream.read(_BYTES_A_READ):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise _too_long(name, most, "Write it to a file, and name that")
    return b"".join(pieces)


def _require_memory_for_file(name: str, size: int) -> None:
    """Raise ResourceError where a file has more bytes than are free in memory."""
    free = free_memory_bytes()
    if free is not None and size > free:
        raise ResourceError(
            f"{name}: has {size / 1e9:,.1f} GB, {free / 1e9:,.1f} GB of memory are free.  "
            f"Name a part of it: head -n 1000000 {shlex.quote(name)} > {_part_name(name)}"
        )


def _part_name(name: str) -> str:
    """Return the name that messages give to the first lines of a file.

    >>> _part_name("data/pairs.tsv.gz"), _part_name("-")
    ('part.tsv', 'part.txt')
    """
    return f"part{suffix_of(name) or '.txt'}"


def _most_bytes() -> int:
    """Return how many bytes of a stream or an archive are read, whose length is unknown before."""
    free = free_memory_bytes()
    return _MAX_BYTES if free is None else min(_MAX_BYTES, int(_MEMORY_FRACTION * free))


def _too_long(name: str, most: int, remedy: str) -> DataError | ResourceError:
    """Return the error of a stream or an archive that has more than `most` bytes."""
    if most == _MAX_BYTES:
        amount = f"{most >> 30} GiB, which is what is read into memory"
        return DataError(f"{name}: more than {amount}.  {remedy}.")
    amount = f"{most / 1e9:,.1f} GB, a quarter of the memory that is free"
    return ResourceError(f"{name}: more than {amount}.  {remedy}.")


def _unpack(name: str, content: bytes) -> tuple[bytes, str]:
    """Return content unpacked, and the name of a file in an archive; other content unchanged."""
    packing = find_packing(name, content)
    if packing is None:
        return content, ""
    most = _most_bytes()
    try:
        unpacked = packing.stream.read(most + 1)
    except packing.faults as error:
        raise DataError(f"{name}: cannot be unpacked ({error}).  Copy it again.") from error
    if len(unpacked) > most:
        command = f"{packing.command} {shlex.quote(name)}"
        part = f"{command} | head -n 1000000 > {_part_name(packing.inner_name or name)}"
        raise _too_long(f"{name}, unpacked", most, f"Name a part of it: {part}")
    return unpacked, packing.inner_name


def _walk(folder: Path, root: str, entered: set[str]) -> Iterator[Path]:
    """Yield files at any depth; `root` and `entered` hold real paths of folders."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    for entry in entries:
        if _has_data_name(entry) and entry.is_symlink() and not entry.exists():
            raise DataError(
                f"{entry}: a link to {entry.readlink()}, which is not there.  Fetch that file, or "
                f"remove the link: rm {shlex.quote(str(entry))}"
            )
    yield from filter(Path.is_file, entries)
    for inner in filter(Path.is_dir, entries):
        real = os.path.realpath(inner)
        is_known = real in entered or _is_link_into(root, inner)
        is_left_out = inner.name.startswith("_") or _is_model_folder(inner)
        if not is_known and not is_left_out:
            entered.add(real)
            yield from _walk(inner, root, entered)


def _is_model_folder(folder: Path) -> bool:
    """Return whether a run has written a folder, such as one within that of its data."""
    return all((folder / name).is_file() for name in _OF_A_MODEL)


def _is_link_into(root: str, folder: Path) -> bool:
    """Return whether a folder is a link to a folder within `root`, a real path, or to that."""
    return folder.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(root)


def _has_data_name(path: Path) -> bool:
    """Check whether a file of a folder is part of its data, by its name."""
    is_known = FORMATS.get(path.suffix.lower()) in ("audio", "image")
    return is_known or path.name in OFFICIAL_LISTS or "-ubyte" in path.name
