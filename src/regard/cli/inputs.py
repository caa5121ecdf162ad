"""The input of a verb: text of the command line, a file, or standard input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def input_lines(text: str | None, encoding: str, *, as_text: bool) -> Iterable[str]:
    """Return the lines of a file if one of that name exists, else of the text itself."""
    from regard.data.readers.text_lines import read_lines

    if as_text and text is not None:
        return text.split("\n")
    if text is None or text == "-":
        return read_lines("-", encoding=encoding)
    try:
        is_file = Path(text).exists()
    except (OSError, ValueError):  # too long for a file name
        is_file = False
    return read_lines(text, encoding=encoding) if is_file else text.split("\n")
