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
_CATEGORIES = ("cats", "labels", "label", "scores", "categories")  # of labels with numbers
_ANNOTATIONS = ("annotations", "entities", "spans")  # keys of doccano and Prodigy
_FEW = 3  # keys in a message
_ROUNDING = 0.01  # of a sum of probabilities
_NUM_PATHS = 5  # of texts in a message


def advise_layout(text: str) -> str:
    """Return what to do about the text of a file that is not an object a line; empty if unknown.

    ``FILE`` in its commands is the name of the file.

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


def advise_object(fields: dict[str, object], prefix: str = "") -> str:
    """Return what to do about one object that is the whole file; empty where it is one row.

    Args:
        fields: The object.
        prefix: Where it is, as jq writes it, such as ``.[]`` in a list; empty for the whole file.
    """
    lists = list(_paths_of_lists(fields, ()))
    if len(lists) == 1:
        return f"One row a line: jq -c {_filter(prefix, f'{_path(lists[0])}[]')} {_LINES}"
    if lists:
        commands = ";  ".join(_command_of_list(prefix, keys) for keys in lists[:_FEW])
        return f"One row a line, a file for each list: {commands}"
    if _has_names_and_rows(fields):
        return f"One row a line: jq -r {_filter(prefix, _rows_of_names(fields))} FILE > fixed.tsv"
    if _is_series(fields):
        return _advise_series(fields, prefix)
    if _has_rows(fields):
        return f"One row a line: jq -c {_filter(prefix, '.[]')} {_LINES}"
    if _has_columns(fields):
        return f"One row a line: jq -c {_filter(prefix, _rows_of_columns(fields))} {_LINES}"
    return ""


def advise_nested(fields: dict[str, object], prefix: str = "") -> str:
    """Return how the texts of an object that are in lists and objects are brought to its keys."""
    if _holds_objects(fields.get("paragraphs")):
        articles = "." if prefix == ".[]" else f"[{prefix or 'inputs'}]"
        option = "" if prefix else " -n"
        return f"Articles of SQuAD?  jq{option} '{{data: {articles}}}' FILE > fixed.json"
    nested = {key: value for key, value in fields.items() if isinstance(value, list | dict)}
    paths = list(_paths_of_texts(nested, ""))
    if not paths:
        return ""
    seen = ", ".join(paths[:_NUM_PATHS]) + ", ..." * (len(paths) > _NUM_PATHS)
    form = _filter(prefix, "{text: .PATH, label: .PATH}")
    return f"Texts are deeper: {seen}.  Name those that are read: jq -c {form} {_LINES}"


def advise_list_of_one(fields: dict[str, object], key: str, prefix: str = "") -> str:
    """Return how the only text of a list becomes the value of its key; empty for other values."""
    items = fields.get(key)
    if not (isinstance(items, list) and len(items) == 1 and isinstance(items[0], str)):
        return ""
    return f"The text in its list: jq -c {_filter(prefix, f'{_path([key])}|=.[0]')} {_LINES}"


def holds_categories(fields: dict[str, object]) -> bool:
    """Return whether an object has a value for each label under one key, as spaCy's ``cats``."""
    return bool(_key_of_categories(fields))


def _key_of_categories(fields: dict[str, object]) -> str:
    """Return the key under which an object has a number for each label; empty without one."""
    values = {key: value for key in _CATEGORIES if isinstance(value := fields.get(key), dict)}
    return next((key for key, value in values.items() if holds_numbers([*value.values()])), "")


def advise_categories(fields: dict[str, object], prefix: str = "") -> str:
    """Return how a number for each label, as of spaCy, becomes a list or a label; else empty.

    Probabilities of labels that exclude each other have a sum of 1. Of 0 and 1 elsewhere the first
    row does not say whether they do; in a list both can be read.
    """
    key = _key_of_categories(fields)
    values = fields.get(key)
    if not isinstance(values, dict) or "text" not in fields or "label" in fields.keys() - {key}:
        return ""
    origin = "Labels of spaCy?" if key == "cats" else "A number for each label?"
    are_flags = key != "cats" and all(value in (0, 1) for value in values.values())
    if are_flags or abs(sum(value or 0 for value in values.values()) - 1) > _ROUNDING:
        are_truths = any(isinstance(value, bool) for value in values.values())
        is_set = ".value" if are_truths else ".value>=0.5"
        labels = f"[.{key}|to_entries[]|select({is_set}).key]"
        row = _filter(prefix, f"{{text, labels: {labels}}}")
        return f"{origin}  All of each text: jq -c {row} {_LINES}"
    row = _filter(prefix, f"{{text, label: (.{key}|to_entries|max_by(.value).key)}}")
    return f"{origin}  The most likely one of each text: jq -c {row} {_LINES}"


def holds_annotations(fields: dict[str, object]) -> bool:
    """Return whether an object has a text, and labels within a list, as tools of annotation do."""
    return "text" in fields and "label" not in fields and bool(_annotations(fields)[1])


def advise_annotations(fields: dict[str, object], prefix: str = "") -> str:
    """Return how the label of the first annotation becomes a value of its own; else empty.

    Those that have a beginning and an end are of words, not of texts.
    """
    if not holds_annotations(fields):
        return ""
    key, items = _annotations(fields)
    if any({"start_offset", "start"} & item.keys() for item in items):
        return (
            f'Labels of parts of a text ("{key}") are for no task here.  Running text?  '
            "`task=language-modeling`"
        )
    row = _filter(prefix, f"{{text, label: .{key}[0].label}}")
    return f"Labels of annotators?  The first one of each text: jq -c {row} {_LINES}"


def _annotations(fields: dict[str, object]) -> tuple[str, list[dict[str, object]]]:
    """Return the key of a list of objects with labels, and those objects; none where it is not."""
    for key in _ANNOTATIONS:
        value = fields.get(key)
        items = value if isinstance(value, list) else []
        if labeled := [item for item in items if isinstance(item, dict) and "label" in item]:
            return key, labeled
    return "", []


def _rows_of_names(fields: dict[str, object]) -> str:
    """Return what prints names of columns and a list of values for each row, with their index."""
    if _are_numbers_of_rows(fields.get("index", [])):
        return "(.columns,.data[])|@tsv"
    return '(["time"]+.columns),([.index,.data]|transpose[]|[.[0]]+.[1])|@tsv'


def _rows_of_columns(fields: dict[str, object]) -> str:
    """Return what prints the rows of columns, with the index that pandas writes as keys."""
    first = next(iter(fields))
    is_numbered = _are_numbers_of_rows(fields[first])
    index = "" if is_numbered else "{time: $i}+"
    return f"({_path([first])}|keys_unsorted[]) as $i|{index}map_values(.[$i])"


def _advise_series(fields: dict[str, object], prefix: str) -> str:
    """Return what to do about values by their index: texts, or numbers by their times."""
    if any(isinstance(value, str) for value in fields.values()):
        return f"One text a line: jq -r {_filter(prefix, '.[]')} FILE > fixed.txt"
    rows = _filter(prefix, "to_entries[]|{time: .key, value}")
    return f"One row a line: jq -c {rows} {_LINES}"


def _are_numbers_of_rows(index: object) -> bool:
    """Return whether the index of columns is 0, 1, 2 ...; a list of values has no other."""
    keys = list(index) if isinstance(index, dict | list) else []
    is_column = isinstance(index, list) and not all(isinstance(key, int) for key in keys)
    return is_column or [str(key) for key in keys] == [str(i) for i in range(len(keys))]


def _is_series(fields: dict[str, object]) -> bool:
    """Return whether each key is a number or a time, above a plain value."""
    has_index = len(fields) > 1 and all(key[:1].isdecimal() for key in fields)
    return has_index and not any(isinstance(value, list | dict) for value in fields.values())


def _paths_of_texts(value: object, above: str) -> Iterator[str]:
    """Yield the paths of texts in an object or a list, of a list those of its first items."""
    if isinstance(value, str):
        yield above
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths_of_texts(inner, above + _path([key], above=above))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from _paths_of_texts(inner, f"{above}[{index}]")


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
    is_indexed = len(fields) == 1 and any(map(_is_index, fields.values()))
    return (len(fields) > 1 or is_indexed) and len(sizes) == 1 and 0 not in sizes


def _is_index(value: object) -> bool:
    """Return whether an object has a number or a time as each key, several of them."""
    return isinstance(value, dict) and len(value) > 1 and all(key[:1].isdecimal() for key in value)


def _has_rows(fields: dict[str, object]) -> bool:
    """Return whether each key has a row: an object with names, the same as those of the others."""
    keys = {tuple(value) if isinstance(value, dict) else () for value in fields.values()}
    return len(fields) > 1 and len(keys) == 1 and not all(key[:1].isdecimal() for key in keys.pop())


def _paths_of_lists(fields: dict[str, object], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to each list of objects, through objects alone."""
    for key, value in fields.items():
        if _holds_objects(value):
            yield (*above, key)
        elif isinstance(value, dict):
            yield from _paths_of_lists(value, (*above, key))


def _path(keys: Sequence[str], *, above: str = "") -> str:
    """Return the path of some keys as jq writes it, without what is above them.

    >>> _path(["a", "rows"]), _path(["all rows"])
    ('.a.rows', '.["all rows"]')
    """
    return "".join(
        f".{key}"
        if _IDENTIFIER.fullmatch(key)
        else f"{'' if i or above else '.'}[{json.dumps(key)}]"
        for i, key in enumerate(keys)
    )


def _filter(prefix: str, expression: str) -> str:
    """Return the argument of jq that prints an expression for each object behind a prefix."""
    return shlex.quote(f"{prefix}|{expression}" if prefix else expression)


def _command_of_list(prefix: str, keys: Sequence[str]) -> str:
    """Return the command that writes the items under some keys to a file of the last one's name."""
    name = shlex.quote(f"{keys[-1].replace('/', '_')}.jsonl")
    return f"jq -c {_filter(prefix, f'{_path(keys)}[]')} FILE > {name}"
