"""Running text for language models: a text file is one document, a row of JSONL or CSV another.

Text is kept by the line, since lines are what messages name and what parts are cut from.
"""

from __future__ import annotations

from pathlib import Path

from regard.data.readers import FORMATS
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.tables import read_records, require_readable
from regard.data.readers.text_lines import read_lines
from regard.data.rows import Rows
from regard.errors import DataError


class TextLines(Rows, frozen=True, kw_only=True):
    """Lines of running text.

    Args:
        path: File as named.
        texts: One line each, without its end.
        numbers: Where each stands: its 1-based line in the file.
        ends_document: Whether a document ends after each.
    """

    texts: list[str]
    numbers: list[int]
    ends_document: list[bool]

    @property
    def num_chars(self) -> int:
        """Characters, with one for the end of each line."""
        return sum(map(len, self.texts)) + len(self.texts)

    @property
    def num_bytes(self) -> int:
        """Bytes in UTF-8, with one for the end of each line."""
        return sum(len(text.encode()) for text in self.texts) + len(self.texts)


def read_text(
    data: DataSource | str | Path, *, encoding: str = "utf-8", column: str = "text"
) -> TextLines:
    """Read running text.

    Args:
        data: A text file, or JSONL or CSV with one document a row; ``-`` for standard input, which
            is JSONL where it begins with ``{``.
        encoding: Of the file.
        column: Of the text in CSV and JSONL.

    Raises:
        DataError: The file is missing, holds no text, or has a row that cannot be read.
        ConfigError: The encoding is unknown.
    """
    source = as_source(data)
    lines = TextLines(path=source.path, texts=[], numbers=[], ends_document=[])
    if FORMATS.get(source.suffix) in ("jsonl", "csv"):
        records, problems = read_records(source, (column,), encoding=encoding)
        require_readable(problems)
        for number, (text,) in records:
            texts = text.strip().split("\n")
            lines.texts.extend(texts)
            lines.numbers.extend([number] * len(texts))
            lines.ends_document.extend([False] * (len(texts) - 1) + [True])
    else:
        texts = list(read_lines(source, encoding=encoding))
        while texts and not texts[-1].strip():
            texts.pop()
        lines.texts.extend(texts)
        lines.numbers.extend(range(1, len(texts) + 1))
        lines.ends_document.extend([False] * max(0, len(texts) - 1) + [True] * bool(texts))
    if not any(text.strip() for text in lines.texts):
        raise DataError(f"{source.path}: the file is empty.  Expected running text.")
    return lines
