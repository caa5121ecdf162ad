"""Which columns of a table are read, by its header, by numbers, or by the first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first
from regard.data.readers.annotation_marks import find_marks, keep_row
from regard.data.readers.columns import (
    describe_missing,
    find_column,
    find_pair_or_usual,
    is_column_name,
)
from regard.data.readers.headers import (
    advise_columns,
    advise_labels,
    advise_numbers,
    find_header,
    hold_only_numbers,
    looks_like_header,
)
from regard.data.readers.numbered_columns import are_numbers_of_columns, number_header
from regard.data.readers.row_width import advise_width, describe_width
from regard.data.readers.table_format import Records, Table
from regard.data.readers.text_lines import TextFile

Rows = list[tuple[int, list[str]]]
"""Some records: the 1-based line on which each begins, and its cells."""
NUM_SAMPLED = 20
"""Records by which headers are recognized."""
_LABELED = ("text", "label")
_NUM_NAMED = 10  # columns in a message


class Selection(NamedTuple):
    """The columns of a table that are read.

    Args:
        indices: The index of each.
        num_columns: Number of all columns.
        marks: Indices of columns in which annotators rejected rows, by their names.
        header: Cells of the first row, if it has names; files that were joined have them again.
    """

    indices: list[int]
    num_columns: int
    marks: dict[str, int]
    header: tuple[str, ...] = ()


def take_header(
    file: TextFile, ahead: Rows, records: Records, names: Sequence[str], *, is_csv: bool
) -> Selection | None:
    """Return where named columns are, and take the header from the first row, if it is one.

    It is None, and a problem, where there is no such column. Rows that say what the columns are
    are appended to `ahead`, which holds the first row.
    """
    line, cells = ahead[0] if ahead else (1, [])
    header = list(map(str.strip, cells))
    if are_numbers_of_columns(names, header):
        ahead.extend(islice(records, NUM_SAMPLED))
        return _take_numbered(file, ahead, names, is_csv=is_csv)
    del ahead[:1]
    remedy = ""
    if tuple(names) == _LABELED and any(find_column(header, name) is None for name in names):
        below = [row for _, row in islice(records, NUM_SAMPLED)]
        remedy = advise_labels(header, below)
    return _select(file, line, header, names, remedy)


def take_pair_header(
    file: TextFile,
    ahead: Rows,
    columns: tuple[str, str] | None,
    roles: tuple[str, str],
    table: Table,
) -> Selection | None:
    """Return where the two texts of rows are, and take the header from them, if there is one.

    It is None, and a problem, where a header does not say it.
    """
    line, cells = ahead[0]
    names, below = list(map(str.strip, cells)), [row for _, row in ahead[1:]]
    if columns and are_numbers_of_columns(columns, names):
        return _take_numbered(file, ahead, columns, is_csv=table.is_csv)
    if pair := columns or find_header(names, is_csv=table.is_csv, roles=roles):
        del ahead[0]
        return _select(file, line, names, pair)
    if table.is_csv and len(set(names)) == 1 < len(names) and is_column_name(names[0]):
        refuse_repeated(file, line, names)
        return None
    if looks_like_header(names, below, is_csv=table.is_csv):
        remedy = advise_columns(names, below, roles)
        file.refuse(line, f"columns seen: {_list_names(names)}.", remedy=remedy)
        return None
    if len(names) > 2 and all(len(row) == len(names) for row in below):
        numbers = [str(1 + index) for index in range(len(names))]
        remedy = f"No header?  {advise_columns(numbers, [cells, *below], roles)}"
        file.refuse(line, describe_width(len(names), 2), table.separator.join(cells), remedy)
        return None
    return Selection(indices=[0, 1], num_columns=2, marks={})


def select_cells(
    file: TextFile,
    records: Records,
    selection: Selection,
    separator: str,
    rejected: list[DroppedRow] | None,
) -> Records:
    """Return some cells of each record; a record of another width is a problem."""
    indices, num_columns, marks, header = selection
    for line, cells in records:
        if cells[0].strip() in header[:1] and tuple(map(str.strip, cells)) == header:
            if rejected is not None:
                text = separator.join(cells)
                rejected.append(DroppedRow(line=line, reason="the header again", text=text))
        elif len(cells) == num_columns:
            values = {name: cells[index] for name, index in marks.items()}
            if keep_row(line, cells[indices[0]], values, rejected):
                yield line, [cells[index] for index in indices]
        else:
            reason = describe_width(len(cells), num_columns)
            remedy = advise_width(file.name, cells, num_columns, separator)
            file.refuse(line, reason, separator.join(cells), remedy)


def refuse_numbers(
    file: TextFile, rows: list[tuple[int, list[str]]], roles: tuple[str, str]
) -> bool:
    """Return whether there are only numbers, not below names of pairs; a problem."""
    (line, first), below = rows[0], [cells for _, cells in rows[1:] or rows]
    names = list(map(str.strip, first))
    if find_pair_or_usual(names, roles) or not hold_only_numbers(below):
        return False
    has_header = not hold_only_numbers([first])
    seen = f"  Columns seen: {_list_names(names)}." if has_header else ""
    remedy = advise_numbers(names if has_header else [])
    file.refuse(line, f"only numbers, no texts.{seen}", remedy=remedy)
    return True


def refuse_repeated(file: TextFile, line: int, header: Sequence[str]) -> bool:
    """Return whether two columns of a header share a name, a problem; empty names do not count."""
    counts = Counter(header)
    repeated = next((name for name in header if name and counts[name] > 1), None)
    if repeated is None:
        return False
    file.refuse(line, f'two columns have the name "{repeated}".', remedy="Rename one of them.")
    return True


def _take_numbered(
    file: TextFile, ahead: Rows, names: Sequence[str], *, is_csv: bool
) -> Selection | None:
    """Return where columns are that are named by number, and take a header, if there is one."""
    line, cells = ahead[0]
    below = [row for _, row in ahead[1:]]
    header, has_header = number_header(names, list(map(str.strip, cells)), below, is_csv=is_csv)
    del ahead[: int(has_header)]
    selection = _select(file, line, header, names)
    own_header = tuple(map(str.strip, cells)) if has_header else ()
    return None if selection is None else selection._replace(header=own_header)


def _select(
    file: TextFile, line: int, header: Sequence[str], names: Sequence[str], remedy: str = ""
) -> Selection | None:
    """Return where columns are in a header; None, and a problem, if one cannot be found.

    Two columns with one name are a problem, also where neither is asked for; without one they are
    not.
    """
    indices: list[int] = []
    for name in names:
        column = find_column(header, name)
        if column is None:
            file.refuse(line, describe_missing("column", name, header), remedy=remedy)
            return None
        indices.append(header.index(column))
    if refuse_repeated(file, line, header):
        return None
    columns = [str(header[index]) for index in indices]
    marks = {name: header.index(name) for name in find_marks(header, columns)}
    return Selection(indices, len(header), marks, tuple(header))


def _list_names(names: Sequence[str]) -> str:
    """Return the names of the first columns, for messages."""
    return list_first([name or "a column without a name" for name in names], _NUM_NAMED)
