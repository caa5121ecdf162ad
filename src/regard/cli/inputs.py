"""The input of a verb: text of the command line, a file, or standard input."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.parameters import AsText
from regard.errors import ConfigError, DataError

if TYPE_CHECKING:
    from regard.data.readers.shape import DataShape
    from regard.data.readers.source import DataSource

_LONGEST_LABEL = 1_000  # bytes
_FILE_NAME = re.compile(r"(?:\.{0,2}/|~/)\S+|\S*\w\.[A-Za-z]\w{1,4}")


@Parameter(name="*")
@dataclass(frozen=True)
class TextOptions:
    """How the word TEXT of a command line is read.

    Attributes:
        as_text: Take TEXT as text even where a file of that name exists.
        encoding: Encoding of the input.
    """

    as_text: Annotated[bool, AsText] = False
    encoding: str = "utf-8"


TEXT_DEFAULTS = TextOptions()
"""No option is set."""


def refuse_text_options(options: TextOptions, unit: str) -> None:
    """Raise ConfigError where options of texts are set for a model of a unit such as images."""
    if options != TEXT_DEFAULTS:
        option = "--text" if options.as_text else "--encoding"
        raise ConfigError(f"{option} is for texts, and this model reads {unit}.  Leave it out.")


def input_lines(text: str | None, options: TextOptions, *, role: str) -> Iterable[str]:
    """Return the lines of a file if one of that name exists, else of the text itself.

    JSONL, CSV and TSV give the texts in one field, each on one line. A text that looks like the
    name of a file that does not exist is noted on standard error.

    Args:
        text: The word of the command line; None or ``-`` is standard input.
        options: How it is read.
        role: What the field holds, ``text`` or ``source``; it may have a synonym as its name.

    Raises:
        DataError: The file cannot be read, or lacks the field.
    """
    name = "-" if text is None else text
    if options.as_text and text is not None:
        return name.split("\n")
    if not _is_file(name):
        return name.split("\n") if name.strip() else [name]
    if _is_table(name):
        texts = _field_texts(name, options.encoding, role)
        return (" ".join(re.split("\r\n|[\r\n]", text)) for text in texts)
    return _file_lines(name, options.encoding)


def input_documents(text: str | None, options: TextOptions) -> Iterable[str]:
    """Return the documents of a file if one of that name exists, else the text itself.

    Args:
        text: The word of the command line; None or ``-`` is standard input.
        options: How it is read.

    Returns:
        The document of each row of JSONL, CSV and TSV, and each line of standard input; any other
        file is one document.

    Raises:
        DataError: The file is empty, cannot be read, or has no column of documents.
    """
    name = "-" if text is None else text
    if (options.as_text and text is not None) or not _is_file(name):
        return [name]
    if _is_table(name):
        return _field_texts(name, options.encoding, "document")
    lines = _file_lines(name, options.encoding)
    if name == "-":
        return lines
    document = "\n".join(lines)
    if not document.strip():
        raise DataError(f"{name}: the file is empty.  Expected a document.")
    return [document]


def note_table(name: str) -> None:
    """Note on standard error that a file of rows is read as one text.

    Raises:
        DataError: It is a directory.
    """
    if os.path.exists(name) and _is_file(name) and _is_table(name):  # noqa: PTH110 - any name
        print(f"regard: note: {name}: read as one text, not as rows.", file=sys.stderr)


def _is_file(text: str) -> bool:
    """Return whether a word of the command line is a file's name, and note if it only looks so.

    Raises:
        DataError: It is a directory.
    """
    if text == "-":
        return True
    if not text.strip():
        return False
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):  # no such file, or too long for the name of one
        if _FILE_NAME.fullmatch(text):
            print(f"regard: note: {text}: no such file, so it is a text.", file=sys.stderr)
        return False
    if stat.S_ISDIR(mode):
        raise DataError(f"{text}: a directory, not a file.  Name a file of text.")
    return True


def _is_packed(name: str) -> bool:
    return name.lower().endswith((".gz", ".zst"))


def _is_table(name: str) -> bool:
    """Return whether a file is JSONL or has rows, such as CSV, by its name; or has fastText's."""
    from regard.data.readers import FORMATS, TABLE_READERS

    if name == "-" or not stat.S_ISREG(Path(name).stat().st_mode):
        return False
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    suffix = next(iter(suffixes[-2:-1] if _is_packed(name) else suffixes[-1:]), "")
    return FORMATS.get(suffix) in {"jsonl", *TABLE_READERS} or _has_labels(name)


def _has_labels(name: str) -> bool:
    """Return whether the first line of a file has a label as fastText marks it."""
    from regard.data.readers.fasttext import is_fasttext
    from regard.data.readers.source import open_source

    if _is_packed(name):
        start = open_source(name).content[:_LONGEST_LABEL]
    else:
        with Path(name).open("rb") as stream:
            start = stream.read(_LONGEST_LABEL)
    return is_fasttext(start.decode("latin-1"))


def _file_lines(name: str, encoding: str) -> Iterator[str]:
    """Return the lines of a file of text, or of standard input as they come."""
    from regard.data.readers.source import open_source
    from regard.data.readers.text_lines import read_lines

    is_streamed = name == "-" or (stat.S_ISREG(Path(name).stat().st_mode) and not _is_packed(name))
    return read_lines(name if is_streamed else open_source(name), encoding=encoding)


def _field_texts(name: str, encoding: str, role: str) -> list[str]:
    """Return the texts of one field, and note which field it is.

    TSV without a header has it in its first column.
    """
    from regard.data.readers.shape import inspect_shape
    from regard.data.readers.source import open_source
    from regard.data.readers.tables import read_records

    source = open_source(name)
    shape = inspect_shape(source, encoding)
    is_tsv = source.suffix == ".tsv"
    column = _find_column(shape, role, is_tsv=is_tsv)
    if column is None and is_tsv and shape.kind != "records":
        column, texts = "1", _first_cells(source, encoding)
    else:
        column = column or role
        texts = [text for _, (text,) in read_records(source, (column,), encoding=encoding)]
    print(f"regard: note: {name}: read as a table, column {column}.", file=sys.stderr)
    return texts


def _find_column(shape: DataShape, role: str, *, is_tsv: bool) -> str | None:
    """Return the column with the texts; None where none has a name that says so."""
    from regard.data.readers.columns import find_column, is_language_code

    if role == "document":
        return find_column(shape.names, role)
    other = {"source": "text"}.get(role, "source")
    column = shape.columns.get(role) or shape.columns.get(other)
    if is_tsv and column is not None and is_language_code(column):
        return None  # a word list may begin with "so" and "da"
    return column


def _first_cells(source: DataSource, encoding: str) -> list[str]:
    """Return the first cell of each line of a table without a header."""
    from regard.data.readers.tables import read_cells, require_readable
    from regard.data.readers.text_lines import open_text

    file = open_text(source, encoding)
    texts = [cells[0] for _, cells in read_cells(file, source.suffix)]
    require_readable(file.problems)
    return texts
