"""Texts of a stream, each as soon as its line has arrived: the lines, or a field of its records.

A stream has no suffix: its first line that is not blank says whether lines are texts, objects with
a key for the text (JSONL), or labelled as fastText marks them. Cost: one line at a time; a list of
objects is read to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice

import msgspec

from regard.data.readers.columns import find_columns
from regard.data.readers.fasttext import COLUMNS, is_fasttext, read_fasttext
from regard.data.readers.json_lines import json_fields, json_records
from regard.data.readers.json_lists import object_lines
from regard.data.readers.text_lines import Lines, TextFile, numbered_lines, without_end
from regard.errors import DataError

_BEGINNING = re.compile(r'\s*[\[{]\s*(?:\{\s*)?(?:"|$)')  # of JSON; a text may begin with "[{"


def stream_texts(
    file: TextFile,
    find_field: Callable[[Sequence[str]], str | None],
    on_field: Callable[[str], None],
    convert: Callable[[str], str],
) -> Iterator[str]:
    """Yield the texts of a stream.

    Args:
        file: The stream.
        find_field: Returns which of some columns or keys holds the text; None where none does.
        on_field: Receives its name before the first text, where lines are records.
        convert: Returns what is made of the text of a record, which may have several lines.

    Yields:
        The text of each line. Blank lines between records are left out, others are empty texts.

    Raises:
        DataError: A line cannot be read (when it is reached).
    """
    lines = _up_to_problem(file, numbered_lines(file))
    for number, line in lines:
        if not line.strip():
            yield without_end(line)
            continue
        objects = chain([(number, line)], lines)
        objects = object_lines(objects, file.name) if _BEGINNING.match(line) else objects
        for first in islice(objects, 1):  # none of an empty list
            field = _field_of(first[1], find_field)
            yield from _texts_from(file, chain([first], objects), field, on_field, convert)
    if file.problems:
        raise DataError(str(file.problems[0]))


def _texts_from(
    file: TextFile,
    lines: Lines,
    field: str | None,
    on_field: Callable[[str], None],
    convert: Callable[[str], str],
) -> Iterator[str]:
    """Return the texts of a field of lines that are records, converted; the lines without one."""
    if field is None:
        return (without_end(text) for _, text in lines)
    on_field(field)
    return map(convert, _record_texts(file, next(lines), lines, field))


def _up_to_problem(file: TextFile, lines: Lines) -> Lines:
    """Yield lines; none after one that is a problem, so that no reader waits for a further line."""
    for number, text in lines:
        if not file.problems:
            yield number, text
        if file.problems:
            return


def _field_of(line: str, find_field: Callable[[Sequence[str]], str | None]) -> str | None:
    """Return which column or key has the text where a line is a record; None for other lines."""
    if is_fasttext(line):
        return find_field(COLUMNS)
    if line.lstrip().startswith("{"):
        with suppress(DataError, msgspec.DecodeError, RecursionError):
            return find_field(list(json_fields(line)))
    return None


def _record_texts(file: TextFile, first: tuple[int, str], rest: Lines, field: str) -> Iterator[str]:
    """Yield the texts of a field; a line that is not a record as the first one is a problem."""
    lines = chain([first], rest)
    if is_fasttext(first[1]):
        index = COLUMNS.index(field)
        records = islice(read_fasttext(file, lines, " "), 1, None)  # without names of columns
    else:
        index, names = 0, [field]
        find_keys = partial(find_columns, names)
        records = json_records(file, lines, find_keys, names, takes_numbers=True)
    return (cells[index] for _, cells in records)
