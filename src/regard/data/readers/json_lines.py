"""Objects a line: JSONL, and what is wrong with a line that is not an object.

A list of objects, ``[{...}, {...}]`` over one line or several, is read as its objects, each on the
line on which it begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import itemgetter

import msgspec

from regard.data.readers.columns import PAIR_ROLES, SUMMARY_ROLES, describe_missing
from regard.data.readers.headers import advise_columns, advise_numbers, hold_only_numbers
from regard.data.readers.text_lines import Lines, TextFile, numbered_lines
from regard.errors import DataError

_UNREADABLE = (DataError, msgspec.DecodeError, RecursionError)  # raised by lines of other text
_NUM_SAMPLED = 200  # lines by which the columns of an object are advised
_SERIES = 'A series? Write one object for each of its times: {"time": "2024-01-31", "value": 1.5}.'
_LIST = re.compile(r"\s*\[\s*(?=\{)")  # its beginning, before the first object
_AFTER_VALUE = re.compile(r"\s*(?:,\s*|\]\s*\Z)")
_KEY = re.compile(r'"\s*:')  # its end, and that of other text before a colon
_SURROGATES = re.compile(  # an escaped backslash, a whole pair, or half of one
    r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(\\u[dD][89a-fA-F]\w\w)"
)


def read_objects(file: TextFile) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the 1-based number and the object of each line of JSONL; others become problems."""
    for line, text in _filled(object_lines(numbered_lines(file), file.name)):
        try:
            fields = json_fields(text)
        except _UNREADABLE as error:
            file.refuse(line, _describe_error(error, text), text)
        else:
            yield line, fields


def object_lines(lines: Lines, name: str) -> Lines:
    """Yield lines of JSONL unchanged, and of a list of objects the text of each with its line.

    Args:
        lines: The lines of a file.
        name: Its name.

    Raises:
        DataError: A list has no end.
    """
    ahead = list(_first_lines(lines))
    if _LIST.match("".join(text for _, text in ahead)):
        yield from _objects_of_list([*ahead, *lines], name)
    else:
        yield from chain(ahead, lines)


def _first_lines(lines: Lines) -> Lines:
    """Yield lines until there are two characters that are no space."""
    num_chars = 0
    for line, text in lines:
        yield line, text
        num_chars += len(text.strip())
        if num_chars > 1:
            return


def _objects_of_list(lines: Sequence[tuple[int, str]], name: str) -> Lines:
    """Yield the text of each object of a list, with its line.

    Raises:
        DataError: The list has no end.
    """
    text = "".join(text if text.endswith("\n") else f"{text}\n" for _, text in lines)
    if not text.rstrip().endswith("]"):
        raise DataError(f'{name}: the list has no "]" at its end.  Cut short?  Copy it again.')
    line, counted = lines[0][0], 0
    for start, end in _spans_of_values(text):
        line, counted = line + text.count("\n", counted, start), start
        yield line, text[start:end].strip()


def _spans_of_values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the values of a list begin and end; after what is none, the rest is one value."""
    before = _LIST.match(text)
    while before is not None and before.end() < len(text):
        start = before.end()
        end = _end_of_value(text, start)
        before = _AFTER_VALUE.match(text, end) if end > start else None
        yield start, end if before else len(text)


def _end_of_value(text: str, start: int) -> int:
    """Return where a value of JSON ends in a text; its start where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start


def json_records(
    file: TextFile,
    lines: Lines,
    find_keys: Callable[[list[str]], Sequence[str] | None],
    names: Sequence[str],
    *,
    takes_numbers: bool,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the texts of each line under the first keys that `find_keys` returns for a line.

    Where it returns none, the keys are `names`. A first line that is not the first of such objects
    is the only problem of the file.
    """
    lines = _filled(lines)
    ahead = list(islice(lines, _NUM_SAMPLED))
    keys: Sequence[str] | None = None
    if ahead and (problem := _describe_first_object(ahead, find_keys, names)):
        file.refuse(*problem)
        return
    for line, text in chain(ahead, lines):
        try:
            fields = json_fields(text)
            keys = keys or find_keys(list(fields))
            texts = _json_texts(fields, keys, names, takes_numbers=takes_numbers)
        except _UNREADABLE as error:
            file.refuse(line, _describe_error(error, text), text)
        else:
            yield line, texts


def _filled(lines: Lines) -> Lines:
    """Yield the lines that are not blank."""
    return ((line, text) for line, text in lines if text.strip())


def _describe_first_object(
    ahead: Sequence[tuple[int, str]],
    find_keys: Callable[[list[str]], Sequence[str] | None],
    expected: Sequence[str],
) -> tuple[int, str, str, str] | None:
    """Return line, reason, text and remedy if a file does not begin with an object to be read."""
    line, text = ahead[0]
    try:
        fields = json_fields(text)
    except _UNREADABLE as error:
        reason, remedy = _describe_error(error, text), _remedy_of_start(error, ahead)
        return None if remedy is None else (line, reason, text, remedy)
    keys = find_keys(list(fields))
    missing = [key for key in keys or expected if key not in fields]
    if not missing:
        return None
    reason = _describe_missing_key(fields, keys, missing[0])
    return line, reason, text, _advise_keys(ahead, fields, expected)


def _describe_missing_key(
    fields: dict[str, object], keys: Sequence[str] | None, missing: str
) -> str:
    """Return in words that an object lacks a key; of one with a text, what it has."""
    if keys is None and "text" in fields:
        return f"keys seen: {', '.join(fields)}."
    return describe_missing("key", missing, list(fields))


def _is_series(value: object) -> bool:
    """Return whether the value of a key is a list of numbers."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(x, int | float) for x in value)
    )


def _remedy_of_start(error: Exception, ahead: Sequence[tuple[int, str]]) -> str | None:
    """Return what to do about a first line that is not an object; None where others may be one."""
    if isinstance(error, DataError):
        return ""
    is_cut = "truncated" in str(error) and not _SURROGATES.search(ahead[0][1])
    if len(ahead) == 1 or not is_cut:
        return None
    return "An object over several lines?  One a line: jq -c . FILE > fixed.jsonl"


def _advise_keys(
    ahead: Sequence[tuple[int, str]], fields: dict[str, object], expected: Sequence[str]
) -> str:
    """Return how the two keys of objects are named in the settings; empty for other objects."""
    if len(expected) == 1:
        return ""
    if any(map(_is_series, fields.values())):
        return _SERIES
    names = list(fields)
    below = sample_cells(map(itemgetter(1), ahead), names)
    if hold_only_numbers(below):
        return advise_numbers(names)
    if len(names) <= 1:
        return ""
    roles = SUMMARY_ROLES if tuple(expected) == SUMMARY_ROLES else PAIR_ROLES
    return advise_columns(names, below, roles)


def sample_cells(lines: Iterable[str], names: Sequence[str]) -> list[list[str]]:
    """Return the values of some keys of each object, as text; lines of other text are left out."""
    rows = []
    for text in lines:
        with suppress(*_UNREADABLE):
            fields = json_fields(text)
            rows.append([str(fields.get(name, "")) for name in names])
    return rows


def _describe_error(error: Exception, text: str) -> str:
    """Return why a line is not an object: of half a surrogate pair msgspec says that it was cut."""
    if isinstance(error, DataError):
        return str(error)
    half = find_half_character(text)
    return f"not JSON: {f'half of a character ({half[1]})' if half else error}."


def find_half_character(text: str) -> re.Match[str] | None:
    r"""Return the first half of a surrogate pair, such as ``\ud83d``, in JSON; its group 1."""
    return next((match for match in _SURROGATES.finditer(text) if match[1]), None)


def json_fields(text: str) -> dict[str, object]:
    """Return the object of a line, or that under its key ``translation``.

    Raises:
        DataError: It is not an object, or has a key twice.
    """
    if text.startswith("["):
        raise DataError(
            "a list, one object a line expected.  Convert: jq -c '.[]' FILE > fixed.jsonl"
        )
    fields = msgspec.json.decode(text)
    if not isinstance(fields, dict):
        raise DataError('no object such as {"source": "...", "target": "..."}.')
    _require_distinct_keys(fields, text)
    inner = fields.get("translation")
    return inner if isinstance(inner, dict) else fields


def _json_texts(
    fields: dict[str, object],
    keys: Sequence[str] | None,
    names: Sequence[str],
    *,
    takes_numbers: bool,
) -> list[str]:
    """Return the texts under the keys of an object, where they are not known under `names`."""
    return [_json_text(fields, key, takes_numbers=takes_numbers) for key in keys or names]


def _json_text(fields: dict[str, object], key: str, *, takes_numbers: bool) -> str:
    """Return the text under a key of an object; null is an empty one, as an empty cell is."""
    if key not in fields:
        raise DataError(describe_missing("key", key, list(fields)))
    value = fields[key]
    if isinstance(value, str | None):
        return value or ""
    if takes_numbers and isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    raise DataError(f'"{key}" is not a text.')


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
