"""Texts with labels, from JSONL, CSV or TSV."""

from __future__ import annotations

from pathlib import Path

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_text import COLUMNS, LabeledTexts
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.tables import read_records
from regard.errors import DataError


def read_labeled_texts(
    path: DataSource | str | Path, *, encoding: str = "utf-8", columns: tuple[str, str] = COLUMNS
) -> tuple[LabeledTexts, list[DroppedRow]]:
    """Read texts with labels from JSONL, or from CSV or TSV with a header.

    Args:
        path: The file, or ``-`` for standard input.
        encoding: Of the file.
        columns: Names of the columns of text and label.

    Returns:
        The rows that have both, and those that lack one.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    source = as_source(path)
    found = LabeledTexts(path=source.path, texts=[], labels=[], lines=[])
    dropped = []
    for line, (text, label) in read_records(source, columns, encoding=encoding):
        if not text.strip() or not label.strip():
            reason = "empty text" if label.strip() else "empty label"
            dropped.append(DroppedRow(line=line, reason=reason, text=text))
            continue
        found.texts.append(text.strip())
        found.labels.append(label.strip())
        found.lines.append(line)
    if not found:
        raise DataError(
            f"{source.path}: the file is empty.  Expected rows with {' and '.join(columns)}."
        )
    return found, dropped
