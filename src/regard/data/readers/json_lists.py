"""Lists of objects in JSON: where their objects are, and what begins as JSON.

A list, ``[{...}, {...}]`` over one line or several, is read as its objects, each on the line on
which it begins; so is one that is the value of the only key of an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice

import msgspec

from regard.data.readers import FORMATS
from regard.data.readers.text_lines import Lines, TextFile, numbered_lines
from regard.errors import DataError

_STRING = r'"((?:[^"\\]|\\.)*)"'
_OPENING = (
    rf"\s*(?:\{{\s*{_STRING}\s*:\s*)?\[\s*"  # of a list, or of one under the key of an object
)
_LIST = re.compile(rf"{_OPENING}(?=\{{)")
_EMPTY_LIST = re.compile(rf"{_OPENING}\]")
_ALL_EMPTY = re.compile(rf"{_OPENING}\]\s*(?(1)\}}\s*)")
_UNDECIDED = re.compile(rf"\s*(?:\[\s*|\{{\s*(?:{_STRING}\s*(?::\s*(?:\[\s*)?)?)?)?")
_AFTER_VALUE = re.compile(r"\s*(?:,\s*|\]\s*\Z)")
_AFTER_WRAPPED_VALUE = re.compile(r"\s*(?:,\s*|\]\s*\}\s*\Z)")
_AFTER_LIST = re.compile(r"\s*\]\s*[,}]")  # where more follows
_NAME = re.compile(r'"(\w+)"\s*:')


def holds_objects(file: TextFile, suffix: str) -> bool:
    """Return whether a file is named as JSONL, or begins with an object of JSON, or a list of them.

    In a file that is named as running text the next line is an object, too: it may show a row.

    Args:
        file: The file; its problems stay as they are.
        suffix: Suffix of its name.
    """
    if FORMATS.get(suffix) == "jsonl":
        return True
    lines = record_lines(numbered_lines(file._replace(problems=[])), file.name, suffix)
    ahead = list(islice((text for _, text in lines if text.strip()), 2))
    if FORMATS.get(suffix) == "text":
        return bool(ahead) and all(map(keys_of, ahead))
    return any(map(begins_as_json, ahead[:1]))


def begins_as_json(line: str) -> bool:
    """Return whether a first line is an object of JSON, perhaps damaged, or begins a value of JSON.

    A text may begin with a bracket, too, and a row of a table with an empty cell before one.

    >>> begins_as_json('{"text": "a"}'), begins_as_json("{"), begins_as_json("{0} files")
    (True, True, False)
    """
    return bool(keys_of(line)) or line.rstrip() in ("{", "[")


def keys_of(line: str) -> tuple[str, ...]:
    """Return the keys of an object, with those of one under ``translation``, not of deeper ones.

    In a damaged object, or one of several lines, all words before a colon are taken. Any other line
    has none.
    """
    if not line.lstrip().startswith("{"):
        return ()
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return tuple(_NAME.findall(line))
    inner = fields.get("translation")
    return (*fields, *inner) if isinstance(inner, dict) else tuple(fields)


def record_lines(lines: Lines, name: str, suffix: str) -> Lines:
    """Yield the lines of a file with a suffix, or the objects of a list, each with its line.

    Yields:
        Lines with their numbers.

    Raises:
        DataError: A list has no end.
    """
    is_other = FORMATS.get(suffix, "jsonl") != "jsonl"
    yield from object_lines(lines, name, is_other=is_other)


def object_lines(lines: Lines, name: str, *, is_other: bool = False) -> Lines:
    """Yield lines of JSONL unchanged, and of a list of objects the text of each with its line.

    The list may be the value of the only key of an object. Of an empty list there are no lines.

    Args:
        lines: The lines of a file.
        name: Its name.
        is_other: Whether the file is named as another than JSON: it is a list only as a whole.

    Yields:
        Lines with their numbers.

    Raises:
        DataError: A list has no end.
    """
    ahead = list(_first_lines(lines))
    spans = None
    if _LIST.match(join_lines(ahead)) or _EMPTY_LIST.match(join_lines(ahead)):
        ahead += lines
        spans = None if is_other and not _is_value(join_lines(ahead)) else _find_values(ahead, name)
    if spans is None:
        yield from chain(ahead, lines)
    else:
        yield from _cut_at(spans, ahead)


def is_empty_list(text: str) -> bool:
    """Return whether the text of a file is an empty list, or an object that has one alone.

    >>> is_empty_list("[ ]"), is_empty_list('{"rows": []}'), is_empty_list("[{}]")
    (True, True, False)
    """
    return _ALL_EMPTY.fullmatch(text) is not None


def find_wrapping_key(lines: Lines) -> str | None:
    """Return the only key of an object whose value is the list of the objects; None without one."""
    ahead = list(_first_lines(lines))
    beginning = _LIST.match(join_lines(ahead))
    if beginning is None or beginning[1] is None:
        return None
    is_wrapped = _find_values([*ahead, *lines], "") is not None
    return json.loads(f'"{beginning[1]}"') if is_wrapped else None


def place_of_objects(file: TextFile) -> str:
    """Return where the objects of a file are, as jq writes it; empty for an object a line."""
    if file.content is None:
        return ""
    lines = list(numbered_lines(file._replace(problems=[])))
    beginning = _LIST.match(join_lines(lines))
    if beginning is None or (beginning[1] is not None and find_wrapping_key(iter(lines)) is None):
        return ""
    return ".[]" if beginning[1] is None else f'.["{beginning[1]}"][]'


def join_lines(lines: Sequence[tuple[int, str]]) -> str:
    """Return the text of some lines, each with an end."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for _, text in lines)


def _find_values(lines: Sequence[tuple[int, str]], name: str) -> list[tuple[int, int]] | None:
    """Return where the values of a list begin and end in the lines of a file.

    It is None where more follows a list under a key: another key, or another object.

    Raises:
        DataError: The list has no end.
    """
    text = join_lines(lines)
    if _EMPTY_LIST.match(text):
        return [] if is_empty_list(text) else None
    _require_end(text, name)
    spans = list(_spans_of_values(text))
    return None if _opening(text)[1] is not None and _has_more(text, *spans[-1]) else spans


def _has_more(text: str, start: int, end: int) -> bool:
    """Return whether more follows a list under a key, by where its last value begins and ends."""
    end_of_value = _end_of_value(text, start)
    return start < end_of_value < end and _AFTER_LIST.match(text, end_of_value) is not None


def _cut_at(spans: Sequence[tuple[int, int]], lines: Sequence[tuple[int, str]]) -> Lines:
    """Yield the texts of some spans in lines, each with the line on which it begins."""
    text, line, counted = join_lines(lines), lines[0][0], 0
    for start, end in spans:
        line, counted = line + text.count("\n", counted, start), start
        yield line, text[start:end].strip()


def _opening(text: str) -> re.Match[str]:
    """Return the beginning of a text with a list; its group 1 is the key of the list, or None."""
    opening = _LIST.match(text)
    assert opening is not None
    return opening


def _first_lines(lines: Lines) -> Lines:
    """Yield lines until they say whether a list begins with them, or an object that has one."""
    text = ""
    for line, more in lines:
        yield line, more
        text = (text + more).lstrip()
        if not _UNDECIDED.fullmatch(text):
            return


def _require_end(text: str, name: str) -> None:
    """Raise DataError where a list, or an object over several lines that has one, has no end."""
    key, last = _opening(text)[1], text.rstrip()[-1]
    if key is None and last != "]":
        raise DataError(f'{name}: the list has no "]" at its end.  Cut short?  Copy it again.')
    if key is not None and last != "}" and not _is_value(text.lstrip().split("\n", 1)[0]):
        raise DataError(
            f'{name}: the list under "{key}" has no "]}}" at its end.  Cut short?  Copy it again.'
        )


def _is_value(text: str) -> bool:
    """Return whether a text is one value of JSON."""
    with suppress(msgspec.DecodeError, RecursionError):
        msgspec.json.decode(text)
        return True
    return False


def _spans_of_values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the values of a list begin and end; after what is none, the rest is one value."""
    before: re.Match[str] | None = _opening(text)
    after = _AFTER_VALUE if _opening(text)[1] is None else _AFTER_WRAPPED_VALUE
    while before is not None and before.end() < len(text):
        start = before.end()
        end = _end_of_value(text, start)
        before = after.match(text, end) if end > start else None
        yield start, end if before else len(text)


def _end_of_value(text: str, start: int) -> int:
    """Return where a value of JSON ends in a text; its start where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start
