"""What a verb reads: text of the command line, a file, or standard input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def input_lines(text: str | None, encoding: str, *, as_text: bool) -> Iterable[str]:
    """Return the lines of a file if one of that name exists, else of the text itself."""
    from regard.data.readers.text_lines import read_lines

    if text is None or (text == "-" and not as_text):
        return read_lines("-", encoding=encoding)
    if not as_text and _is_file(text):
        return read_lines(text, encoding=encoding)
    return text.split("\n")


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # a long sentence is no file name
        return False
