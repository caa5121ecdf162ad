"""A table with times: its rows without what is above and below them, and the cells of its times.

Lines that begin with ``#``, a title above the header, and remarks below the last row are left out.
A time may be spread over columns: a date and a time of day, or year, month, day and hour. Cost: one
pass over the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat, takewhile, zip_longest
from operator import itemgetter
from typing import NamedTuple

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first
from regard.data.readers.columns import fold_name
from regard.data.readers.json_lines import read_objects, text_of_value
from regard.data.readers.json_lists import holds_objects
from regard.data.readers.number_columns import (
    are_mostly_numbers,
    is_like_a_number,
    is_missing,
)
from regard.data.readers.row_width import describe_width
from regard.data.readers.series_header import default_names, has_no_header, is_row_of_values
from regard.data.readers.source import DataSource
from regard.data.readers.table_format import Records, read_cells
from regard.data.readers.table_selection import refuse_repeated
from regard.data.readers.text_lines import TextFile
from regard.data.readers.time_texts import MONTH_NUMBERS
from regard.data.readers.times import are_clocks, are_times, is_time_name

_MAX_TITLE_LINES = 10  # above the header
_NUM_SAMPLED = 50  # rows by which columns of times are found
_NUM_NAMED = 10  # columns in a message
_PARTS = {  # names of columns that together are a time
    "year": frozenset(["year", "yr", "yyyy", "jahr", "année", "annee", "año", "anno"]),
    "quarter": frozenset(["quarter", "qtr", "quartal", "trimestre"]),
    "month": frozenset(["month", "mon", "mm", "monat", "mois", "mes", "mese"]),
    "week": frozenset(["week", "week of year", "woche", "semaine", "semana"]),
    "day": frozenset(["day", "day of month", "dd", "tag", "jour", "dia", "día", "giorno"]),
    "hour": frozenset(["hour", "hr", "he", "hour ending", "stunde", "heure", "hora"]),
    "minute": frozenset(["minute", "min"]),
}
_FORMS = {  # of times by the parts that they are put together of
    ("year", "quarter"): "{}Q{}",
    ("year", "week"): "{}-W{:0>2}",
    ("year", "month"): "{}-{:0>2}",
    ("year", "month", "day"): "{}-{:0>2}-{:0>2}",
    ("year", "month", "day", "hour"): "{}-{:0>2}-{:0>2} {:0>2}:00",
    ("year", "month", "day", "hour", "minute"): "{}-{:0>2}-{:0>2} {:0>2}:{:0>2}",
}
_MARKS = {"quarter": "q", "week": "w"}  # before the number of a part: Q2, W05
_LARGEST = {
    "year": 2199,
    "month": 53,
    "quarter": 53,
    "week": 53,
    "day": 59,
    "hour": 59,
    "minute": 59,
}
_REASON_REMARK = "not a row of the table"


class TimeTable(NamedTuple):
    """The rows of a file, by columns.

    Args:
        names: Names of the columns; empty for a column without a name.
        columns: Cells of each column, without outer spaces.
        lines: 1-based line of each row.
        dropped: Rows that are not part of the table.
        first_line: 1-based line of the header, or of the first row where there is none.
        has_header: Whether the names are in the file.
    """

    names: list[str]
    columns: list[list[str]]
    lines: list[int]
    dropped: list[DroppedRow]
    first_line: int = 1
    has_header: bool = True

    @property
    def notes(self) -> list[str]:
        """How the table is written, where that was a guess."""
        return [] if self.has_header else ["no header"]

    def name_of(self, index: int) -> str:
        """Return the name of a column, its number where it has none."""
        return self.names[index] or f"column {1 + index}"

    def names_of(self, indices: Iterable[int]) -> list[str]:
        """Return the names of some columns."""
        return list(map(self.name_of, indices))

    def list_names(self) -> str:
        """Return the names of the first columns, for messages."""
        return list_first(self.names_of(range(len(self.names))), _NUM_NAMED)

    def filled(self, index: int) -> list[str]:
        """Return the cells of a column that are not empty."""
        return [cell for cell in self.columns[index] if cell]

    def is_empty(self, index: int) -> bool:
        """Return whether a column has no value at all."""
        return all(map(is_missing, self.columns[index]))

    def row_text(self, row: int) -> str:
        """Return the cells of a row, for messages."""
        return ",".join(cells[row] for cells in self.columns)

    def head(self) -> TimeTable:
        """Return the first rows."""
        columns = [cells[:_NUM_SAMPLED] for cells in self.columns]
        return self._replace(columns=columns, lines=self.lines[:_NUM_SAMPLED])

    @classmethod
    def from_rows(
        cls,
        names: list[str],
        rows: Sequence[tuple[int, list[str]]],
        dropped: list[DroppedRow],
        first_line: int,
    ) -> TimeTable:
        """Return a table by columns, of lines with as many cells as there are names."""
        cells = [row for _, row in rows]
        columns = [[row[index].strip() for row in cells] for index in range(len(names))]
        return cls(names, columns, [line for line, _ in rows], dropped, first_line)


class TimeCells(NamedTuple):
    """The cells of times, of one column or put together of several.

    Args:
        cells: Text of each row.
        columns: Indices of the columns.
    """

    cells: list[str]
    columns: tuple[int, ...]


def read_time_table(file: TextFile, source: DataSource, *, limit: int | None = None) -> TimeTable:
    """Return the rows of JSONL, or of CSV or TSV; what cannot be read becomes a problem.

    Args:
        file: The text of the source.
        source: The file or stream.
        limit: Maximum number of lines that are read; None for all.
    """
    if holds_objects(file, source.suffix):
        return _read_objects(file, limit)
    dropped: list[DroppedRow] = []
    records = _table_rows(islice(read_cells(file, source.suffix), limit), dropped)
    if not records:
        return TimeTable([], [], [], dropped)
    first_line = records[0][0]
    has_header = not has_no_header([cells for _, cells in records])
    names = _take_header(records, dropped, has_header=has_header)
    rows = _take_width(file, records, len(names))
    refuse_repeated(file, first_line, names)
    return TimeTable.from_rows(names, rows, dropped, first_line)._replace(has_header=has_header)


def _take_width(
    file: TextFile, records: Sequence[tuple[int, list[str]]], width: int
) -> list[tuple[int, list[str]]]:
    """Return the rows with a number of cells; others become problems."""
    for line, cells in records:
        if len(cells) != width:
            is_wide = len(cells) > width
            remedy = "A comma within a number or a text? Put it in quotes." if is_wide else ""
            file.refuse(line, describe_width(len(cells), width), ",".join(cells), remedy)
    return [(line, cells) for line, cells in records if len(cells) == width]


def _take_header(
    records: list[tuple[int, list[str]]], dropped: list[DroppedRow], *, has_header: bool
) -> list[str]:
    """Return the names of the columns, and take their lines from the records.

    Args:
        records: Lines of a table with their cells; the header is taken, if there is one.
        dropped: Receives lines of units, and a second line of names.
        has_header: Whether there is one.
    """
    if has_header:
        names = list(map(str.strip, records.pop(0)[1]))
    else:
        names = default_names([cells for _, cells in records])
    while len(records) > 1 and len(dropped) < _MAX_TITLE_LINES and _has_words_only(records[0][1]):
        dropped.append(_remark(*records.pop(0)))
    wide = _wider_rows(records, 1 + len(names))
    return names if wide is None else _with_unnamed(names, wide)


def _wider_rows(records: Sequence[tuple[int, list[str]]], width: int) -> list[list[str]] | None:
    """Return the rows of a width among the first ones; None where that is not the usual width."""
    widths = Counter(len(cells) for _, cells in records)
    if max(widths, key=widths.__getitem__, default=0) != width:
        return None
    return [cells for _, cells in records[:_NUM_SAMPLED] if len(cells) == width]


def find_times(table: TimeTable) -> TimeCells | None:
    """Return the cells of the times of a table; None where no column has times.

    A column of dates comes before columns that together are a time, and those before numbers in a
    column that is named for times; of several, the first that is named for times. Where there is
    none, a column next to numbers that is named for times has them, which cannot be read.
    """
    head = table.head()
    dates, numbers = columns = [], []
    for index, name in enumerate(head.names):
        if are_times(head.columns[index], name):
            columns[all(map(is_like_a_number, head.filled(index)))].append(index)
    if dates:
        first = min(dates, key=lambda index: not is_time_name(head.names[index]))
        return _with_clock(table, head, first)
    if cells := _join_parts(table, head):
        return cells
    index = numbers[0] if numbers else _named_for_times(head)
    return None if index is None else times_of_column(table, index)


def _named_for_times(table: TimeTable) -> int | None:
    """Return the column of texts that a header names for times, where all others are numbers."""
    texts = [i for i, cells in enumerate(table.columns) if not are_mostly_numbers(cells)]
    is_alone = table.has_header and len(texts) == 1 < len(table.names)
    return texts[0] if is_alone and is_time_name(table.names[texts[0]]) else None


def describe_no_times(table: TimeTable) -> str:
    """Return what a table holds that has no column of times, and what would work."""
    times = [name for name in filter(None, table.names) if are_times([name], "time")]
    if len(times) > 1:
        return (
            f"no column of dates or times, but columns that are times: "
            f"{list_first(times, _NUM_NAMED)}.  Write a row for each time: time,value,series"
        )
    remedy = "Name it: `data.columns=NAME`"
    if len(table.names) == 1 and " " in "".join(table.columns[0][:_NUM_SAMPLED]):
        remedy = "Separated by spaces? Use a comma."
    return f"no column of dates or times.  Columns seen: {table.list_names()}.  {remedy}"


def times_of_column(table: TimeTable, index: int) -> TimeCells:
    """Return the cells of a column as those of times."""
    return TimeCells(table.columns[index], (index,))


def _read_objects(file: TextFile, limit: int | None) -> TimeTable:
    """Return the rows of objects; a key that an object does not have is an empty cell."""
    objects = list(islice(read_objects(file), limit))
    names = list(dict.fromkeys(name for _, fields in objects for name in fields))
    columns = [[text_of_value(fields.get(name)) for _, fields in objects] for name in names]
    return TimeTable(names, columns, [line for line, _ in objects], [])


def _table_rows(records: Records, dropped: list[DroppedRow]) -> list[tuple[int, list[str]]]:
    """Return the rows of a table, the header first; titles and remarks go to `dropped`."""
    rows = _without_comments(records, dropped)
    if not any(_is_wide(cells) for _, cells in rows):
        return rows
    first, end = _find_header(rows), len(rows)
    while not _is_wide(rows[end - 1][1]) and not _is_row_of_time(rows[end - 1][1]):
        end -= 1
    dropped += [_remark(line, cells) for line, cells in [*rows[:first], *rows[end:]]]
    return rows[first:end]


def _find_header(rows: Sequence[tuple[int, list[str]]]) -> int:
    """Return the index of the first row with several cells, or of a header with one name above."""
    ahead = rows[: 1 + _MAX_TITLE_LINES]
    first = next((index for index, (_, cells) in enumerate(ahead) if _is_wide(cells)), 0)
    if not first or not is_row_of_values(rows[first][1]):
        return first
    while first and _is_time_above(rows[first - 1][1], rows[first][1]):
        first -= 1
    if not first:
        return first
    above, width = rows[first - 1][1], len(rows[first][1])
    has_name = len(above) == width - 1 or (len(above) == width and bool(above[-1].strip()))
    return first - has_name


def _is_time_above(cells: Sequence[str], below: Sequence[str]) -> bool:
    """Return whether a row has a time alone, in the form of the one in the row below it."""
    filled = [(cell, one) for cell, one in zip(cells, below, strict=False) if cell.strip()]
    return len(cells) == len(below) and all(are_times(pair, "") for pair in filled)


def _without_comments(records: Records, dropped: list[DroppedRow]) -> list[tuple[int, list[str]]]:
    """Return the rows with cells that are not comments; comments go to `dropped`.

    A row that begins with ``#`` is a comment, unless it is the header: the first row, above values
    in the same number of columns.
    """
    filled = [(line, cells) for line, cells in records if "".join(cells).strip()]
    rows = []
    for (line, cells), (_, below) in zip_longest(filled, filled[1:], fillvalue=(0, [])):
        if not cells[0].lstrip().startswith("#"):
            rows.append((line, cells))
        elif not rows and _is_above_values(cells, below):
            rows.append((line, [cells[0].lstrip("# "), *cells[1:]]))
        else:
            dropped.append(_remark(line, cells))
    return rows


def _is_above_values(cells: Sequence[str], below: Sequence[str]) -> bool:
    """Return whether the row below another has values in the same columns, two or more."""
    return len(below) == len(cells) > 1 and is_row_of_values(below)


def _is_wide(cells: Sequence[str]) -> bool:
    """Return whether two cells of a row or more are filled."""
    return sum(1 for cell in cells if cell.strip()) > 1


def _remark(line: int, cells: Sequence[str]) -> DroppedRow:
    """Return the entry of a line that is not part of a table."""
    return DroppedRow(line=line, reason=_REASON_REMARK, text=",".join(cells).strip(","))


def _is_row_of_time(cells: Sequence[str]) -> bool:
    """Return whether a cell of a row is a time: one without values, which are to be forecast."""
    return any(are_times([cell], "time") for cell in cells if cell.strip())


def _has_words_only(cells: Sequence[str]) -> bool:
    """Return whether a row has words, and no times."""
    words = [cell for cell in cells if cell.strip() and not is_missing(cell)]
    return bool(words) and not any(are_times([cell], "time") for cell in cells if cell.strip())


def _with_unnamed(names: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of a table whose rows are wider than its header by one column.

    The first column has no name where it holds numbers of rows, as R writes them, or the times; the
    last one where it is empty. Else a comma may be within a number: the header stays as it is.
    """
    if not any(row[-1].strip() for row in rows):
        return [*names, ""]
    firsts = list(map(itemgetter(0), rows))
    has_times = are_times(firsts, "") and not all(map(is_like_a_number, firsts))
    return names if has_times and any(map(is_time_name, names)) else ["", *names]


def _with_clock(table: TimeTable, head: TimeTable, date: int) -> TimeCells:
    """Return the cells of a column of dates, with those of a time of day next to them."""
    dates, clocks = head.filled(date), _clock_columns(head)
    is_daily = len(set(dates)) == len(dates) and bool(_hour_columns(head))
    if not clocks or is_daily or ":" in "".join(dates):
        return times_of_column(table, date)
    column, form = clocks[0]
    return _format_times(table, (date, column), form)


def _clock_columns(table: TimeTable) -> list[tuple[int, str]]:
    """Return the columns of times of a day, then those of hours, with their forms after dates."""
    clocks = [index for index, cells in enumerate(table.columns) if are_clocks(cells)]
    hours = _hour_columns(table)
    return [*zip(clocks, repeat("{} {}")), *zip(hours, repeat("{} {:0>2}:00"))]


def _hour_columns(table: TimeTable) -> list[int]:
    """Return the columns that are named for hours, and have whole numbers up to 24."""
    named = (i for i, name in enumerate(table.names) if fold_name(name) in _PARTS["hour"])
    return [index for index in named if _are_whole(table, index, 24)]


def _join_parts(table: TimeTable, head: TimeTable) -> TimeCells | None:
    """Return times that are put together of a year, and a month, a quarter or a week, and more."""
    index_of = _part_columns(table)
    table, head = (_with_numbers_of_parts(rows, index_of) for rows in (table, head))

    def is_part(part: str) -> bool:
        return part in index_of and _are_whole(head, index_of[part], _LARGEST[part])

    second = next(filter(index_of.__contains__, ("month", "quarter", "week")), None)
    if second is None or not is_part("year"):
        return None
    if not is_part(second):  # names in another language cannot be read, and are not left out
        has_words = not are_mostly_numbers(head.columns[index_of[second]])
        columns = (index_of["year"], index_of[second])
        return _format_times(table, columns, "{} {}") if has_words else None
    more = takewhile(is_part, ("day", "hour", "minute")) if second == "month" else ()
    parts = ("year", second, *more)
    return _format_times(table, [index_of[part] for part in parts], _FORMS[parts])


def _part_columns(table: TimeTable) -> dict[str, int]:
    """Return the index of the first column that is named for each part of a time."""
    return {
        part: index
        for part, names in _PARTS.items()
        for index in reversed(range(len(table.names)))
        if fold_name(table.names[index]) in names
    }


def _with_numbers_of_parts(table: TimeTable, index_of: Mapping[str, int]) -> TimeTable:
    """Return a table with the numbers of months, quarters and weeks that it names: May, Q2, W05."""
    columns = list(table.columns)
    for part in ("month", *_MARKS):
        if (index := index_of.get(part)) is not None:
            columns[index] = [_number_of_part(part, cell) for cell in columns[index]]
    return table._replace(columns=columns)


def _number_of_part(part: str, cell: str) -> str:
    """Return the number of a part of a time; a cell that names none is unchanged.

    >>> _number_of_part("month", "May"), _number_of_part("quarter", "Q2")
    ('5', '2')
    """
    if part == "month":
        return str(MONTH_NUMBERS.get(cell.rstrip(".").casefold(), cell))
    return cell[1:] if cell[:1].lower() == _MARKS[part] else cell


def _format_times(table: TimeTable, columns: Sequence[int], form: str) -> TimeCells:
    """Return times that are put together of columns; empty where one of the cells is empty."""
    rows = zip(*(table.columns[index] for index in columns), strict=True)
    return TimeCells([form.format(*row) if all(row) else "" for row in rows], tuple(columns))


def _are_whole(table: TimeTable, index: int, most: int) -> bool:
    """Return whether the filled cells of a column are whole numbers, none above `most`."""
    cells = table.filled(index)
    return bool(cells) and all(cell.isdecimal() and int(cell) <= most for cell in cells)
