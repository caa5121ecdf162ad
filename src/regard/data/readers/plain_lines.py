"""Files of which every line is a text, and what other files are said to be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from regard.data.readers import FORMATS
from regard.data.readers.columns import find_column
from regard.data.readers.fasttext import are_fasttext
from regard.data.readers.json_lines import json_fields
from regard.data.readers.source import DataSource
from regard.data.readers.suffixes import UNREAD
from regard.data.readers.text_lines import read_lines
from regard.errors import DataError

_NUM_SAMPLED = 20  # lines by which JSON and labels of fastText are recognized
_TEXTS = ("text", "source", "target", "document", "summary", "context", "question")


def require_plain_lines(source: DataSource, encoding: str = "utf-8", remedy: str = "") -> None:
    """Check that a file holds one text a line, and not rows of a table or objects.

    Args:
        source: The file.
        encoding: Its encoding.
        remedy: What else to do where it is a table.

    Raises:
        DataError: It holds rows, is in a format that is not text, or its first lines cannot be
            read.
    """
    if source.table is not None:
        contents, command = source.table.form, ""
    else:
        contents, command = _describe_rows(source, encoding)
    if contents:
        parts = [f"{source.path}: {contents}, not one text a line.", remedy, command]
        raise DataError("  ".join(filter(None, parts)))


def _describe_rows(source: DataSource, encoding: str) -> tuple[str, str]:
    """Return what rows a file holds, and the command that writes their texts; empty for lines."""
    file_format = FORMATS.get(source.suffix, "")
    if source.suffix in UNREAD and not file_format:
        return UNREAD[source.suffix], ""
    if file_format == "csv":
        return "CSV", ""
    lines = list(filter(str.strip, _lines_of(source, encoding)))
    if keys := _keys_of_objects(lines):
        key = next((name for role in _TEXTS if (name := find_column(keys, role))), keys[0])
        name, output = shlex.quote(source.path), shlex.quote(f"{Path(source.path).stem}.txt")
        texts = shlex.quote(f'.[{msgspec.json.encode(key).decode()}]|gsub("\\\\s+";" ")')
        return "JSON, an object a line", f"Its texts: jq -r {texts} {name} > {output}"
    if file_format == "jsonl":
        return "JSON", ""
    if file_format == "tsv" and "\t" in "".join(lines[:1]):
        return "TSV", ""
    if lines and are_fasttext(lines):
        return "texts with labels of fastText", ""
    return "", ""


def _lines_of(source: DataSource, encoding: str) -> Sequence[str]:
    """Return the first lines of a file; none where one cannot be read, which reading it says."""
    with suppress(DataError):
        return list(islice(read_lines(source, encoding=encoding), _NUM_SAMPLED))
    return []


def _keys_of_objects(lines: Sequence[str]) -> list[str]:
    """Return the keys of the first line where all are objects; none where one is not."""
    try:
        objects = [json_fields(line) for line in lines]
    except (DataError, msgspec.DecodeError, RecursionError):
        return []
    return list(objects[0]) if objects else []
