"""How a table or records are written, by the first lines: format and separator; and its cells."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import NamedTuple

from regard.data.readers import FORMATS, TABLE_READERS
from regard.data.readers.columns import find_roles
from regard.data.readers.fasttext import are_fasttext
from regard.data.readers.json_lists import begins_as_json, record_lines
from regard.data.readers.problems import RowProblem
from regard.data.readers.text_lines import Lines, TextFile, fixed_name, numbered_lines
from regard.errors import DataError

Records = Iterator[tuple[int, list[str]]]
"""The 1-based line on which each record begins, and its cells."""
TableReader = Callable[[TextFile, Lines, str], Records]
"""Reads the rows of a file from its lines; the last argument is the separator of CSV."""

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # as Excel writes it
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_MOST_ABOVE = 8  # lines above the names of columns
_NUM_SAMPLED = 20  # lines by which separators are recognized


class Table(NamedTuple):
    """The lines of a table or of records, and how they are written."""

    lines: Lines
    is_json: bool  # by its first line
    format: str  # in TABLE_READERS
    separator: str
    is_declared: bool  # by the suffix, or by a line such as sep=;

    @property
    def is_csv(self) -> bool:
        """Whether the first row is a header as a rule."""
        return self.format != "tsv"


def open_table(file: TextFile, suffix: str) -> Table:
    """Return the lines of a table, and how they are written by the first of them.

    Args:
        file: The table.
        suffix: Suffix of its name.

    Returns:
        The lines, with format and separator.

    Raises:
        DataError: Comments are above the names of its columns.
    """
    lines = numbered_lines(file)
    file_format = FORMATS.get(suffix, "")
    if file_format in TABLE_READERS.keys() - {"tsv", "csv", "fasttext"}:
        return Table(lines, is_json=False, format=file_format, separator=",", is_declared=True)
    lines = record_lines(lines, file.name, suffix)
    ahead = list(islice(lines, _NUM_SAMPLED))
    declared = _take_declaration(ahead)
    table = _recognize(chain(ahead, lines), list(map(itemgetter(1), ahead)), suffix, declared)
    if not table.is_json:
        _refuse_comments(file.name, ahead)
    return table


def _refuse_comments(name: str, ahead: Sequence[tuple[int, str]]) -> None:
    """Raise DataError where comments or a title are above the names of columns."""
    filled = [(line, text) for line, text in ahead if text.strip()]
    for index, (line, _) in enumerate(filled[1 : 1 + _MOST_ABOVE], 1):
        separator = _find_separator([text for _, text in filled[index:]])
        above = [text for _, text in filled[:index]]
        are_comments = all(text.startswith("#") for text in above)
        if not are_comments and any(separator in text for text in above):
            return
        cells = next(csv.reader([filled[index][1]], delimiter=separator))
        roles = find_roles(list(map(str.strip, cells)))
        if len(cells) > 1 and len(roles) > (0 if are_comments else 1):
            first, text = filled[0]
            what = "a comment" if are_comments else "a text"
            reason = f"{what} above the names of the columns."
            remedy = f"Leave it out: tail -n +{line} {shlex.quote(name)} > {fixed_name(name)}"
            raise DataError(str(RowProblem(name, first, reason, text, remedy)))


def read_cells(file: TextFile, suffix: str) -> Records:
    """Return every row of CSV or TSV, including a header.

    ``.csv`` has commas or semicolons, other suffixes have tabs if the first line has one.
    """
    return cell_records(file, open_table(file, suffix))


def cell_records(file: TextFile, table: Table) -> Records:
    """Return the cells of each row."""
    return TABLE_READERS[table.format](file, table.lines, table.separator)


def open_pairs(file: TextFile, suffix: str) -> tuple[Table, bool]:
    """Recognize how pairs are written, and whether as JSON; only ``.csv`` has commas as a rule."""
    table = open_table(file, suffix)
    file_format = FORMATS.get(suffix)
    if file_format == "jsonl" or table.is_json:
        return table, True
    if file_format != "csv" and not table.is_declared:
        table = table._replace(format="tsv", separator="\t")
    return table, False


def _recognize(lines: Lines, ahead: Sequence[str], suffix: str, declared: str) -> Table:
    """Return the lines of a table, with how the first ones are written.

    Args:
        lines: All lines.
        ahead: The first of them.
        suffix: Suffix of the file.
        declared: The separator that the file names; empty if it names none.
    """
    filled = list(filter(str.strip, ahead))
    first = "".join(filled[:1])
    if are_fasttext(filled):
        return Table(lines, False, "fasttext", separator=" ", is_declared=True)
    is_json = begins_as_json(first)
    if suffix != ".csv" and not declared and "\t" in first:
        return Table(lines, is_json, format="tsv", separator="\t", is_declared=False)
    return Table(lines, is_json, "csv", declared or _find_separator(filled), bool(declared))


def _take_declaration(ahead: list[tuple[int, str]]) -> str:
    """Return the separator that a first line such as ``sep=;`` declares, and drop that line."""
    filled = ((index, text) for index, (_, text) in enumerate(ahead) if text.strip())
    index, text = next(filled, (0, ""))
    declared = _SEPARATOR_LINE.fullmatch(text)
    if declared is None:
        return ""
    del ahead[: 1 + index]
    return declared[1]


def name_of(separator: str) -> str:
    """Return what a separator is called."""
    return _SEPARATORS.get(separator, f'"{separator}"')


def _find_separator(lines: Sequence[str]) -> str:
    """Return a separator in the first line of CSV, if possible one with the same count in all.

    A comma between digits is one of a decimal number where another separator is there, and one
    before a space is part of a text. A bar counts where no other is there.
    """
    unquoted = [re.sub('"[^"]*"?', "", line) for line in lines]
    candidates = [char for char in ",;\t" if char in "".join(unquoted[:1])]
    if len(candidates) > 1:
        unquoted = [_DECIMAL_COMMA.sub(".", line) for line in unquoted]
        candidates = [char for char in candidates if char in "".join(unquoted[:1])]
    steady = [
        char for char in candidates or "|" if len({line.count(char) for line in unquoted}) == 1
    ]
    steady.sort(key=lambda char: any(f"{char} " in line for line in unquoted))
    return next(chain(filter("".join(unquoted).__contains__, steady), candidates, ","))
