"""The rows of one table, or of several files, as one text of JSON: an object a line.

Cost: that text in memory; of the files, one at a time, and of Parquet and Arrow a few rows.
"""

from __future__ import annotations

import codecs
import hashlib
import shlex
from collections.abc import Collection, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from regard.data.listing import list_first, pluralize
from regard.data.readers import FORMATS, ROW_FORMATS
from regard.data.readers.problems import quote
from regard.data.readers.suffixes import suffix_of, suffix_of_content
from regard.data.readers.table_bytes import (
    MEMORY_FORMS,
    find_form,
    find_memory_form,
    has_control_bytes,
)
from regard.data.readers.table_folders import TableFolder, describe_shard
from regard.data.readers.table_origin import OBJECTS, TableOrigin, hash_of_files
from regard.errors import DataError, ResourceError

if TYPE_CHECKING:
    from regard.data.readers.arrow_tables import ConvertedRows

_POINTER = b"version https://git-lfs"
_NUM_NAMED = 10  # columns or files in a message
_NUM_SAMPLED = 20  # rows by which a header is recognized
_TEXT_TABLES = ("csv", "tsv", "jsonl")


class TableLines:
    """The rows of tables, which are added one file after another.

    Args:
        name: The file or folder as named.
        most: Most bytes of text.
        too_long: What is raised where there are more.
    """

    def __init__(self, name: str, most: int, too_long: DataError | ResourceError) -> None:
        self.name, self._most, self._too_long = name, most, too_long
        self._text = BytesIO()
        self._hashes: list[str] = []
        self._names: tuple[str, ...] = ()
        self._notes: list[str] = []
        self._media: dict[str, str] = {}
        self._form = ""
        self._header, self._has_header = b"", False  # of files of CSV or TSV
        self._files: list[str] = []
        self._first_lines: list[int] = []
        self._num_rows = 0

    def add(self, path: str, content: bytes) -> None:
        """Append the rows of a file.

        Args:
            path: Its name.
            content: Its bytes.

        Raises:
            DataError: It cannot be read, or has other columns than the files before it.
            ResourceError: The rows of all have too many bytes.
        """
        # Most files need neither.
        from regard.data.readers.arrow_tables import ConvertedRows, convert_file
        from regard.data.readers.translation_memory import convert_units

        self._form = find_table_form(path, content)
        if not self._form and (form := _form_of_cells(path)):
            rows = ConvertedRows((), self._add_cells(path, content, form), (), {})
        elif not self._form:
            rows = ConvertedRows((), self._add_objects(content), (), {})
        elif self._form in MEMORY_FORMS:
            units = convert_units(path, content, self._write)
            rows = ConvertedRows(*units, media={})
        else:
            rows = convert_file(path, content, self._form, self._write)
        self._note_file(path, rows, hashlib.sha256(content).hexdigest())

    def add_table_on_disk(self, path: str, form: str) -> None:
        """Append the rows of a table of Parquet or Arrow, which is read a few rows at a time.

        Args:
            path: Its name.
            form: What it is, by `find_form`.

        Raises:
            DataError: It cannot be read, changes meanwhile, or has other columns than the files
                before it.
            ResourceError: The rows of all have too many bytes.
        """
        from regard.data.readers.arrow_tables import convert_file

        before, self._form = _state_of(path), form
        rows = convert_file(path, None, form, self._write)
        with Path(path).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if _state_of(path) != before:
            raise DataError(f"{path}: changed while it was read.  Start again.")
        self._note_file(path, rows, sha256)

    def _note_file(self, path: str, rows: ConvertedRows, sha256: str) -> None:
        """Take a file, whose rows are written, for one of the table; check its columns."""
        if rows.names and self._files and {*rows.names} != {*self._names}:
            here, there = (list_first(names, _NUM_NAMED) for names in (rows.names, self._names))
            raise DataError(f"{path}: columns {here}; those of {self._files[0]} are {there}.")
        self._hashes.append(sha256)
        self._names, self._media = rows.names, rows.media | self._media
        self._notes += [note for note in rows.notes if note not in self._notes]
        self._files.append(path)
        self._first_lines.append(1 + self._num_rows)
        self._num_rows += rows.num_rows

    def _add_objects(self, content: bytes) -> int:
        """Append the lines of a file of JSONL, whatever is in them; return how many there are."""
        self._form = OBJECTS
        lines = content.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
        for line in lines:
            self._write(line if line.endswith(b"\n") else line + b"\n")
        return len(lines)

    def _add_cells(self, path: str, content: bytes, form: str) -> int:
        """Append the lines of a file of CSV or TSV.

        The header of the first file is a blank line in the others, whose lines keep their numbers.

        Returns:
            How many there are.

        Raises:
            DataError: It is in UTF-16, or its first row is not the header of the files before it.
        """
        self._form = form
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            fixed = shlex.quote(str(Path(path).with_suffix(f".utf8{Path(path).suffix}")))
            raise DataError(
                f"{path}: UTF-16; files of a folder are read as one, in UTF-8 or an encoding that "
                f"extends ASCII.  Convert: iconv -f utf-16 -t utf-8 {shlex.quote(path)} > {fixed}"
            )
        content = content.removeprefix(codecs.BOM_UTF8)
        if b"\n" not in content:
            content = content.replace(b"\r", b"\n")
        lines = content.removesuffix(b"\n").split(b"\n")
        first = lines[0].strip()
        if not self._files:
            self._header, self._has_header = first, _begins_with_header(path, content)
        elif first == self._header:
            lines[0] = b""
        elif self._has_header:
            here, there = (quote(text.decode("utf-8", "replace")) for text in (first, self._header))
            raise DataError(
                f"{path}: the first row is {here}, and that of {self._files[0]} {there}.  Files of "
                "a folder are one table: the same columns, in the same order.  Name one file."
            )
        for line in lines:
            self._write(line + b"\n")
        return len(lines)

    def finish(
        self, folder: TableFolder | None = None, files: Sequence[Path] = ()
    ) -> tuple[bytes, TableOrigin]:
        """Return the text, and where it comes from.

        Args:
            folder: What was read of a folder; None for one file.
            files: All files of the folder, of which other tables are named.

        Raises:
            DataError: There are no rows.
        """
        if not self._num_rows and self._form in MEMORY_FORMS:
            raise DataError(f"{self.name}: no unit of {self._form} has a text.")
        if not self._num_rows:
            seen = f"  Columns seen: {list_first(self._names, _NUM_NAMED)}." if self._names else ""
            raise DataError(f"{self.name}: there are no rows.{seen}")
        notes = [self._describe_files(folder), *self._notes]
        if folder is not None:
            # Of text, all files of the form are those of a part.
            formats = {*_TEXT_TABLES} - {self._form.lower()}
            if unread := _unread_tables(Path(self.name), folder, files, formats):
                notes.append(f"not read: {list_first(unread, _NUM_NAMED)}")
        table = TableOrigin(
            form=self._form,
            sha256=self._hashes[0] if folder is None else self._hash_of_files(),
            notes=tuple(notes),
            files=() if folder is None else tuple(self._files),
            first_lines=() if folder is None else tuple(self._first_lines),
            held_out=() if folder is None else folder.other_parts,
            media=self._media,
        )
        return self._text.getvalue(), table

    def _hash_of_files(self) -> str:
        """Return the hash of the names and contents of the files."""
        names = [Path(path).relative_to(self.name).as_posix() for path in self._files]
        return hash_of_files(dict(zip(names, self._hashes, strict=True)))

    def _describe_files(self, folder: TableFolder | None) -> str:
        """Return what the files are, how many, and of which part."""
        if folder is None:
            shard = describe_shard(self.name)
            return f"{self._form}, {shard}" if shard else self._form
        of_part = f" of {folder.part}" if folder.part else ""
        return f"{pluralize(len(self._files), f'{self._form} file')}{of_part}"

    def _write(self, line: bytes) -> None:
        self._text.write(line)
        if self._text.tell() > self._most:
            raise self._too_long


def _state_of(path: str) -> tuple[int, ...]:
    """Return what changes with the content of a file: which file it is, its size and time."""
    state = Path(path).stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _begins_with_header(path: str, content: bytes) -> bool:
    """Return whether the first row of a file of CSV or TSV names its columns."""
    # They import this module.
    from regard.data.readers.headers import are_names_of_columns
    from regard.data.readers.table_format import read_cells
    from regard.data.readers.text_lines import TextFile

    records = read_cells(TextFile(path, "latin-1", content, []), suffix_of(path))
    rows = [cells for _, cells in islice(records, _NUM_SAMPLED)]
    names = list(map(str.strip, rows[0])) if rows else []
    return are_names_of_columns(names, rows[1:], is_csv=_form_of_cells(path) == "CSV")


def _form_of_cells(path: str) -> str:
    """Return ``CSV`` or ``TSV`` by the name of a file; empty for another one."""
    file_format = FORMATS.get(suffix_of(path), "")
    return file_format.upper() if file_format in ("csv", "tsv") else ""


def find_table_form(name: str, content: bytes) -> str:
    """Return what a table of Parquet or Arrow is, or a translation memory; empty for other files.

    Raises:
        DataError: It is named so, and is another file.
    """
    if form := find_memory_form(content):
        return form
    file_format = FORMATS.get(suffix_of(name))
    form = find_form(content, is_named=file_format in ROW_FORMATS)
    if form or file_format not in ROW_FORMATS:
        return form
    expected = file_format.capitalize()
    if not content:
        raise DataError(f"{name}: the file is empty.  Expected {expected}.")
    if content.startswith(_POINTER):
        raise DataError(f"{name}: a pointer of Git LFS, not the data.  Fetch it: git lfs pull")
    if has_control_bytes(content):
        raise DataError(f"{name}: not {expected} by its first bytes.  Damaged?  Copy it again.")
    first = content.decode("utf-8", "replace").lstrip().split("\n", 1)[0]
    path = Path(name)
    renamed = path.with_suffix(suffix_of_content(content[: 1 << 20]))
    raise DataError(
        f"{name}: text, not {expected}.  {quote(first)}  Name it for what it is: "
        f"mv {shlex.quote(name)} {shlex.quote(str(renamed))}"
    )


def _unread_tables(
    root: Path, folder: TableFolder, files: Sequence[Path], formats: Collection[str]
) -> list[str]:
    """Return the names of other tables in a folder, of some formats, which are not read."""
    tables = (file for file in files if FORMATS.get(suffix_of(file.name)) in formats)
    # What describes a data set of `datasets` is JSON, too.
    names = (file.relative_to(root).as_posix() for file in tables if file.suffix != ".json")
    return sorted({*folder.unread, *names})
