"""Rows of numbers with a label: a table with a column ``label``, all others numbers.

    label,x1,x2,x3,x4
    sine,0.00,0.84,0.91,0.14
    saw,0.00,0.25,0.50

A first column without a name, or named for numbers of rows (``id``), is left out, as are columns
of dates or times. The end of a row may be left empty or out where its series is shorter. Decimal
commas are read where they cannot be taken for thousands. Objects of JSON have the numbers under
keys, or in a list. Cost: one pass over the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.listing import list_first
from regard.data.readers.columns import find_column, fold_name
from regard.data.readers.json_lines import read_objects, text_of_value
from regard.data.readers.json_lists import holds_objects
from regard.data.readers.numbered_columns import are_numbers_of_columns
from regard.data.readers.problems import require_readable
from regard.data.readers.source import DataSource, SourceLike, as_source
from regard.data.readers.table_format import Records, read_cells
from regard.data.readers.text_lines import TextFile, open_text
from regard.errors import DataError, did_you_mean

_NUM_NAMED = 10  # columns in a message
_INDEX_NAMES = ("", "id", "index", "row", "unnamed: 0")  # the last is what pandas writes
_DECIMAL_COMMA = re.compile(r"\s*[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+\s*")  # 1,5 and 1.234,5
_SURE_COMMA = re.compile(  # not 1,234, which may be a thousand
    r"\s*[-+]?(?:0+,\d+|\d+,(?!\d{3}\s*$)\d+|\d{1,3}(?:\.\d{3})+,\d+)\s*"
)
_NUM_INSPECTED = 100  # rows by which columns of dates and decimal commas are known
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?(?:Z|[+-]\d{2}:?\d{2})?"
_DATE = re.compile(
    rf"\s*(?:\d{{4}}([-/.])\d{{1,2}}\1\d{{1,2}}(?:(?:T| +){_TIME})?"
    rf"|\d{{1,2}}([-/.])\d{{1,2}}\2(?:\d{{4}}|\d{{2}})(?:(?:T| +){_TIME})?|{_TIME})\s*"
)
_LARGEST = 1e30  # squares of larger numbers are not finite in float32
_MISSING = frozenset(["na", "n/a", "#n/a", "<na>", "null", "none", "-", "?", "missing"])


class NumberRow(NamedTuple):
    """Numbers, ``[length]`` float64, with their 1-based line and their label, empty if unknown."""

    line: int
    label: str
    numbers: NDArray[np.float64]


class NumberTable(NamedTuple):
    """How a table of numbers is read.

    Args:
        left_out: Names of the columns that are left out: of numbers of rows, dates or times.
        has_decimal_commas: Whether numbers have a comma where English has a point.
    """

    left_out: tuple[str, ...]
    has_decimal_commas: bool


def inspect_number_table(
    data: SourceLike, *, label: str = "label", encoding: str = "utf-8"
) -> NumberTable:
    """Return how the first rows of a table of numbers with a header are read."""
    source = as_source(data)
    _, header, records = _split_header(_read_cells(open_text(source, encoding), source), label)
    column = find_column(header, label)
    first_rows = [cells for _, cells in islice(records, _NUM_INSPECTED)]
    columns = _Columns.find(header, column, first_rows, has_commas=_has_commas(source.content))
    return NumberTable(
        left_out=tuple(header[index] for index in sorted(columns.left_out)),
        has_decimal_commas=columns.has_decimal_commas,
    )


def read_number_rows(
    data: SourceLike, *, label: str = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Return the rows of numbers of a file, at least one, with the labels in a column.

    Raises:
        DataError: The file is missing or empty, lacks the column, or has cells without a number.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    line, header, records = _split_header(_read_cells(file, source), label)
    column = find_column(header, label)
    if column is None and not file.problems:
        reason, remedy = _describe_header(header)
        file.refuse(
            line, f'no column "{label}".{did_you_mean(label, header)}{reason}', remedy=remedy
        )
    rows = [] if file.problems else list(_number_rows(file, records, header, column))
    require_readable(file.problems)
    if not rows:
        raise DataError(
            f"{file.name}: there are no rows of numbers.  Expected a header, then one a row."
        )
    return rows


def read_unlabeled_rows(
    data: SourceLike, *, label: str = "label", encoding: str = "utf-8"
) -> list[NumberRow]:
    """Return rows of numbers to be classified; a header and a column of labels are optional.

    Raises:
        DataError: The file is missing or empty, or has cells without a number.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = list(_read_cells(file, source))
    _, header, rest = _split_header(iter(records), label)
    records = list(rest) if label in header else records
    header = header if label in header else _take_header(file, records)
    widest = max((len(cells) for _, cells in records), default=0)
    names = header or list(map(str, range(1, 1 + widest)))
    rows = list(_number_rows(file, iter(records), names, find_column(header, label)))
    require_readable(file.problems[:1])
    if not rows:
        raise DataError(f"{file.name}: there are no rows of numbers.  Expected one series a row.")
    return rows


def _split_header(records: Records, label: str) -> tuple[int, list[str], Records]:
    """Return the line of the first row, the names of columns, and the rows below them.

    Where the label is the number of a column, and the other cells of the first row are numbers,
    that is a row: its columns have numbers as names.
    """
    line, first = next(records, (1, []))
    header = [name.strip() for name in first]
    if not are_numbers_of_columns([label], header) or int(label) > len(header):
        return line, header, records
    features = [cell for number, cell in enumerate(header, start=1) if number != int(label)]
    if features and all(map(is_like_number, features)):
        return line, list(map(str, range(1, 1 + len(header)))), chain([(line, first)], records)
    header[int(label) - 1] = label
    return line, header, records


def _read_cells(file: TextFile, source: DataSource) -> Records:
    """Return the rows of CSV or TSV, or those that objects of JSON are, with a header."""
    if holds_objects(file, source.suffix):
        return _cells_of_objects(list(read_objects(file)))
    return read_cells(file, source.suffix)


def _cells_of_objects(objects: Sequence[tuple[int, dict[str, object]]]) -> Records:
    """Yield the keys of objects, and their values; lists come last, a cell for each item.

    They may differ in length, as the end of a row may be left out.
    """
    widths: dict[str, int] = {}
    for _, fields in objects:
        for name, value in fields.items():
            widths[name] = max(widths.get(name, 0), len(value) if isinstance(value, list) else 0)
    names = sorted(widths, key=lambda name: widths[name] > 0)
    header = [
        cell
        for name in names
        for cell in ([f"{name}[{i}]" for i in range(widths[name])] if widths[name] else [name])
    ]
    if objects:
        yield objects[0][0], header
    for line, fields in objects:
        cells: list[str] = []
        for name in names:
            value = fields.get(name)
            items = value if isinstance(value, list) else [value]
            texts = list(map(text_of_value, items))
            cells += texts + [""] * (max(1, widths[name]) - len(texts))
        yield line, cells


def _take_header(file: TextFile, records: list[tuple[int, list[str]]]) -> list[str]:
    """Return the names of columns, and take them from records; empty where all are rows.

    A first row of numbers and a text becomes a problem.
    """
    filled = list(filter(str.strip, records[0][1])) if records else []
    if all(is_like_number(cell) or is_date(cell) for cell in filled):
        return []
    line, cells = records.pop(0)
    header = list(map(str.strip, cells))
    if _are_numbers(header):
        remedy = "The first row holds numbers; write names above them: label,x1,x2,..."
        file.refuse(line, "a text among numbers.", remedy=remedy)
    return header


def find_index_column(header: Sequence[str]) -> int | None:
    """Return 0 if the first column has the numbers of the rows by its name, else None.

    >>> find_index_column(["", "label", "x"]), find_index_column(["label", "x"])
    (0, None)
    """
    return 0 if len(header) > 1 and fold_name(header[0]) in _INDEX_NAMES else None


def is_number(text: str) -> bool:
    """Return whether a cell is a number.

    >>> is_number(" -1.5e3"), is_number("one"), is_number("1_000")
    (True, False, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows between digits


def is_like_number(text: str) -> bool:
    """Return whether a cell is in a column of numbers: a number, a decimal comma, or none at all.

    >>> is_like_number("1,5"), is_like_number("NA"), is_like_number("cat")
    (True, True, False)
    """
    is_missing = text.strip().casefold() in _MISSING
    return is_missing or is_number(text) or _DECIMAL_COMMA.fullmatch(text) is not None


def is_date(text: str) -> bool:
    """Return whether a cell is a date, a time, or both.

    >>> is_date("2024-01-31"), is_date("31.1.2024 12:30"), is_date("12:30:05"), is_date("1.5")
    (True, True, True, False)
    """
    return _DATE.fullmatch(text) is not None


def _are_numbers(header: Sequence[str]) -> bool:
    """Return whether a first row is not a header: a name may be a number, but without a point."""
    return sum("." in name and is_number(name) for name in header) > 1


def _describe_header(header: Sequence[str]) -> tuple[str, str]:
    """Return what the first row holds instead of a column of labels, and how to name the column."""
    if _are_numbers(header):
        texts = [number for number, cell in enumerate(header, 1) if not is_like_number(cell)]
        return (
            "  The first row holds numbers: no header?  Name the column of labels by its number: "
            f"`data.columns={(texts or [len(header)])[0]}`",
            "",
        )
    if not header:
        return "  Columns seen: none.", ""
    columns = list_first(header, _NUM_NAMED)
    return f"  Columns seen: {columns}.", "Name the one: `data.columns=NAME`"


class _Fault(NamedTuple):
    """Why a row cannot be read, the text that shows it, and what to do."""

    reason: str
    text: str | None = None
    remedy: str = ""


class _Columns(NamedTuple):
    """The columns of a table.

    Args:
        header: Names of all.
        label: Index of that of labels; None without one.
        left_out: Indices of the columns that hold no numbers of the series.
        numbered: Indices of those that do, in their order.
        has_decimal_commas: Whether numbers have a comma where English has a point.
    """

    header: Sequence[str]
    label: int | None
    left_out: frozenset[int]
    numbered: tuple[int, ...]
    has_decimal_commas: bool

    @classmethod
    def find(
        cls,
        header: Sequence[str],
        label: str | None,
        first_rows: Sequence[Sequence[str]],
        *,
        has_commas: bool,
    ) -> _Columns:
        """Return the columns by the header and the first rows.

        Args:
            header: Names of all columns.
            label: Name of that of labels; None without one.
            first_rows: Cells of the first rows.
            has_commas: Whether commas separate the cells.
        """
        index = None if label is None else header.index(label)
        columns = list(zip_longest(*first_rows, fillvalue=""))
        dates = {column for column, cells in enumerate(columns[: len(header)]) if _are_dates(cells)}
        left_out = frozenset({find_index_column(header), *dates} - {None, index})
        not_numbers = {index, *left_out}
        numbers = [cells for column, cells in enumerate(columns) if column not in not_numbers]
        numbered = tuple(column for column in range(len(header)) if column not in not_numbers)
        is_decimal = not has_commas and any(map(_SURE_COMMA.fullmatch, chain(*numbers)))
        return cls(header, index, left_out, numbered, is_decimal)

    def label_of(self, cells: Sequence[str]) -> str | None:
        """Return the label of a row, None where it lacks one; empty where rows have none."""
        if self.label is None:
            return ""
        return "".join(cells[self.label :][:1]).strip() or None

    def select(self, cells: Sequence[str]) -> list[str]:
        """Return those of some cells, or names, that are in the columns of numbers."""
        return [cells[index] for index in self.numbered if index < len(cells)]


def _number_rows(
    file: TextFile, records: Records, header: Sequence[str], label_name: str | None
) -> Iterator[NumberRow]:
    """Yield the rows that can be read; the others become problems of the file."""
    first = list(islice(records, _NUM_INSPECTED))
    has_commas = _has_commas(file.content or b"")
    columns = _Columns.find(
        header, label_name, [cells for _, cells in first], has_commas=has_commas
    )
    names = columns.select(header)
    for line, all_cells in chain(first, records):
        cells = _without_empty_end(all_cells, len(header))
        row = _read_row(columns, names, line, cells)
        if isinstance(row, _Fault):
            file.refuse(line, *row)
        else:
            yield row


def _read_row(
    columns: _Columns, names: Sequence[str], line: int, cells: Sequence[str]
) -> NumberRow | _Fault:
    """Return the label and the numbers of a row, or why it cannot be read.

    Args:
        columns: The columns of the table.
        names: Names of those of numbers.
        line: 1-based line of the row.
        cells: Its cells.
    """
    if len(cells) > len(columns.header):
        return _Fault(f"{len(cells):,} columns, {len(columns.header):,} expected.")
    label, values = columns.label_of(cells), _without_empty_end(columns.select(cells))
    if label is None:
        return _Fault("the label is empty.", remedy="Fill it in, or leave the row out.")
    if not values:
        return _Fault("no numbers.", remedy="Fill them in, or leave the row out.")
    points: Iterable[_Fault | None] = ()
    if columns.has_decimal_commas:
        points, values = map(_find_point, names, values), list(map(_with_point, values))
    fault = next(filter(None, chain(points, map(_find_fault, names, values))), None)
    return fault or NumberRow(line, label, np.array(list(map(float, values))))


def _without_empty_end(cells: Sequence[str], least: int = 0) -> list[str]:
    """Return cells without the empty ones at the end, but not fewer than some number."""
    end = len(cells)
    while end > least and not cells[end - 1].strip():
        end -= 1
    return list(cells[:end])


def _find_point(name: str, cell: str) -> _Fault | None:
    """Return that a cell of a column has a point where others have commas; None if it has not."""
    if "." not in cell or "," in cell:
        return None
    reason = f"column {name} has a decimal point, others have commas."
    return _Fault(reason, cell, "Write all in one way.")


def _are_dates(cells: Sequence[str]) -> bool:
    """Return whether the cells of a column that are not empty, one or more, are dates."""
    filled = list(filter(str.strip, cells))
    return bool(filled) and all(map(is_date, filled))


def _has_commas(content: bytes) -> bool:
    """Return whether commas separate the cells: the header has no semicolon and no tab.

    So do they in JSON.
    """
    first = content.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0]
    return first.startswith(b"{") or (b";" not in first and b"\t" not in first)


def _with_point(cell: str) -> str:
    """Return a number with a decimal comma with a point; other text unchanged."""
    return cell.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def _find_fault(name: str, cell: str) -> _Fault | None:
    """Return why a cell of a column holds no number; None if it does."""
    if not cell.strip():
        remedy = "Only the end of a row may be."
        return _Fault(f"column {name} is empty, and numbers follow.", remedy=remedy)
    if cell.strip().casefold() in _MISSING:
        return _Fault(f"column {name} has no value.", cell, "Fill it in, or leave the row out.")
    if not is_number(cell):
        remedy = "A decimal comma?  Write a point." if _DECIMAL_COMMA.fullmatch(cell) else ""
        return _Fault(f"column {name} holds no number.", cell, remedy)
    if not abs(float(cell)) <= _LARGEST:
        return _Fault(f"column {name} is too large, or not finite.", cell.strip())
    return None
