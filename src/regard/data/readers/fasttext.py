"""Labelled texts as fastText reads them: ``__label__NAME text`` a line (Joulin et al. 2016).

The label may be at the end of a line, too; a line may have several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from regard.data.readers.text_lines import Lines, TextFile

_LABEL = re.compile(r"(?:^|(?<=\s))__label__(\S+)(?!\S)")
COLUMNS = ["label", "text"]
"""Names of the columns that the lines are read as."""


def is_fasttext(line: str) -> bool:
    """Return whether a line begins or ends with a label as fastText marks it.

    >>> is_fasttext("__label__spam win a prize"), is_fasttext("a __label__ is written so")
    (True, False)
    """
    text = line.strip()
    return any(0 in match.span() or len(text) in match.span() for match in _LABEL.finditer(text))


def are_fasttext(lines: Sequence[str]) -> bool:
    """Return whether the first of some lines, or more than half of them, have such labels."""
    return any(map(is_fasttext, lines[:1])) or 2 * sum(map(is_fasttext, lines)) > len(lines)


def read_fasttext(
    file: TextFile,
    lines: Lines,
    separator: str,  # noqa: ARG001
) -> Iterator[tuple[int, list[str]]]:
    """Yield the names of the columns, then the labels as a list of JSON and text of each line."""
    yield 1, COLUMNS
    for number, line in lines:
        if not line.strip():
            continue
        labels = _LABEL.findall(line.strip())
        if not is_fasttext(line):
            reason = "no label, __label__NAME at the beginning or end expected."
            file.refuse(number, reason, line)
        else:
            names = msgspec.json.encode(labels).decode()
            yield number, [names, _LABEL.sub("", line.strip()).strip()]
