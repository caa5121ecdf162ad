"""Tables and records: sentence pairs and named columns from TSV, CSV, JSONL, two aligned files.

A file is decoded line by line, so that every problem has its line and byte. Rows and problems come
from one pass of one parser. Cost: about 300,000 rows a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice, zip_longest

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import pluralize
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers import FORMATS
from regard.data.readers.columns import PAIR_ROLES, find_columns, pair_finder
from regard.data.readers.headers import hold_only_numbers
from regard.data.readers.json_lines import json_records
from regard.data.readers.json_lists import is_empty_list
from regard.data.readers.plain_lines import require_plain_lines
from regard.data.readers.problems import RowProblem, UnreadableRowsError, require_readable
from regard.data.readers.source import DataSource, SourceLike, as_path, as_source
from regard.data.readers.table_format import Records, cell_records, open_pairs, open_table
from regard.data.readers.table_selection import (
    NUM_SAMPLED,
    refuse_numbers,
    select_cells,
    take_header,
    take_pair_header,
)
from regard.data.readers.text_lines import TextFile, numbered_lines, open_text, without_end
from regard.errors import ConfigError, DataError, NextStep

_BOTH_COLUMNS = "Name both columns of one table: `data.columns=SOURCE,TARGET`"


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
    takes_lists: bool = False,
    rejected: list[DroppedRow] | None = None,
) -> list[tuple[int, list[str]]]:
    """Return the 1-based line of each row, and its texts in the named columns.

    Columns are keys of JSONL, or names in the header of CSV and TSV, and may have synonyms. A file
    without tabs in its first line is CSV. Numbers and truth values are written as in JSON.

    Args:
        data: The file.
        names: The columns.
        encoding: Encoding of the file.
        takes_lists: Whether records may have lists in all columns but the first; they become JSON.
        rejected: Receives the rows that their annotators rejected, which are left out; None keeps
            them.
    """
    source = as_source(data)
    file = open_text(source, encoding)
    records = list(_named_records(file, source.suffix, names, rejected, takes_lists=takes_lists))
    require_readable(_in_order(file.problems))
    return records


def sample_records(
    source: DataSource,
    names: Sequence[str],
    *,
    encoding: str = "utf-8",
    takes_lists: bool = False,
    num_rows: int,
) -> list[list[str]]:
    """Return the texts of the first rows in the named columns; none where they cannot be read."""
    with suppress(DataError):
        file = open_text(source, encoding)
        records = _named_records(file, source.suffix, names, None, takes_lists=takes_lists)
        return [cells for _, cells in islice(records, num_rows)]
    return []


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


def _in_order(problems: Sequence[RowProblem]) -> list[RowProblem]:
    """Sort problems by line, those of the whole file last: lines are decoded ahead of rows."""
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))


def _named_records(
    file: TextFile,
    suffix: str,
    names: Sequence[str],
    rejected: list[DroppedRow] | None,
    *,
    takes_lists: bool,
) -> Records:
    """Return the named columns of each row, in whichever format they are."""
    table = open_table(file, suffix)
    if FORMATS.get(suffix) == "jsonl" or table.is_json:
        find_keys = partial(find_columns, names)
        yield from json_records(
            file,
            table.lines,
            find_keys,
            names,
            takes_numbers=True,
            takes_lists=takes_lists,
            rejected=rejected,
        )
        return
    records = cell_records(file, table)
    ahead = list(islice(records, 1))
    if file.problems:
        return
    selection = take_header(file, ahead, records, names, is_csv=table.is_csv)
    if selection is not None:
        yield from select_cells(file, chain(ahead, records), selection, table.separator, rejected)


def _pair_records(
    file: TextFile,
    suffix: str,
    columns: tuple[str, str] | None,
    roles: tuple[str, str],
    rejected: list[DroppedRow],
) -> Records:
    """Return the two texts of each row, in whichever format they are."""
    table, is_json = open_pairs(file, suffix)
    if is_json:
        find_keys = pair_finder(columns, roles)
        yield from json_records(
            file, table.lines, find_keys, roles, takes_numbers=False, rejected=rejected
        )
        return
    records = cell_records(file, table)
    ahead = list(islice(records, NUM_SAMPLED))
    if not ahead:
        return
    if hold_only_numbers([cells for _, cells in ahead[1:] or ahead]):
        ahead.extend(records)  # sorted pairs may begin with numbers
        if refuse_numbers(file, ahead, roles):
            return
    selection = take_pair_header(file, ahead, columns, roles, table)
    if selection is not None:
        yield from select_cells(file, chain(ahead, records), selection, table.separator, rejected)


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
