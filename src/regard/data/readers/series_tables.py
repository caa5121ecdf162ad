"""Series of numbers with times: CSV, TSV or JSONL with a column of times and numbers next to it.

    time,demand,temperature          day,shop,sales
    2024-01-01 00:00,22.3,4.5        2024-01-01,A,12
    2024-01-01 00:30,21.9,           2024-01-01,B,7

A wide table has one series a column, a long one has a column of names and a row for each value.
The times are brought on a regular grid, on which what is missing is NaN. Cost: a few regular
expressions for each distinct time, and one pass over the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first
from regard.data.readers.aligned_series import SeriesAligner
from regard.data.readers.columns import find_roles, fold_name
from regard.data.readers.number_columns import (
    CellFault,
    NumberColumn,
    NumberStyle,
    are_mostly_numbers,
    find_number_style,
    have_points_of_thousands,
    read_boolean_column,
    read_number_column,
)
from regard.data.readers.problems import RowProblem, quote, require_readable
from regard.data.readers.read_as import ReadAs
from regard.data.readers.series_columns import (
    LABEL_NAMES,
    ColumnRequest,
    ColumnRoles,
    find_column_roles,
    find_request,
    group_rows,
)
from regard.data.readers.source import DataSource, SourceLike, as_source
from regard.data.readers.table_inspection import note_objects
from regard.data.readers.text_lines import TextFile, open_text
from regard.data.readers.time_column import TimeColumn
from regard.data.readers.time_grid import TimeGrid, find_grid
from regard.data.readers.time_table import (
    TimeCells,
    TimeTable,
    describe_no_times,
    find_times,
    read_time_table,
    times_of_column,
)
from regard.data.readers.time_texts import MONTH_NUMBERS
from regard.data.readers.times import are_times, read_time_column
from regard.data.time_series import MONTH_NAMES, TimeSeries, TimeStep
from regard.errors import DataError

_NUM_NAMED = 10  # columns in a message
_MAX_ROWS_SHAPE = 60  # lines by which a file is taken for series
_TEXT_ROLES = ("text", "source", "target", "document", "summary", "context", "question")
_DOTTED_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2}")  # whose countries have decimal commas
_MAX_WORDS = 3  # of a name of a series that is not repeated


class TimeSeriesFile(msgspec.Struct, frozen=True, kw_only=True):
    """What was read from a file of series.

    Args:
        series: The series, each on a regular grid.
        step: Step of the grid.
        notes: What was missing, repeated or in another order, in words.
        dropped: Rows that were left out.
        read_as: What the file was read as, and how times and numbers were read.
        known_names: Names of the columns that are known ahead.
        observed_names: Names of the columns that are known as far as the values.
    """

    series: TimeSeries
    step: TimeStep
    notes: list[str]
    dropped: list[DroppedRow]
    read_as: ReadAs
    known_names: tuple[str, ...]
    observed_names: tuple[str, ...]


def read_time_series(
    data: SourceLike,
    *,
    encoding: str = "utf-8",
    columns: Sequence[str] = (),
    targets: Sequence[str] = (),
    known: Sequence[str] = (),
    observed: Sequence[str] = (),
    step: str = "",
) -> TimeSeriesFile:
    """Read the series of a file with a column of times.

    Args:
        data: The file; ``-`` is standard input.
        encoding: Encoding of the file.
        columns: Names of the column of times; of times and values; or of times, values and the
            names of series. They are found where this is empty.
        targets: Names of the columns to be forecast; empty for all columns of numbers that have no
            other role.
        known: Names of columns that are known ahead, such as holidays. Rows at the end that have
            these and no value are those of the future.
        observed: Names of columns that are known as far as the values.
        step: The step of the series, such as ``30 minutes``, if it is known: it decides what the
            times leave open, which may have another step. Empty to find it.

    Returns:
        The series, at least one, each with a value.

    Raises:
        DataError: The file is missing or empty, has no times or no numbers, or cells that cannot be
            read; the times are on no regular grid, or have different values.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    table = read_time_table(file, source)
    require_readable(_in_order(file))
    if not table.lines:
        raise DataError(
            f"{file.name}: there are no rows.  Expected a header, then a time and numbers a row."
        )
    request = find_request(file, table, columns, targets, known, observed)
    require_readable(_in_order(file))
    cells, times = _read_times(file, table, request, step)
    roles = find_column_roles(table, cells, times, request)
    if not roles.targets:
        raise DataError(_describe_no_numbers(file, table, roles))
    _refuse_unnamed(file, table, roles.keys)
    numbers, notes = _read_numbers(file, table, roles, cells)
    require_readable(_in_order(file))
    expected = TimeStep.parse(step) if step else None
    aligner = SeriesAligner(file, table, times, roles, numbers, expected)
    series, grid_step = aligner.align()
    columns_read = [*cells.columns, *roles.keys, *roles.numbers]
    read_as = ReadAs.of(
        "time series" if times.is_count else f"time series every {grid_step}",
        table.names_of(columns_read),
        table.names_of(roles.unused),
        [*note_objects(file), *table.notes, *times.notes, *notes],
    )
    return TimeSeriesFile(
        series=series,
        step=grid_step,
        notes=[*aligner.notes, *_note_months(table, roles, grid_step)],
        dropped=sorted([*table.dropped, *aligner.dropped], key=lambda row: row.line),
        read_as=read_as,
        known_names=tuple(table.names_of(roles.known)),
        observed_names=tuple(table.names_of(roles.observed)),
    )


def _note_months(table: TimeTable, roles: ColumnRoles, step: TimeStep) -> list[str]:
    """Return a note where each series of years is a month of theirs: a table of years by months."""
    names = [table.name_of(index) for index in roles.targets]
    numbers = {MONTH_NUMBERS.get(name.casefold()) for name in names} - {None}
    if step.unit != "year" or len(numbers) < len(MONTH_NAMES):
        return []
    return [
        "each month is a series of its own, with a value a year: write a row for each month, such "
        "as 2024-01,12.5, if they are one series"
    ]


def _refuse_unnamed(file: TextFile, table: TimeTable, keys: Sequence[int]) -> None:
    """Make rows without the name of a series problems."""
    for index in keys:
        reason = f"column {table.name_of(index)}, the name of the series, is empty."
        for row in (row for row, cell in enumerate(table.columns[index]) if not cell):
            file.refuse(table.lines[row], reason, table.row_text(row))


def is_time_series(source: DataSource, encoding: str = "utf-8", *, is_text: bool = False) -> bool:
    """Return whether a file holds series with times, by its first rows.

    It has a column of times and one of numbers, perhaps without any value, and no texts but names
    of series. Rows of several
    numbers with a column ``label`` or ``class`` are not series with times, also where they have a
    date; of one number they are, where the times are regular.

    Args:
        source: The file or stream.
        encoding: Encoding of the file.
        is_text: Whether the file is named as running text.
    """
    table = _first_rows(source, encoding, is_text=is_text)
    cells = find_times(table)
    if cells is None:
        return False
    times = read_time_column(cells.cells, table.names[cells.columns[0]])
    if times is None:  # refused as series, by the name of the column
        return LABEL_NAMES.isdisjoint(map(fold_name, table.names))
    if _has_texts(table) or (times.is_count and not table.has_header):
        return False
    return _are_forecast(table, cells, times)


def _first_rows(source: DataSource, encoding: str, *, is_text: bool) -> TimeTable:
    """Return the first rows of a table; none of another file: less than two lines, or damaged."""
    nothing = TimeTable([], [], [], [])
    try:
        file = open_text(source, encoding)
        table = read_time_table(file, source, limit=_MAX_ROWS_SHAPE)
    except DataError:
        return nothing
    is_damaged = is_text and bool(file.problems)
    return nothing if is_damaged or len(table.lines) + table.has_header < 2 else table


def _are_forecast(table: TimeTable, cells: TimeCells, times: TimeColumn) -> bool:
    """Return whether rows with times are for a forecast, not to be classified."""
    roles = find_column_roles(table, cells, times, ColumnRequest())
    has_label = not LABEL_NAMES.isdisjoint(map(fold_name, table.names))
    if times.is_count or has_label:
        most = 1 if has_label else len(table.names)
        return 0 < len(roles.targets) <= most and _are_regular(table, roles, times)
    # Without any value they are refused as series, by the name of the column.
    return bool(roles.targets) or any(map(table.is_empty, roles.unused))


def _are_regular(table: TimeTable, roles: ColumnRoles, times: TimeColumn) -> bool:
    """Return whether the times of each series rise, all on one regular grid."""
    groups = [times.times[rows] for rows in group_rows(table, roles.keys).values()]
    is_rising = all(np.all(np.diff(group) > 0) for group in groups)
    return is_rising and isinstance(find_grid(groups, is_count=times.is_count), TimeGrid)


def _has_texts(table: TimeTable) -> bool:
    """Return whether a column has texts, which differ, unlike names of series, or are named so."""
    if any(map(_are_texts, table.names, map(table.filled, range(len(table.names))))):
        return True
    roles = find_roles(table.names, is_table=False)
    texts = [roles[role] for role in _TEXT_ROLES if role in roles]
    return any(not are_mostly_numbers(table.columns[table.names.index(name)]) for name in texts)


def _are_texts(name: str, cells: Sequence[str]) -> bool:
    """Return whether cells of a column are texts of several words that differ."""
    if not cells or are_mostly_numbers(cells) or are_times(cells, name):
        return False
    num_words = sum(len(cell.split()) for cell in cells)
    return num_words > _MAX_WORDS * len(cells) and 2 * len(set(cells)) > len(cells)


def _in_order(file: TextFile) -> list[RowProblem]:
    """Return the problems of a file in the order of its lines."""
    return sorted(file.problems, key=lambda problem: problem.line or 0)


def _read_times(
    file: TextFile, table: TimeTable, request: ColumnRequest, step: str
) -> tuple[TimeCells, TimeColumn]:
    """Return the cells of times, and the times; cells that cannot be read become problems.

    Raises:
        DataError: No column has times.
    """
    cells = find_times(table)
    remedy = ""
    if request.time is not None and request.time not in (cells.columns[:1] if cells else ()):
        if cells is not None:
            remedy = _propose_time(table.name_of(cells.columns[0]), table.name_of(request.time))
        cells = times_of_column(table, request.time)
    if cells is None:
        raise DataError(f"{file.name}: {describe_no_times(table)}")
    name = table.name_of(cells.columns[0])
    times = read_time_column(cells.cells, table.names[cells.columns[0]], step)
    if times is None:
        first = next(filter(None, cells.cells), "")
        raise DataError(
            f"{file.name}:{table.lines[0]}: column {name} holds no times.  {quote(first)}  "
            "Expected dates such as 2024-01-31, 2024-01-31 12:30 or 2024-01-31T12:30+05:30."
            f"{remedy}"
        )
    _refuse_cells(file, table, name, times.faults, cells.cells)
    return cells, times


def _propose_time(column: str, other: str) -> str:
    """Return that a column holds times, where another one was named for them."""
    return f"  Column {column} does.  The column of times is first: `data.columns={column},{other}`"


def _refuse_cells(
    file: TextFile, table: TimeTable, name: str, faults: Sequence[CellFault], cells: Sequence[str]
) -> None:
    """Make cells of a column that cannot be read problems; of an empty one the row is shown."""
    for fault in faults:
        text = table.row_text(fault.row) if fault.reason == "is empty" else cells[fault.row]
        reason = f"column {name} {fault.reason}."
        file.refuse(table.lines[fault.row], reason, text, fault.remedy)


def _describe_no_numbers(file: TextFile, table: TimeTable, roles: ColumnRoles) -> str:
    """Return what the columns of a table hold that has no numbers to be forecast."""
    empty = [table.name_of(i) for i in roles.unused if table.is_empty(i)]
    if empty:
        return f"{file.name}: no value at all in {list_first(empty, _NUM_NAMED)}."
    lists = [table.name_of(i) for i in roles.unused if table.columns[i][0].startswith("[")]
    if lists:
        return f"{file.name}: column {lists[0]} holds lists.  Write a row for each value."
    seen = table.list_names()
    return f"{file.name}: no column of numbers to be forecast.  Columns seen: {seen}."


def _read_numbers(
    file: TextFile, table: TimeTable, roles: ColumnRoles, times: TimeCells
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the numbers of the columns of numbers; cells that cannot be read become problems.

    Returns:
        Float64 ``[rows, columns]``, and notes on how numbers are written.
    """
    styles = _find_styles(table, roles)
    columns, notes = [], []
    for index, style in styles.items():
        cells, name = table.columns[index], table.name_of(index)
        truth = None if index in roles.targets else read_boolean_column(cells)
        column = read_number_column(cells, style) if truth is None else NumberColumn(truth, ())
        _refuse_cells(file, table, name, column.faults, cells)
        columns.append(column.values)
        if column.sign:
            notes.append(f'numbers of {name} are read without "{column.sign}"')
    return np.stack(columns, axis=1), [*notes, *_describe_styles(table, styles, times)]


def _describe_styles(
    table: TimeTable, styles: dict[int, NumberStyle], times: TimeCells
) -> list[str]:
    """Return notes on columns of numbers with commas, and with points where dates have points."""
    notes = []
    if _DOTTED_DATE.match(next(filter(None, times.cells), "")):
        written = [
            table.name_of(index)
            for index, style in styles.items()
            if style == "point" and have_points_of_thousands(table.columns[index])
        ]
        if written:
            names = list_first(written, _NUM_NAMED)
            notes.append(f"points in numbers are decimal, not between thousands ({names})")
    for style, words in (("comma", "decimal commas"), ("thousands", "commas between thousands")):
        written = [table.name_of(index) for index, one in styles.items() if one == style]
        if written:
            notes.append(f"numbers have {words} ({list_first(written, _NUM_NAMED)})")
    return notes


def _find_styles(table: TimeTable, roles: ColumnRoles) -> dict[int, NumberStyle]:
    """Return how the numbers of each column are written; the others decide where one is unclear."""
    styles: dict[int, NumberStyle] = {
        index: find_number_style(table.columns[index]) for index in roles.numbers
    }
    clear: set[NumberStyle] = {s for s in styles.values() if s not in ("point", "unclear")}
    if len(clear) != 1:
        return styles
    (usual,) = clear
    for index, style in styles.items():
        if style == "unclear":
            styles[index] = usual
        elif (
            style == "point" and usual == "comma" and have_points_of_thousands(table.columns[index])
        ):
            styles[index] = "dotted"
    return styles
