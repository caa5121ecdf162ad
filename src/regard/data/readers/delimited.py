"""Rows of delimited text: TSV, whose cells hold anything but tabs, and CSV (RFC 4180)."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from regard.data.readers.text_lines import Lines, TextFile, fixed_name, without_end

_LONGEST_FIELD = 2**31 - 1  # characters of a CSV field: the most that csv takes on every system


def read_tsv(
    file: TextFile,  # noqa: ARG001
    lines: Lines,
    separator: str,  # noqa: ARG001
) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of lines between tabs."""
    for number, text in lines:
        if "\t" in text or text.strip():
            yield number, without_end(text).split("\t")


def read_csv(file: TextFile, lines: Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of rows between separators; a quoted cell may span lines."""
    record: list[tuple[int, str]] = []
    reader = csv.reader(_feed_csv(lines, record), delimiter=separator, strict=True)
    with _long_fields(), suppress(StopIteration):
        while True:
            record.clear()
            try:
                cells = [cell.replace("\0", "\r") for cell in next(reader)]
            except csv.Error as error:
                remedy = _advise_quotes(file.name, record[0][1])
                file.refuse(record[0][0], _describe_csv_error(error), record[0][1], remedy)
            else:
                if len(cells) > 1 or "".join(cells).strip():
                    yield record[0][0], cells


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let `csv` read fields of any length."""
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _feed_csv(lines: Lines, record: list[tuple[int, str]]) -> Iterator[str]:
    """Yield lines for `csv`, and append each with its number to a record."""
    for number, text in lines:
        body = without_end(text)
        record.append((number, body))
        # A lone CR would end a row for csv; it is replaced by NUL, which no line holds.
        yield body.replace("\r", "\0") + text[len(body) :]


def _describe_csv_error(error: csv.Error) -> str:
    """Return why a record is not CSV."""
    if str(error) == "unexpected end of data":
        return "a quote is opened here and never closed."
    return f"not CSV: {error}.  Quotes within a text are doubled and the text quoted."


def _advise_quotes(name: str, line: str) -> str:
    """Return the command that doubles quotes which are escaped by a backslash; else nothing."""
    if '\\"' not in line:
        return ""
    command = 'sed \'s/\\\\"/""/g\''
    return f"Double them: {command} {shlex.quote(name)} > {fixed_name(name)}"
