"""Running text for language models: a text file is one document, a row of JSONL or CSV another.

Text is kept in lines: messages name them, and the parts of a split are runs of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from regard.data.dropped_rows import DroppedRow
from regard.data.readers import FORMATS
from regard.data.readers.json_lists import holds_objects
from regard.data.readers.source import DataSource, SourceLike, as_source
from regard.data.readers.tables import read_records
from regard.data.readers.text_lines import open_text, read_lines
from regard.data.rows import Rows
from regard.errors import DataError


class TextLines(Rows, frozen=True, kw_only=True):
    """Lines of running text.

    Args:
        path: File as named.
        texts: The lines, without their ends.
        numbers: 1-based number of each line in the file.
        ends_document: Whether a document ends after each line.
    """

    texts: list[str]
    numbers: list[int]
    ends_document: list[bool]

    @property
    def num_chars(self) -> int:
        """Number of characters, with one for the end of each line."""
        return sum(map(len, self.texts)) + len(self.texts)

    @property
    def num_bytes(self) -> int:
        """Number of bytes in UTF-8, with one for the end of each line."""
        return sum(len(text.encode()) for text in self.texts) + len(self.texts)

    def add_document(self, texts: list[str], numbers: Iterable[int]) -> None:
        """Append the lines of a document, and their 1-based numbers in the file."""
        self.texts.extend(texts)
        self.numbers.extend(numbers)
        self.ends_document.extend([False] * (len(texts) - 1) + [True] * bool(texts))


def has_documents(source: DataSource, encoding: str) -> bool:
    """Return whether each row of a file is a document; else the file is one, with all its lines."""
    is_table = FORMATS.get(source.suffix) not in (None, "text", "tsv")
    return is_table or holds_objects(open_text(source, encoding), source.suffix)


def read_text(
    data: SourceLike,
    *,
    encoding: str = "utf-8",
    column: str = "text",
    rejected: list[DroppedRow] | None = None,
) -> TextLines:
    """Return running text without the blank lines at its end.

    Args:
        data: A text file, or JSONL or CSV with one document a row; ``-`` for standard input. What
            begins as JSON is JSON, whatever its name.
        encoding: Encoding of the file.
        column: Column of the text in CSV and JSONL.
        rejected: Receives the rows that their annotators rejected, which are left out.

    Raises:
        DataError: The file is missing, holds no text, or has a row that cannot be read.
    """
    source = as_source(data)
    lines = TextLines(path=source.path, texts=[], numbers=[], ends_document=[])
    is_table = has_documents(source, encoding)
    if is_table:
        rejected = [] if rejected is None else rejected
        records = read_records(source, (column,), encoding=encoding, rejected=rejected)
        for number, (text,) in records:
            texts = text.strip().split("\n")
            lines.add_document(texts, [number] * len(texts))
    else:
        texts = list(read_lines(source, encoding=encoding))
        while texts and not texts[-1].strip():
            texts.pop()
        lines.add_document(texts, range(1, len(texts) + 1))
    if not any(map(str.strip, lines.texts)):
        expected = f"rows with {column}" if is_table else "running text"
        raise DataError(f"{source.path}: the file is empty.  Expected {expected}.")
    return lines
