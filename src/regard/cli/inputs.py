"""The input of a verb: text of the command line, a file, or standard input."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_FILE_NAME = re.compile(r"(?:\.{0,2}/|~/)\S+|\S*\w\.[A-Za-z]\w{1,4}")


def input_lines(text: str | None, encoding: str, *, as_text: bool, role: str) -> Iterable[str]:
    """Return the lines of a file if one of that name exists, else of the text itself.

    Of JSONL, CSV and TSV the texts in one field. A text that looks like the name of a file that
    does not exist is noted on standard error.

    Args:
        text: The word of the command line; None or ``-`` is standard input.
        encoding: Of the file.
        as_text: Whether it is a text even where a file of that name exists.
        role: What the field holds, ``text`` or ``source``; it may have a synonym as its name.

    Raises:
        DataError: The file cannot be read, or has no such field.
    """
    from regard.data.readers import FORMATS
    from regard.data.readers.source import open_source
    from regard.data.readers.text_lines import read_lines

    if as_text and text is not None:
        return text.split("\n")
    if text is None or text == "-":
        return read_lines("-", encoding=encoding)
    if not text.strip():
        return [text]
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):  # no such file, or too long for the name of one
        if _FILE_NAME.fullmatch(text):
            print(f"regard: note: {text}: no such file, so it is a text.", file=sys.stderr)
        return text.split("\n")
    if stat.S_ISDIR(mode) or not stat.S_ISREG(mode):
        return read_lines(open_source(text), encoding=encoding)
    suffixes = [suffix.lower() for suffix in Path(text).suffixes]
    is_packed = suffixes[-1:] in ([".gz"], [".zst"])
    if FORMATS.get(next(iter(suffixes[-2:-1] if is_packed else suffixes[-1:]), "")) in (
        "jsonl",
        "csv",
        "tsv",
    ):
        return _field_lines(text, encoding, role)
    return read_lines(open_source(text) if is_packed else text, encoding=encoding)


def _field_lines(name: str, encoding: str, role: str) -> Iterator[str]:
    """Return the texts of one field, each on one line, and note which field it is.

    TSV without a header has it in its first column.
    """
    from regard.data.readers.columns import is_language_code
    from regard.data.readers.shape import inspect_shape
    from regard.data.readers.source import open_source
    from regard.data.readers.tables import read_cells, read_records, require_readable
    from regard.data.readers.text_lines import open_text

    source = open_source(name)
    shape = inspect_shape(source, encoding)
    other = "text" if role == "source" else "source"
    column = shape.columns.get(role) or shape.columns.get(other)
    is_tsv = source.suffix == ".tsv"
    if is_tsv and column is not None and is_language_code(column):
        column = None  # a word list may begin with "so" and "da"
    if column is not None or shape.kind == "records" or not is_tsv:
        column = column or role
        texts = [text for _, (text,) in read_records(source, (column,), encoding=encoding)]
    else:
        column = "1"
        file = open_text(source, encoding)
        texts = [cells[0] for _, cells in read_cells(file, source.suffix)]
        require_readable(file.problems)
    print(f"regard: note: {name}: read as a table, column {column}.", file=sys.stderr)
    return (" ".join(re.split("\r\n|[\r\n]", text)) for text in texts)
