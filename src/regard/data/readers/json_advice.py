"""What to do about JSON that is not an object a line: the command that makes it so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence

_LINES = "FILE > fixed.jsonl"
SERIES = 'A series? Write one object for each of its times: {"time": "2024-01-31", "value": 1.5}.'
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # a key that jq takes without quotes
_OBJECTS = f"An object over several lines?  One a line: jq -c . {_LINES}"
_SPACE = re.compile(r"\s*")
_FEW = 3  # keys in a message


def advise_layout(text: str) -> str:
    """Return what to do about the text of a file that is not an object a line; empty if unknown.

    >>> advise_layout('{"id": 1, "rows": [{"text": "a"}]}')
    "One row a line: jq -c '.rows[]' FILE > fixed.jsonl"
    """
    try:
        values = list(_values(text))
    except json.JSONDecodeError as error:
        return f"Line {error.lineno:,}, column {error.colno:,}: {error.msg}.  Mend it there."
    except RecursionError:
        return ""
    if len(values) == 1:
        return _advise_value(values[0])
    if all(map(_is_row, values)):
        return "One row a line: jq -r @tsv FILE > fixed.tsv"
    return _OBJECTS


def _values(text: str) -> Iterator[object]:
    """Yield the values of JSON in a text, one after the other."""
    decoder = json.JSONDecoder()
    end = _skip_space(text, 0)
    while end < len(text):
        value, end = decoder.raw_decode(text, end)
        end = _skip_space(text, end)
        yield value


def _skip_space(text: str, start: int) -> int:
    """Return where the next value of JSON begins."""
    space = _SPACE.match(text, start)
    return start if space is None else space.end()


def _advise_value(value: object) -> str:
    """Return what to do about a value of JSON that is the whole file."""
    if isinstance(value, dict):
        return advise_object(value) or _OBJECTS
    return _advise_list(value) if isinstance(value, list) else ""


def advise_object(fields: dict[str, object]) -> str:
    """Return what to do about one object that is the whole file; empty where it is one row."""
    lists = list(_paths_of_lists(fields, ()))
    if len(lists) == 1:
        return f"One row a line: jq -c {_quoted(lists[0])} {_LINES}"
    if lists:
        commands = ";  ".join(map(_command_of_list, lists[:_FEW]))
        return f"One row a line, a file for each list: {commands}"
    if _has_names_and_rows(fields):
        return "One row a line: jq -r '(.columns,.data[])|@tsv' FILE > fixed.tsv"
    if _has_rows(fields):
        return f"One row a line: jq -c '.[]' {_LINES}"
    if _has_columns(fields):
        rows = shlex.quote(
            f"({_path([next(iter(fields))])}|keys_unsorted[]) as $i|map_values(.[$i])"
        )
        return f"One row a line: jq -c {rows} {_LINES}"
    return ""


def _advise_list(items: list[object]) -> str:
    """Return what to do about a list without objects that is the whole file."""
    if not items:
        return ""
    if all(isinstance(item, str) for item in items):
        return "One text a line: jq -r '.[]' FILE > fixed.txt"
    if all(map(_is_row, items)):
        return "One row a line: jq -r '.[]|@tsv' FILE > fixed.tsv"
    return SERIES if holds_numbers(items) else ""


def _is_row(value: object) -> bool:
    """Return whether a value of JSON is a list of texts and numbers, which are cells of a row."""
    if not (isinstance(value, list) and value):
        return False
    return not any(isinstance(cell, list | dict) for cell in value)


def holds_numbers(value: object) -> bool:
    """Return whether a value of JSON is a list of numbers, at least one."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(x, int | float) for x in value)
    )


def _holds_objects(value: object) -> bool:
    """Return whether a value of JSON is a list of objects, at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _has_names_and_rows(fields: dict[str, object]) -> bool:
    """Return whether an object has the names of columns and a list of values for each row."""
    names, rows = fields.get("columns"), fields.get("data")
    if not (isinstance(names, list) and isinstance(rows, list) and rows):
        return False
    return all(isinstance(row, list) and len(row) == len(names) for row in rows)


def _has_columns(fields: dict[str, object]) -> bool:
    """Return whether each key has the values of a column, in a list or by their numbers."""
    sizes = {len(value) if isinstance(value, list | dict) else 0 for value in fields.values()}
    return len(fields) > 1 and len(sizes) == 1 and 0 not in sizes


def _has_rows(fields: dict[str, object]) -> bool:
    """Return whether each key has a row: an object with names, the same as those of the others."""
    keys = {tuple(value) if isinstance(value, dict) else () for value in fields.values()}
    return len(fields) > 1 and len(keys) == 1 and not all(map(str.isdecimal, keys.pop()))


def _paths_of_lists(fields: dict[str, object], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to each list of objects, through objects alone."""
    for key, value in fields.items():
        if _holds_objects(value):
            yield (*above, key)
        elif isinstance(value, dict):
            yield from _paths_of_lists(value, (*above, key))


def _path(keys: Sequence[str]) -> str:
    """Return the path of some keys as jq writes it.

    >>> _path(["a", "rows"]), _path(["all rows"])
    ('.a.rows', '.["all rows"]')
    """
    return "".join(
        f".{key}" if _IDENTIFIER.fullmatch(key) else f"{'' if i else '.'}[{json.dumps(key)}]"
        for i, key in enumerate(keys)
    )


def _quoted(keys: Sequence[str]) -> str:
    """Return what jq is given to print the items of a list under some keys, for a shell."""
    return shlex.quote(f"{_path(keys)}[]")


def _command_of_list(keys: Sequence[str]) -> str:
    """Return the command that writes the items under some keys to a file of the last one's name."""
    name = shlex.quote(f"{keys[-1].replace('/', '_')}.jsonl")
    return f"jq -c {_quoted(keys)} FILE > {name}"
