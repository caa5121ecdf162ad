"""Tables and records: sentence pairs and named columns from TSV, CSV, JSONL, two aligned files.

Every reader works on the bytes of one line at a time, so that a fault is told with line and byte.
Each row and each problem of a file comes out of one pass of one parser.
Cost: some 300,000 rows a second.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import msgspec

from regard.data.languages import is_language_code
from regard.data.listing import spell_number
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers import FORMATS
from regard.data.readers.columns import find_column, find_pair, find_roles
from regard.data.readers.problems import Parsed, RowProblem
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.text_lines import (
    Lines,
    TextFile,
    fixed_name,
    numbered_lines,
    open_text,
    without_end,
)
from regard.errors import ConfigError, DataError, NextStep

Records = Iterator[tuple[int, list[str]]]
"""Lines from 1 that records begin on, and their cells."""
_Rows = Iterator[tuple[int, str, str]]  # line, source, target

_LONGEST_FIELD = 2**31 - 1  # characters of a CSV field: the most that csv takes everywhere
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # as Excel writes it
_LOOKED_AT = 20  # lines or records, to tell separators and headers
_LONGEST_NAME = 40  # characters of what may be the name of a column
_NAME = re.compile(r"[^\W\d](?:[\w .()/-]*[\w)])?")
_FEWEST_BELOW = 5  # rows of texts, to tell a header of two unknown names
_SURROGATES = re.compile(  # an escaped backslash, a whole pair, or half of one
    r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(\\u[dD][89a-fA-F]\w\w)"
)


def read_pairs(
    data: DataSource | str | Path,
    *,
    targets: DataSource | str | Path | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
) -> ParallelCorpus:
    """Read sentence pairs.

    The suffix tells the format: ``.tsv`` and ``.txt`` hold ``source<TAB>target``, ``.csv`` commas
    or semicolons with or without a header, ``.jsonl`` and ``.json`` an object a line.  Files of
    other names and streams are JSONL where they begin with ``{``, else TSV.  Blank lines are
    skipped (not in two aligned files), rows with an empty side are kept.

    Args:
        data: The file; ``-`` is standard input.
        targets: A text file whose line i is the translation of line i of `data`.
        encoding: Of both files; a byte order mark is dropped.
        columns: Names of the source and target column in the header (JSONL: key); without it,
            they are found by `regard.data.readers.columns.find_pair`.

    Returns:
        One row a pair, at least one.

    Raises:
        DataError: A file is missing, empty, or has rows that cannot be read.
        ConfigError: The encoding is unknown.
    """
    pairs, problems = parse_pairs(data, targets=targets, encoding=encoding, columns=columns)
    if problems:
        settings = {
            "data.targets": None if targets is None else as_path(targets),
            "data.encoding": None if encoding == "utf-8" else encoding,
            "data.columns": ",".join(columns) if columns else None,
        }
        step = NextStep(
            f"See all {len(problems):,}",
            "check",
            (pairs.path,),
            tuple((name, value) for name, value in settings.items() if value is not None),
        )
        can_be_read_again = not isinstance(data, DataSource) or not data.is_stream
        steps = [step] if len(problems) > 1 and can_be_read_again else []
        raise DataError(str(problems[0]), *steps)
    if not pairs:
        expected = "Expected one pair a line: source<TAB>target."
        raise DataError(f"{pairs.path}: the file is empty.  {expected}")
    return pairs


def parse_pairs(
    data: DataSource | str | Path,
    *,
    targets: DataSource | str | Path | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
) -> Parsed[ParallelCorpus]:
    """Read sentence pairs and describe what cannot be read, in one pass.

    Args:
        data: As for `read_pairs`.
        targets: As for `read_pairs`.
        encoding: As for `read_pairs`.
        columns: As for `read_pairs`.

    Raises:
        DataError: A file is missing or cannot be opened.
        ConfigError: The encoding is unknown.
    """
    if targets is not None and as_path(data) == as_path(targets) == "-":
        raise ConfigError("standard input holds one side only.  Name a file: `data.targets=FILE`")
    source = as_source(data)
    file = open_text(source, encoding)
    pairs = ParallelCorpus(path=file.name, sources=[], targets=[], lines=[])
    if targets is None:
        rows = _rows(file, source.suffix, columns)
    else:
        rows = _aligned_rows(file, open_text(targets, encoding)._replace(problems=file.problems))
    for line, source_text, target_text in rows:
        pairs.sources.append(source_text)
        pairs.targets.append(target_text)
        pairs.lines.append(line)
    return Parsed(pairs, _in_order(file.problems))


def read_records(
    data: DataSource | str | Path, names: Sequence[str], *, encoding: str = "utf-8"
) -> Parsed[list[tuple[int, list[str]]]]:
    """Read the named columns of every row; JSONL by key, CSV and TSV by their header.

    Args:
        data: The file, or ``-`` for standard input; the format is told as for `read_pairs`, but
            that without tabs in its first line it is CSV.
        names: Of the columns wanted, which may be there under a synonym.
        encoding: Of the file.

    Returns:
        The 1-based line of each row, and its texts in the order of `names`; numbers and truth
        values are written as JSON has them.

    Raises:
        DataError: The file is missing.
        ConfigError: The encoding is unknown.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = list(_named_rows(file, source.suffix, names))
    return Parsed(records, _in_order(file.problems))


def require_readable(problems: Sequence[RowProblem]) -> None:
    """Refuse a file that cannot be read.

    Raises:
        DataError: There are problems; the message has the first and counts the others.
    """
    if problems:
        more = len(problems) - 1
        raise DataError(str(problems[0]) + (f"  And {more:,} more like it." if more else ""))


def read_cells(file: TextFile, suffix: str) -> Records:
    """Read every row of CSV or TSV, a header among them, its cells not looked at.

    Args:
        file: What cannot be read is added to its problems.
        suffix: ``.csv`` has commas or semicolons, others tabs where the first line has one.

    Yields:
        The 1-based line of each row, and its cells.
    """
    table = _open_table(file, suffix)
    yield from _csv_records(file, table) if table.is_csv else _tab_records(table.lines)


def as_path(data: DataSource | str | Path) -> str:
    """Return the name of what data is read from."""
    return data.path if isinstance(data, DataSource) else str(data)


def _in_order(problems: Sequence[RowProblem]) -> list[RowProblem]:
    """Sort problems by line, those of the whole file last: lines are looked at ahead of rows."""
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))


class _Table(NamedTuple):
    """The lines of a table or of records, and how they are written."""

    lines: Lines
    first: str
    is_csv: bool
    separator: str
    is_declared: bool  # by a line such as sep=;


def _open_table(file: TextFile, suffix: str) -> _Table:
    """Look at the first lines, and tell the separator."""
    lines = numbered_lines(file)
    ahead = list(islice(lines, _LOOKED_AT))
    filled = [text for _, text in ahead if text.strip()]
    named = _SEPARATOR_LINE.fullmatch(filled[0]) if filled else None
    if named:
        del ahead[: 1 + next(i for i, (_, text) in enumerate(ahead) if text.strip())], filled[0]
    first = filled[0] if filled else ""
    is_csv = suffix == ".csv" or named is not None or "\t" not in first
    separator = named[1] if named else _find_separator(filled) if is_csv else "\t"
    return _Table(chain(ahead, lines), first, is_csv, separator, named is not None)


def _find_separator(lines: Sequence[str]) -> str:
    """Find the separator of CSV: of those in the first line one that all lines have as often."""
    unquoted = [re.sub('"[^"]*"?', "", line) for line in lines]
    candidates = [separator for separator in ",;\t" if unquoted and separator in unquoted[0]]
    steady = [c for c in candidates if len({line.count(c) for line in unquoted}) == 1]
    return (steady or candidates or [","])[0]


def _named_rows(file: TextFile, suffix: str, names: Sequence[str]) -> Records:
    table = _open_table(file, suffix)
    if FORMATS.get(suffix) == "jsonl" or table.first.lstrip().startswith("{"):
        yield from _json_records(file, table.lines, names)
        return
    records = _csv_records(file, table) if table.is_csv else _tab_records(table.lines)
    line, header = next(records, (1, []))
    if file.problems:
        return
    columns = _find_columns(file, line, header, names)
    if columns is None:
        return
    indices = [header.index(name) for name in columns]
    for line, cells in records:
        if len(cells) != len(header):
            _refuse_count(file, line, cells, len(header), table.separator)
        else:
            yield line, [cells[index] for index in indices]


def _find_columns(
    file: TextFile, line: int, header: Sequence[str], names: Sequence[str]
) -> list[str] | None:
    """Find the wanted columns in a header; None, and a problem, where one is missing or twofold."""
    columns = []
    for wanted in names:
        name = find_column(header, wanted)
        if name is None:
            file.refuse(line, f'no column "{wanted}".  Columns seen: {", ".join(header)}.')
            return None
        if header.count(name) > 1:
            file.refuse(line, f'two columns have the name "{name}".', remedy="Rename one of them.")
            return None
        columns.append(name)
    return columns


def _json_records(file: TextFile, lines: Lines, names: Sequence[str]) -> Records:
    keys: list[str] = []
    for line, text, fields in _json_objects(file, lines):
        keys = keys or [find_column(list(fields), name) or name for name in names]
        try:
            texts = [_json_text(fields, key, text, takes_numbers=True) for key in keys]
        except DataError as error:
            file.refuse(line, str(error), text)
        else:
            yield line, texts


def _json_rows(file: TextFile, lines: Lines, columns: tuple[str, str] | None) -> _Rows:
    """Take the two texts of each line's object; the first object decides on the keys."""
    keys = None
    for line, text, fields in _json_objects(file, lines):
        if columns:
            keys = keys or [find_column(list(fields), name) or name for name in columns]
        keys = keys or find_pair(list(fields))
        try:
            source, target = (_json_text(fields, k, text) for k in keys or ("source", "target"))
        except DataError as error:
            file.refuse(line, str(error), text)
        else:
            yield line, source, target


def _json_objects(file: TextFile, lines: Lines) -> Iterator[tuple[int, str, dict[str, object]]]:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            fields = _json_fields(text)
        except (msgspec.DecodeError, RecursionError) as error:
            file.refuse(number, f"not JSON: {_json_fault(text, error)}.", text)
        except DataError as error:
            file.refuse(number, str(error), text)
        else:
            yield number, text, fields


def _json_fields(text: str) -> dict[str, object]:
    if text.startswith("["):
        raise DataError(
            "a list, one object a line expected.  Convert: jq -c '.[]' FILE > fixed.jsonl"
        )
    fields = msgspec.json.decode(text)
    if not isinstance(fields, dict):
        raise DataError('no object such as {"source": "...", "target": "..."}.')
    inner = fields.get("translation")
    return inner if isinstance(inner, dict) else fields


def _json_fault(text: str, error: Exception) -> str:
    """Say what is wrong with JSON; of half a surrogate pair msgspec says that it was cut short."""
    half = next(filter(None, _SURROGATES.findall(text)), None)
    return f"half of a character ({half})" if half else str(error)


def _json_text(
    fields: dict[str, object], key: str, text: str, *, takes_numbers: bool = False
) -> str:
    """Return the text under a key of an object that was read from `text`."""
    if key not in fields:
        raise DataError(f'no key "{key}".  Keys seen: {", ".join(fields) or "none"}.')
    if text.count(f'"{key}"') > 1:
        pairs = json.loads(text, object_pairs_hook=list)
        if sum(name == key for name, _ in pairs) > 1:
            raise DataError(f'the key "{key}" is there twice.')
    value = fields[key]
    if isinstance(value, str):
        return value
    if takes_numbers and isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    raise DataError(f'"{key}" is no text.')


def _rows(file: TextFile, suffix: str, columns: tuple[str, str] | None) -> _Rows:
    """Parse pairs in whichever format they have."""
    table = _open_table(file, suffix)
    file_format = FORMATS.get(suffix)
    is_known = file_format in ("tsv", "csv", "text")
    if file_format == "jsonl" or (not is_known and table.first.lstrip().startswith("{")):
        return _json_rows(file, table.lines, columns)
    if file_format != "csv" and not table.is_declared:
        table = table._replace(is_csv=False, separator="\t")
        return _cell_rows(file, _tab_records(table.lines), table, columns)
    return _cell_rows(file, _csv_records(file, table), table, columns)


def _aligned_rows(file: TextFile, other: TextFile) -> _Rows:
    """Pair line i of one file with line i of another."""
    num_lines = num_other = 0
    sides = numbered_lines(file), numbered_lines(other)
    for line, (source, target) in enumerate(zip_longest(*sides), start=1):
        num_lines = line if source else num_lines
        num_other = line if target else num_other
        if source and target:
            yield line, without_end(source[1]), without_end(target[1])
    if num_lines != num_other and not file.problems:
        file.refuse(
            None,
            f"{num_lines:,} line{'' if num_lines == 1 else 's'}, but {other.name} has "
            f"{num_other:,}.",
            remedy="Line by line they must be translations of each other.",
        )


def _cell_rows(
    file: TextFile, records: Records, table: _Table, columns: tuple[str, str] | None
) -> _Rows:
    """Take two cells of each record; the first record may be a header."""
    source, target, num_columns = 0, 1, 2
    ahead = list(islice(records, _LOOKED_AT))
    names = ahead[0][1] if ahead else []
    header = columns or _find_header(names, table)
    if header and ahead:
        line, _ = ahead.pop(0)
        found = _find_columns(file, line, names, header)
        if found is None:
            return
        source, target, num_columns = *map(names.index, found), len(names)
    elif _looks_like_header(names, [cells for _, cells in ahead[1:]], table):
        chosen = ",".join(_longest_columns(names, [cells for _, cells in ahead[1:]]))
        file.refuse(
            ahead[0][0],
            f"columns seen: {', '.join(names)}.",
            remedy=f"Name source and target: `data.columns={shlex.quote(chosen)}`",
        )
        return
    for line, cells in chain(ahead, records):
        if len(cells) != num_columns:
            _refuse_count(file, line, cells, num_columns, table.separator)
        else:
            yield line, cells[source], cells[target]


def _find_header(names: Sequence[str], table: _Table) -> tuple[str, str] | None:
    """Name the two columns to take, where the first record is a header that says it."""
    pair = find_pair(names)
    # TSV has no header as a rule, and a word list may well begin with "so" and "da".
    is_text = not table.is_csv and pair is not None and is_language_code(pair[0])
    return None if is_text else pair


def _looks_like_header(names: Sequence[str], below: Sequence[Sequence[str]], table: _Table) -> bool:
    """Detect a header whose names say nothing of source and target.

    Names are short and differ; below them are texts: in two columns of two words or more each, in
    more columns (of CSV) whatever has as many cells.
    """
    if {"text", "label"} <= find_roles(names).keys():
        return True
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(_is_name, names)):
        return False
    as_wide = [cells for cells in below if len(cells) == len(names)]
    if len(names) > 2:
        return table.is_csv and 2 * len(as_wide) > len(below)
    is_word = all(len(name.split()) == 1 for name in names)
    return (
        is_word
        and len(as_wide) >= _FEWEST_BELOW
        and all(len(cell.split()) > 1 for cells in as_wide for cell in cells)
    )


def _is_name(cell: str) -> bool:
    return len(cell) <= _LONGEST_NAME and _NAME.fullmatch(cell) is not None


def _longest_columns(names: Sequence[str], below: Sequence[Sequence[str]]) -> list[str]:
    """Choose the two columns with the longest texts, in their order."""
    widths = [
        sum(len(cells[index]) for cells in below if index < len(cells))
        for index in range(len(names))
    ]
    longest = sorted(range(len(names)), key=lambda index: -widths[index])[:2]
    return [names[index] for index in sorted(longest)]


def _refuse_count(
    file: TextFile, line: int, cells: Sequence[str], expected: int, separator: str
) -> None:
    """Note a record with too few or too many columns."""
    name = _SEPARATORS.get(separator, f'"{separator}"')
    if len(cells) < expected:
        remedy = f"Separated by spaces? Use a {name}."
    elif separator == "\t":
        remedy = f"Keep two of them: cut -f1,2 {shlex.quote(file.name)} > {fixed_name(file.name)}"
    else:
        remedy = f'A {name} within a text? Put the text in quotes: "..."'
    noun = "column" if len(cells) == 1 else "columns"
    reason = f"{spell_number(len(cells))} {noun}, {spell_number(expected)} expected."
    file.refuse(line, reason, separator.join(cells), remedy)


def _tab_records(lines: Lines) -> Records:
    for number, text in lines:
        if "\t" in text or text.strip():
            yield number, without_end(text).split("\t")


def _csv_records(file: TextFile, table: _Table) -> Records:
    """Split lines into cells; a quoted cell may span lines."""
    record: list[tuple[int, str]] = []

    def feed() -> Iterator[str]:
        for number, text in table.lines:
            body = without_end(text)
            record.append((number, body))
            # A lone CR would end a row for csv; NUL, which no line holds, stands in for it.
            yield body.replace("\r", "\0") + text[len(body) :]

    reader = csv.reader(feed(), delimiter=table.separator, strict=True)
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        while True:
            record.clear()
            try:
                cells = [cell.replace("\0", "\r") for cell in next(reader)]
            except csv.Error as error:
                file.refuse(record[0][0], _csv_fault(str(error)), record[0][1])
            except StopIteration:
                return
            else:
                if len(cells) > 1 or "".join(cells).strip():
                    yield record[0][0], cells
    finally:
        csv.field_size_limit(limit)


def _csv_fault(error: str) -> str:
    if error == "unexpected end of data":
        return "a quote is opened here and never closed."
    return f"not CSV: {error}.  Quotes within a text are doubled and the text quoted."
