"""Labelled texts as fastText reads them: ``__label__NAME text`` a line (Joulin et al. 2016)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regard.data.readers.text_lines import Lines, TextFile

_LABEL = re.compile(r"\s*__label__(\S+)(?:\s+|$)")
COLUMNS = ["label", "text"]
"""Names of the columns that the lines are read as."""


def is_fasttext(line: str) -> bool:
    """Return whether a line begins with a label as fastText marks it.

    >>> is_fasttext("__label__spam win a prize"), is_fasttext("a __label__ is written so")
    (True, False)
    """
    return _LABEL.match(line) is not None


def read_fasttext(
    file: TextFile,
    lines: Lines,
    separator: str,  # noqa: ARG001
) -> Iterator[tuple[int, list[str]]]:
    """Yield the names of the columns, then label and text of each line."""
    yield 1, COLUMNS
    for number, line in lines:
        if not line.strip():
            continue
        label = _LABEL.match(line)
        text = line[label.end() :].strip() if label else ""
        if label is None:
            file.refuse(number, "no label, __label__NAME at the beginning expected.", line)
        elif is_fasttext(text):
            file.refuse(number, "two labels, one expected.", line, "Keep one of them.")
        else:
            yield number, [label[1], text]
