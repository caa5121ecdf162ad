"""Objects a line: JSONL, and what is wrong with a line that is not an object."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import itemgetter

import msgspec

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import list_first
from regard.data.readers.annotation_marks import are_marks, find_marks, keep_row
from regard.data.readers.columns import PAIR_ROLES, SUMMARY_ROLES, describe_missing
from regard.data.readers.headers import advise_columns, advise_numbers, hold_only_numbers
from regard.data.readers.json_advice import (
    SERIES,
    advise_annotations,
    advise_categories,
    advise_layout,
    advise_list_of_one,
    advise_nested,
    advise_object,
    holds_numbers,
)
from regard.data.readers.json_faults import advise_fault, describe_fault, find_half_character
from regard.data.readers.json_lists import join_lines, object_lines, place_of_objects
from regard.data.readers.text_lines import Lines, TextFile, numbered_lines
from regard.errors import DataError

_UNREADABLE = (DataError, msgspec.DecodeError, RecursionError)  # raised by lines of other text
_NUM_NAMED = 5  # values of a list in a message
_NUM_SAMPLED = 200  # lines by which the columns of an object are advised
_KEY = re.compile(r'"\s*:')  # its end, and that of other text before a colon


def read_objects(file: TextFile) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the 1-based number and the object of each line of JSONL; others become problems.

    A first line that is not an object, where the file is JSON of another layout, is the only one.
    """
    lines = _filled(object_lines(numbered_lines(file), file.name))
    ahead = list(islice(lines, 2))
    num_lines = 0
    for num_lines, (line, text) in enumerate(chain(ahead, lines), start=1):
        try:
            fields = json_fields(text)
        except _UNREADABLE as error:
            layout = _remedy_of_start(error, ahead, lines) if num_lines == 1 else None
            remedy = layout or advise_fault(text)
            file.refuse(line, describe_fault(error, text), text, _with_name(file, remedy))
            if layout:
                return
        else:
            yield line, fields


def text_of_value(value: object) -> str:
    """Return the text of a value of JSON; none is empty."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else msgspec.json.encode(value).decode()


def json_records(
    file: TextFile,
    lines: Lines,
    find_keys: Callable[[list[str]], Sequence[str] | None],
    names: Sequence[str],
    *,
    takes_numbers: bool,
    takes_lists: bool = False,
    rejected: list[DroppedRow] | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the texts of each line under the first keys that `find_keys` returns for a line.

    Where it returns none, the keys are `names`. A first line that is not the first of such objects
    is the only problem of the file. Numbers are texts where `takes_numbers`, and lists are JSON
    under all keys but the first where `takes_lists`. `rejected` receives the rows that their
    annotators rejected; they are left out where it is a list.
    """
    lines = _filled(lines)
    ahead = list(islice(lines, 1))
    keys: Sequence[str] | None = None
    read = only_item if takes_numbers else _unchanged
    readers = [read, *[_list_as_text if takes_lists else read] * (len(names) - 1)]
    if problem := _describe_first_object(file, ahead, lines, find_keys, names, readers):
        line, reason, text, remedy = problem
        file.refuse(line, reason, text, _with_name(file, remedy))
        return
    for line, text in chain(ahead, lines):
        try:
            fields = json_fields(text)
            keys = keys or find_keys(list(fields))
            texts = [
                _json_text(fields, key, read, takes_numbers=takes_numbers)
                for key, read in zip(keys or names, readers, strict=True)
            ]
        except _UNREADABLE as error:
            remedy = _with_name(file, advise_fault(text))
            file.refuse(line, describe_fault(error, text), text, remedy)
        else:
            marks = {name: fields[name] for name in find_marks(fields, keys or names)}
            if keep_row(line, texts[0], marks, rejected):
                yield line, texts


def _with_name(file: TextFile, remedy: str) -> str:
    """Return a remedy with the name of the file in its commands; that of a stream is unknown.

    The rows of a table are printed for commands that read JSON.
    """
    if file.name == "-":
        return remedy
    if file.table is not None and "jq " in remedy:
        rows = file.table.print_command(file.name)
        return re.sub(r"\bjq (.*?) FILE >", lambda match: f"{rows} | jq {match[1]} >", remedy)
    return remedy.replace(" FILE >", f" {shlex.quote(file.name)} >")


def _filled(lines: Lines) -> Lines:
    """Yield the lines that are not blank."""
    return ((line, text) for line, text in lines if text.strip())


def _has_texts(
    text: str,
    find_keys: Callable[[list[str]], Sequence[str] | None],
    names: Sequence[str],
    readers: Sequence[Callable[[object], object]],
) -> bool:
    """Return whether a line is an object with plain values under the keys that are read."""
    try:
        fields = json_fields(text)
    except _UNREADABLE:
        return False
    keys = zip(find_keys(list(fields)) or names, readers, strict=True)
    return not any(_is_unread(fields, key, read) for key, read in keys)


def _describe_first_object(
    file: TextFile,
    ahead: list[tuple[int, str]],
    rest: Lines,
    find_keys: Callable[[list[str]], Sequence[str] | None],
    expected: Sequence[str],
    readers: Sequence[Callable[[object], object]],
) -> tuple[int, str, str, str] | None:
    """Return line, reason, text and remedy if a file does not begin with an object to be read.

    Args:
        file: The file.
        ahead: The first line. Those below it are appended where they say what the remedy is.
        rest: The lines below it.
        find_keys: Returns the keys of an object that are read; None where it has not got them.
        expected: The keys where it returns none.
        readers: Return the value of each key as it is read.
    """
    if not ahead or _has_texts(ahead[0][1], find_keys, expected, readers):
        return None
    line, text = ahead[0]
    ahead.extend(islice(rest, _NUM_SAMPLED))
    try:
        fields = json_fields(text)
    except _UNREADABLE as error:
        reason, remedy = describe_fault(error, text), _remedy_of_start(error, ahead, rest)
        return None if remedy is None else (line, reason, text, remedy)
    return _describe_fields(file, ahead, fields, find_keys, expected, readers)


def _describe_fields(
    file: TextFile,
    ahead: Sequence[tuple[int, str]],
    fields: dict[str, object],
    find_keys: Callable[[list[str]], Sequence[str] | None],
    expected: Sequence[str],
    readers: Sequence[Callable[[object], object]],
) -> tuple[int, str, str, str] | None:
    """Return line, reason, text and remedy of a first object that lacks a text that is read.

    Args:
        file: The file.
        ahead: The first lines, or objects of a list.
        fields: The first of them.
        find_keys: Returns the keys of an object that are read.
        expected: The keys where it returns none.
        readers: Return the value of each key as it is read.
    """
    line, text = ahead[0]
    prefix, noun = place_of_objects(file), "key" if file.table is None else "column"
    keys = find_keys(list(fields))
    reading = zip(keys or expected, readers, strict=True)
    unread_keys = [key for key, read in reading if _is_unread(fields, key, read)]
    unread = min(unread_keys, key=fields.__contains__)
    advice = advise_object(fields, prefix) if len(ahead) == 1 else ""
    if labels := advise_categories(fields, prefix) or advise_annotations(fields, prefix):
        return line, f"{noun}s seen: {', '.join(fields)}.", text, labels
    if unread not in fields:
        reason = _describe_missing_key(noun, fields, keys, unread)
        advice = advice or _advise_keys(ahead, fields, expected)
        return line, reason, text, advice or advise_nested(fields, prefix)
    advice = advice or advise_list_of_one(fields, unread, prefix)
    return (line, f'"{unread}" is not a text.', text, advice) if advice else None


def _is_unread(fields: dict[str, object], key: str, read: Callable[[object], object]) -> bool:
    """Return whether an object has no plain value under a key."""
    return key not in fields or isinstance(read(fields[key]), list | dict)


def only_item(value: object) -> object:
    """Return the plain value of a list that has no other, an empty text of an empty list.

    Tools for annotation write the only label of a row so, Label Studio as ``{"choices": [...]}``.
    Any other value is returned unchanged.

    >>> only_item(["pos"]), only_item([]), only_item(["a", "b"]), only_item([[0, 4, "LOC"]])
    ('pos', '', ['a', 'b'], [[0, 4, 'LOC']])
    >>> only_item({"choices": ["pos"]})
    'pos'
    """
    value = _choices(value)
    if not isinstance(value, list) or len(value) > 1:
        return value
    item = value[0] if value else ""
    return value if isinstance(item, list | dict) else item


def _describe_missing_key(
    noun: str, fields: dict[str, object], keys: Sequence[str] | None, missing: str
) -> str:
    """Return in words that an object lacks a key; of one with a text, what it has."""
    if keys is None and "text" in fields:
        return f"{noun}s seen: {', '.join(fields)}."
    return describe_missing(noun, missing, list(fields))


def _remedy_of_start(error: Exception, ahead: Sequence[tuple[int, str]], rest: Lines) -> str | None:
    """Return what to do about a first line that is not an object; None where others may be one."""
    is_list = ahead[0][1].lstrip().startswith("[")
    is_cut = len(ahead) > 1 and "truncated" in str(error) and not find_half_character(ahead[0][1])
    if is_list or is_cut:
        return advise_layout(join_lines([*ahead, *rest]))
    return "" if isinstance(error, DataError) else None


def _advise_keys(
    ahead: Sequence[tuple[int, str]], fields: dict[str, object], expected: Sequence[str]
) -> str:
    """Return how the two keys of objects are named in the settings; empty for other objects."""
    if len(expected) == 1:
        return ""
    if any(map(holds_numbers, fields.values())):
        return SERIES
    lines = list(map(itemgetter(1), ahead))
    names = [name for name in fields if not _is_unread(fields, name, only_item)]
    unmarked = [name for name in names if not are_marks(name, chain(*sample_cells(lines, [name])))]
    names = unmarked if len(unmarked) > 1 else names  # marks next to one text may be its labels
    below = sample_cells(lines, names, only_item)
    if len(names) < len(fields) and not _hold_texts(below):
        return ""
    if hold_only_numbers(below):
        return advise_numbers(names)
    if len(names) <= 1:
        return ""
    roles = SUMMARY_ROLES if tuple(expected) == SUMMARY_ROLES else PAIR_ROLES
    return advise_columns(names, below, roles)


def _hold_texts(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a cell of some rows has two words or more."""
    return any(len(cell.split()) > 1 for cells in rows for cell in cells)


def _unchanged(value: object) -> object:
    return value


def sample_cells(
    lines: Iterable[str], names: Sequence[str], read: Callable[[object], object] = _unchanged
) -> list[list[str]]:
    """Return the values of some keys of each object, as text; lines of other text are left out.

    Args:
        lines: The lines.
        names: The keys.
        read: Returns the value of a key as it is read.
    """
    rows = []
    for text in lines:
        with suppress(*_UNREADABLE):
            fields = json_fields(text)
            rows.append([str(read(fields.get(name, ""))) for name in names])
    return rows


def json_fields(text: str) -> dict[str, object]:
    """Return the object of a line, or that under its key ``translation``.

    Raises:
        DataError: It is not an object, or has a key twice.
    """
    if text.startswith("["):
        raise DataError("a list, one object a line expected.")
    fields = _decode(text)
    if not isinstance(fields, dict):
        raise DataError('no object such as {"source": "...", "target": "..."}.')
    _require_distinct_keys(fields, text)
    inner = fields.get("translation")
    return inner if isinstance(inner, dict) else fields


def _decode(text: str) -> object:
    """Return the value of a line; NaN, as Python writes a missing number, is null.

    An infinite number is its name, as in a cell of CSV: where numbers are read it is refused.

    Raises:
        DecodeError: It is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if "NaN" not in text and "Infinity" not in text:
            raise
        with suppress(ValueError):
            return json.loads(text, parse_constant=lambda name: None if name == "NaN" else name)
        raise


def _json_text(
    fields: dict[str, object],
    key: str,
    read: Callable[[object], object],
    *,
    takes_numbers: bool,
) -> str:
    """Return the text under a key of an object; null is an empty one, as an empty cell is."""
    if key not in fields:
        raise DataError(describe_missing("key", key, list(fields)))
    value = read(fields[key])
    if isinstance(value, str | None):
        return value or ""
    if takes_numbers and isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    labels = plain_items(value)
    raise DataError(describe_several(key, labels) if labels else f'"{key}" is not a text.')


def _choices(value: object) -> object:
    """Return the list of choices that Label Studio writes into an object of its own."""
    return value["choices"] if isinstance(value, dict) and value.keys() == {"choices"} else value


def _list_as_text(value: object) -> object:
    """Return a list of texts and numbers as JSON; any other value is returned unchanged."""
    value = _choices(value)
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        return value
    return msgspec.json.encode(value).decode()


def plain_items(value: object) -> list[str]:
    """Return the texts and numbers of a list, as text; none of any other value."""
    value = _choices(value)
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        return []
    return list(map(str, value))


def describe_several(name: str, values: Sequence[str], remedy: str = "Keep one of them.") -> str:
    """Return in words that a row has several values where one is read, and what to do.

    >>> describe_several("answer", ["a", "b"])
    '"answer" has 2 values, "a, b", one expected.  Keep one of them.'
    """
    listed = list_first(values, _NUM_NAMED)
    return f'"{name}" has {len(values)} values, "{listed}", one expected.  {remedy}'


def _require_distinct_keys(fields: dict[str, object], text: str) -> None:
    """Raise DataError where an object of a line, or one within it, has a key twice.

    Args:
        fields: The object as it was read, where the last of equal keys counts.
        text: The line. Its keys are compared only where it may have more than the object.
    """
    num_keys = len(fields) + sum(len(v) for v in fields.values() if isinstance(v, dict))
    if len(_KEY.findall(text)) > num_keys:
        json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object of some pairs; raise DataError for the first key that is there twice."""
    fields: dict[str, object] = {}
    for key, value in pairs:
        if key in fields:
            raise DataError(f'the key "{key}" is there twice.')
        fields[key] = value
    return fields
