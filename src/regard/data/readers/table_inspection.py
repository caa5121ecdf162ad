"""What tables and records are read as, by their first rows: columns, marks and separator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

import msgspec

from regard.data.readers import FORMATS
from regard.data.readers.annotation_marks import describe_marks, find_marks
from regard.data.readers.columns import PAIR_ROLES, find_columns, pair_finder
from regard.data.readers.headers import find_header
from regard.data.readers.json_lines import json_fields
from regard.data.readers.json_lists import find_wrapping_key
from regard.data.readers.numbered_columns import are_numbers_of_columns, number_header
from regard.data.readers.read_as import ReadAs
from regard.data.readers.source import DataSource
from regard.data.readers.table_format import Table, cell_records, name_of, open_pairs, open_table
from regard.data.readers.table_selection import NUM_SAMPLED
from regard.data.readers.text_lines import TextFile, numbered_lines, open_text
from regard.errors import DataError


def inspect_pairs(
    source: DataSource,
    contents: str,
    *,
    targets: str | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
    roles: tuple[str, str] = PAIR_ROLES,
) -> ReadAs:
    """Return what `read_pairs` reads a file as, by its first rows; `targets` is a second file."""
    if targets is not None:
        return ReadAs.of(contents, notes=[f"line by line with {targets}"])
    file = open_text(source, encoding)
    table, is_json = open_pairs(file, source.suffix)
    if is_json:
        return _inspect_objects(file, table, contents, pair_finder(columns, roles))
    names, has_header = _read_header(file, table, columns or ())
    pair = columns or find_header(names, is_csv=table.is_csv, roles=roles)
    has_header = has_header and pair is not None
    notes = _describe_separator(table, source.suffix, has_header=has_header)
    return _inspect_header(names, pair, contents, [*note_objects(file), *notes])


def inspect_records(
    source: DataSource, names: Sequence[str], contents: str, *, encoding: str = "utf-8"
) -> ReadAs:
    """Return what `read_records` reads a file as, by its first row."""
    file = open_text(source, encoding)
    table = open_table(file, source.suffix)
    if FORMATS.get(source.suffix) == "jsonl" or table.is_json:
        return _inspect_objects(file, table, contents, partial(find_columns, names))
    header, has_header = _read_header(file, table, names)
    notes = _describe_separator(table, source.suffix, has_header=has_header)
    return _inspect_header(header, names, contents, [*note_objects(file), *notes])


def note_objects(file: TextFile) -> list[str]:
    """Return notes on where objects come from: a table, or a list under a key; else none."""
    if file.table is not None:
        return list(file.table.notes)
    key = find_wrapping_key(numbered_lines(file._replace(problems=[])))
    return [] if key is None else [f'the list under "{key}"']


def _read_header(file: TextFile, table: Table, names: Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of columns, and whether the first row has them; else they have numbers."""
    rows = [cells for _, cells in islice(cell_records(file, table), NUM_SAMPLED)] or [[]]
    header = list(map(str.strip, rows[0]))
    if are_numbers_of_columns(names, header):
        return number_header(names, header, rows[1:], is_csv=table.is_csv)
    return header, True


def _inspect_header(
    header: Sequence[str], names: Sequence[str] | None, contents: str, notes: Sequence[str]
) -> ReadAs:
    """Return what columns with some names, or the first ones, are read as."""
    columns = find_columns(names or (), header)
    return _read_as_rows(contents, columns, header if columns else [], notes)


def _read_as_rows(
    contents: str, columns: Sequence[str], names: Sequence[str], notes: Sequence[str]
) -> ReadAs:
    """Return what rows with columns of some names are read as, with the rows that are left out."""
    marks = find_marks(names, columns)
    unused = [name for name in names if name not in (*columns, *marks)]
    return ReadAs.of(contents, columns, unused, [*notes, *describe_marks(marks)])


def _inspect_objects(
    file: TextFile,
    table: Table,
    contents: str,
    find_keys: Callable[[list[str]], Sequence[str] | None],
) -> ReadAs:
    """Return what JSON is read as, by its first object."""
    text, notes = next((text for _, text in table.lines if text.strip()), "{}"), note_objects(file)
    with suppress(DataError, msgspec.DecodeError, RecursionError):
        keys = list(json_fields(text))
        columns = find_keys(keys) or ()
        return _read_as_rows(contents, columns, keys, notes)
    return ReadAs.of(contents, notes=notes)


def _describe_separator(table: Table, suffix: str, *, has_header: bool) -> list[str]:
    """Return notes on how a table is written, where its suffix does not say it."""
    if table.format == "fasttext":
        return ["labels as fastText marks them"]
    is_usual = {".csv": ",", ".tsv": "\t"}.get(suffix) == table.separator
    notes = [] if has_header and is_usual else [f"{name_of(table.separator)}-separated"]
    return notes if has_header else [*notes, "no header"]
