"""Tables and records: sentence pairs and named columns from TSV, CSV, JSONL, two aligned files.

A file is decoded line by line, so that every problem has its line and byte. Rows and problems come
from one pass of one parser. Cost: about 300,000 rows a second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import msgspec

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first, pluralize
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers import FORMATS, TABLE_READERS
from regard.data.readers.annotation_marks import describe_marks, find_marks, keep_row
from regard.data.readers.columns import (
    PAIR_ROLES,
    describe_missing,
    find_column,
    find_columns,
    find_pair_or_usual,
)
from regard.data.readers.headers import (
    advise_columns,
    advise_labels,
    advise_numbers,
    find_header,
    hold_only_numbers,
    looks_like_header,
)
from regard.data.readers.json_lines import json_fields, json_records
from regard.data.readers.json_lists import (
    find_wrapping_key,
    is_empty_list,
)
from regard.data.readers.numbered_columns import are_numbers_of_columns, number_header
from regard.data.readers.plain_lines import require_plain_lines
from regard.data.readers.problems import RowProblem, UnreadableRowsError, group_problems
from regard.data.readers.read_as import ReadAs
from regard.data.readers.row_width import advise_width, describe_width
from regard.data.readers.source import DataSource, SourceLike, as_source
from regard.data.readers.table_format import Table, name_of, open_table
from regard.data.readers.text_lines import (
    Lines,
    TextFile,
    numbered_lines,
    open_text,
    without_end,
)
from regard.errors import ConfigError, DataError, NextStep

Records = Iterator[tuple[int, list[str]]]
"""The 1-based line on which each record begins, and its cells."""
TableReader = Callable[[TextFile, Lines, str], Records]
"""Reads the rows of a file from its lines; the last argument is the separator of CSV."""

_BOTH_COLUMNS = "Name both columns of one table: `data.columns=SOURCE,TARGET`"
_LABELED = ("text", "label")
_Rows = list[tuple[int, list[str]]]
_NUM_NAMED = 10  # columns in a message
_NUM_SAMPLED = 20  # lines or records by which separators and headers are recognized


def read_pairs(
    data: SourceLike,
    *,
    targets: SourceLike | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
    roles: tuple[str, str] = PAIR_ROLES,
    rejected: list[DroppedRow] | None = None,
) -> ParallelCorpus:
    """Read sentence pairs, or other pairs of texts such as documents and summaries.

    The format follows from the suffix: ``.tsv`` and ``.txt`` hold ``source<TAB>target``, ``.csv``
    commas or semicolons with or without a header, ``.jsonl`` and ``.json`` an object a line.  Files
    of other names and streams are JSONL if they begin with ``{``, else TSV.  Blank lines are
    skipped (not in two aligned files), rows with an empty source or target are kept.

    Args:
        data: The file; ``-`` is standard input.
        targets: A text file whose line i is the translation of line i of `data`.
        encoding: Encoding of both files; a byte order mark is dropped.
        columns: Names of the source and target column in the header (JSONL: key); without it,
            they are found by `regard.data.readers.columns.find_pair`.
        roles: What the two columns hold.
        rejected: Receives the rows that their annotators rejected, which are left out.

    Returns:
        The pairs, at least one other than those.

    Raises:
        DataError: A file is missing or empty, or its format or columns are not clear.
        UnreadableRowsError: Rows cannot be read; its problems name them.
    """
    pairs, problems = parse_pairs(
        data,
        targets=targets,
        encoding=encoding,
        columns=columns,
        roles=roles,
        rejected=rejected,
    )
    if problems:
        settings = {
            "data.targets": "" if targets is None else as_path(targets),
            "data.encoding": "" if encoding == "utf-8" else encoding,
            "data.columns": ",".join(columns or ()),
        }
        steps = _steps_to_check(data, pairs.path, len(problems), settings)
        first = str(problems[0])
        raise UnreadableRowsError(first, *steps, problems=problems, num_rows=len(pairs))
    if not pairs:
        source = as_source(data)
        cause, expected = describe_no_rows(source), _form_of_pair(source.suffix, roles)
        raise DataError(f"{pairs.path}: {cause}  Expected one pair a line: {expected}.")
    return pairs


def describe_no_rows(source: DataSource) -> str:
    """Return why a file has no rows: it is empty, or an empty list, or has a header alone."""
    if is_empty_list(source.content.decode("latin-1")):
        return "the file is empty: a list without objects."
    is_empty = re.search(rb"\w", source.content) is None
    return "the file is empty." if is_empty else "no rows below the names of columns."


def _form_of_pair(suffix: str, roles: tuple[str, str]) -> str:
    """Return how a pair is written in a file with a suffix.

    >>> _form_of_pair(".csv", PAIR_ROLES), _form_of_pair(".txt", PAIR_ROLES)
    ('source,target', 'source<TAB>target')
    """
    match FORMATS.get(suffix):
        case "jsonl":
            return "{" + ", ".join(f'"{role}": "..."' for role in roles) + "}"
        case "csv":
            return ",".join(roles)
    return "<TAB>".join(roles)


def _steps_to_check(
    data: SourceLike, path: str, num_problems: int, settings: dict[str, str]
) -> list[NextStep]:
    """Return the command that lists several problems; none for a stream, which is read once."""
    is_stream = isinstance(data, DataSource) and data.is_stream
    if num_problems == 1 or is_stream:
        return []
    set_options = tuple((name, value) for name, value in settings.items() if value)
    return [NextStep(f"See all {num_problems:,}", "check", (path,), set_options)]


def refuse_repeated(file: TextFile, line: int, header: Sequence[str]) -> bool:
    """Return whether two columns of a header share a name, a problem; empty names do not count."""
    counts = Counter(header)
    repeated = next((name for name in header if name and counts[name] > 1), None)
    if repeated is None:
        return False
    file.refuse(line, f'two columns have the name "{repeated}".', remedy="Rename one of them.")
    return True


def parse_pairs(
    data: SourceLike,
    *,
    targets: SourceLike | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
    roles: tuple[str, str] = PAIR_ROLES,
    rejected: list[DroppedRow] | None = None,
) -> tuple[ParallelCorpus, list[RowProblem]]:
    """Return the sentence pairs that `read_pairs` returns, and the problems in order of lines.

    Raises:
        ConfigError: Both files are standard input, or the encoding is unknown.
        DataError: One of two files holds rows, not one text a line.
    """
    if targets is not None and as_path(data) == as_path(targets) == "-":
        raise ConfigError("standard input holds one side only.  Name a file: `data.targets=FILE`")
    source = as_source(data)
    file = open_text(source, encoding)
    pairs = ParallelCorpus(path=file.name, sources=[], targets=[], lines=[])
    if targets is None:
        rejected = [] if rejected is None else rejected
        rows = _pair_records(file, source.suffix, columns, roles, rejected)
    else:
        other_source = as_source(targets)
        for one_source in (source, other_source):
            require_plain_lines(one_source, encoding, _BOTH_COLUMNS)
        other = open_text(other_source, encoding)._replace(problems=file.problems)
        rows = _aligned_records(file, other)
    for line, (source_text, target_text) in rows:
        pairs.sources.append(source_text)
        pairs.targets.append(target_text)
        pairs.lines.append(line)
    return pairs, _in_order(file.problems)


def read_records(
    data: SourceLike,
    names: Sequence[str],
    *,
    encoding: str = "utf-8",
    rejected: list[DroppedRow] | None = None,
) -> list[tuple[int, list[str]]]:
    """Return the 1-based line of each row, and its texts in the named columns.

    Columns are keys of JSONL, or names in the header of CSV and TSV, and may have synonyms. A file
    without tabs in its first line is CSV. Numbers and truth values are written as in JSON.

    Args:
        data: The file.
        names: The columns.
        encoding: Encoding of the file.
        rejected: Receives the rows that their annotators rejected, which are left out; None keeps
            them.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = list(_named_records(file, source.suffix, names, rejected))
    require_readable(_in_order(file.problems))
    return records


def sample_records(
    source: DataSource, names: Sequence[str], *, encoding: str = "utf-8", num_rows: int
) -> list[list[str]]:
    """Return the texts of the first rows in the named columns; none where they cannot be read."""
    with suppress(DataError):
        file = open_text(source, encoding)
        records = _named_records(file, source.suffix, names, None)
        return [cells for _, cells in islice(records, num_rows)]
    return []


def require_readable(problems: Sequence[RowProblem]) -> None:
    """Raise `DataError` with the first of some problems and the number of the others."""
    if problems:
        more, noun = len(problems) - 1, "like it"
        if len(group_problems(problems)) > 1:
            noun = "problem" if more == 1 else "problems"
        text = f"{problems[0]}  And {more:,} more {noun}." if more else str(problems[0])
        raise UnreadableRowsError(text, problems=problems)


def read_cells(file: TextFile, suffix: str) -> Records:
    """Return every row of CSV or TSV, including a header.

    ``.csv`` has commas or semicolons, other suffixes have tabs if the first line has one.
    """
    return _cell_records(file, open_table(file, suffix))


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
    table, is_json = _open_pairs(file, source.suffix)
    if is_json:
        return _inspect_objects(file, table, contents, _pair_finder(columns, roles))
    names, has_header = _read_header(file, table, columns or ())
    pair = columns or find_header(names, is_csv=table.is_csv, roles=roles)
    has_header = has_header and pair is not None
    notes = _describe_separator(table, source.suffix, has_header=has_header)
    return _inspect_header(names, pair, contents, notes)


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
    return _inspect_header(header, names, contents, notes)


def _read_header(file: TextFile, table: Table, names: Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of columns, and whether the first row has them; else they have numbers."""
    rows = [cells for _, cells in islice(_cell_records(file, table), _NUM_SAMPLED)] or [[]]
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


def _pair_finder(
    columns: tuple[str, str] | None, roles: tuple[str, str]
) -> Callable[[list[str]], Sequence[str] | None]:
    """Return what finds the two keys of an object: as set, else by what they hold."""
    return partial(find_columns, columns) if columns else partial(find_pair_or_usual, roles=roles)


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


def note_objects(file: TextFile) -> list[str]:
    """Return notes on where objects come from: a table, or a list under a key; else none."""
    if file.table is not None:
        return list(file.table.notes)
    key = find_wrapping_key(numbered_lines(file._replace(problems=[])))
    return [] if key is None else [f'the list under "{key}"']


def _describe_separator(table: Table, suffix: str, *, has_header: bool) -> list[str]:
    """Return notes on how a table is written, where its suffix does not say it."""
    if table.format == "fasttext":
        return ["labels as fastText marks them"]
    is_usual = {".csv": ",", ".tsv": "\t"}.get(suffix) == table.separator
    notes = [] if has_header and is_usual else [f"{name_of(table.separator)}-separated"]
    return notes if has_header else [*notes, "no header"]


def as_path(data: SourceLike) -> str:
    """Return the name of the file or folder that data is read from."""
    return data.path if isinstance(data, DataSource) else str(data)


def _in_order(problems: Sequence[RowProblem]) -> list[RowProblem]:
    """Sort problems by line, those of the whole file last: lines are decoded ahead of rows."""
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))


def _open_pairs(file: TextFile, suffix: str) -> tuple[Table, bool]:
    """Recognize how pairs are written, and whether as JSON; only ``.csv`` has commas as a rule."""
    table = open_table(file, suffix)
    file_format = FORMATS.get(suffix)
    if file_format == "jsonl" or table.is_json:
        return table, True
    if file_format != "csv" and not table.is_declared:
        table = table._replace(format="tsv", separator="\t")
    return table, False


def _named_records(
    file: TextFile, suffix: str, names: Sequence[str], rejected: list[DroppedRow] | None
) -> Records:
    """Return the named columns of each row, in whichever format they are."""
    table = open_table(file, suffix)
    if FORMATS.get(suffix) == "jsonl" or table.is_json:
        find_keys = partial(find_columns, names)
        yield from json_records(
            file, table.lines, find_keys, names, takes_numbers=True, rejected=rejected
        )
        return
    records = _cell_records(file, table)
    ahead = list(islice(records, 1))
    if file.problems:
        return
    selection = _take_header(file, ahead, records, names, is_csv=table.is_csv)
    if selection is not None:
        yield from _select_cells(file, chain(ahead, records), selection, table.separator, rejected)


def _take_header(
    file: TextFile, ahead: _Rows, records: Records, names: Sequence[str], *, is_csv: bool
) -> _Selection | None:
    """Return where named columns are, and take the header from the first row, if it is one.

    It is None, and a problem, where there is no such column. Rows that say what the columns are
    are appended to `ahead`, which holds the first row.
    """
    line, cells = ahead[0] if ahead else (1, [])
    header = list(map(str.strip, cells))
    if are_numbers_of_columns(names, header):
        ahead.extend(islice(records, _NUM_SAMPLED))
        return _take_numbered(file, ahead, names, is_csv=is_csv)
    del ahead[:1]
    remedy = ""
    if tuple(names) == _LABELED and any(find_column(header, name) is None for name in names):
        below = [row for _, row in islice(records, _NUM_SAMPLED)]
        remedy = advise_labels(header, below)
    return _select(file, line, header, names, remedy)


def _take_numbered(
    file: TextFile, ahead: _Rows, names: Sequence[str], *, is_csv: bool
) -> _Selection | None:
    """Return where columns are that are named by number, and take a header, if there is one."""
    line, cells = ahead[0]
    below = [row for _, row in ahead[1:]]
    header, has_header = number_header(names, list(map(str.strip, cells)), below, is_csv=is_csv)
    del ahead[: int(has_header)]
    selection = _select(file, line, header, names)
    own_header = tuple(map(str.strip, cells)) if has_header else ()
    return None if selection is None else selection._replace(header=own_header)


def _pair_records(
    file: TextFile,
    suffix: str,
    columns: tuple[str, str] | None,
    roles: tuple[str, str],
    rejected: list[DroppedRow],
) -> Records:
    """Return the two texts of each row, in whichever format they are."""
    table, is_json = _open_pairs(file, suffix)
    if is_json:
        find_keys = _pair_finder(columns, roles)
        yield from json_records(
            file, table.lines, find_keys, roles, takes_numbers=False, rejected=rejected
        )
        return
    records = _cell_records(file, table)
    ahead = list(islice(records, _NUM_SAMPLED))
    if not ahead:
        return
    if hold_only_numbers([cells for _, cells in ahead[1:] or ahead]):
        ahead.extend(records)  # sorted pairs may begin with numbers
        if _refuse_numbers(file, ahead, roles):
            return
    selection = _take_pair_header(file, ahead, columns, roles, table.separator, is_csv=table.is_csv)
    if selection is not None:
        yield from _select_cells(file, chain(ahead, records), selection, table.separator, rejected)


def _refuse_numbers(
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


def _list_names(names: Sequence[str]) -> str:
    """Return the names of the first columns, for messages."""
    return list_first([name or "a column without a name" for name in names], _NUM_NAMED)


def _take_pair_header(
    file: TextFile,
    ahead: _Rows,
    columns: tuple[str, str] | None,
    roles: tuple[str, str],
    separator: str,
    *,
    is_csv: bool,
) -> _Selection | None:
    """Return where the two texts of rows are, and take the header from them, if there is one.

    It is None, and a problem, where a header does not say it.
    """
    line, cells = ahead[0]
    names, below = list(map(str.strip, cells)), [row for _, row in ahead[1:]]
    if columns and are_numbers_of_columns(columns, names):
        return _take_numbered(file, ahead, columns, is_csv=is_csv)
    if pair := columns or find_header(names, is_csv=is_csv, roles=roles):
        del ahead[0]
        return _select(file, line, names, pair)
    if looks_like_header(names, below, is_csv=is_csv):
        remedy = advise_columns(names, below, roles)
        file.refuse(line, f"columns seen: {_list_names(names)}.", remedy=remedy)
        return None
    if len(names) > 2 and all(len(row) == len(names) for row in below):
        numbers = [str(1 + index) for index in range(len(names))]
        remedy = f"No header?  {advise_columns(numbers, [cells, *below], roles)}"
        file.refuse(line, describe_width(len(names), 2), separator.join(cells), remedy)
        return None
    return _Selection(indices=[0, 1], num_columns=2, marks={})


def _aligned_records(file: TextFile, other: TextFile) -> Records:
    """Yield line i of one file with line i of another.

    Yields:
        The number of each line, and the two texts.
    """
    num_lines = num_others = 0
    both = zip_longest(numbered_lines(file), numbered_lines(other))
    for line, (source, target) in enumerate(both, start=1):
        num_lines += source is not None
        num_others += target is not None
        if source and target:
            yield line, [without_end(source[1]), without_end(target[1])]
    if num_lines != num_others and not file.problems:
        reason = f"{pluralize(num_lines, 'line')}, but {other.name} has {num_others:,}."
        remedy = "Line by line they must be translations of each other."
        file.refuse(None, reason, remedy=remedy)


class _Selection(NamedTuple):
    """The columns of a table that are read, as indices, how many there are in all, and marks.

    The cells of a header are there, too, which files that were joined have in them again.
    """

    indices: list[int]
    num_columns: int
    marks: dict[str, int]
    header: tuple[str, ...] = ()


def _select(
    file: TextFile, line: int, header: Sequence[str], names: Sequence[str], remedy: str = ""
) -> _Selection | None:
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
    return _Selection(indices, len(header), marks, tuple(header))


def _select_cells(
    file: TextFile,
    records: Records,
    selection: _Selection,
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


def _cell_records(file: TextFile, table: Table) -> Records:
    """Return the cells of each row."""
    return TABLE_READERS[table.format](file, table.lines, table.separator)
