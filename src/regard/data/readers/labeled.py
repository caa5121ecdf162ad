"""Texts with labels, from JSONL, CSV or TSV."""

from __future__ import annotations

from pathlib import Path

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_text import COLUMNS, LabeledTexts
from regard.data.readers.problems import Parsed
from regard.data.readers.source import DataSource
from regard.data.readers.tables import as_path, read_records, require_readable
from regard.errors import DataError


def read_labeled_texts(
    data: DataSource | str | Path, *, encoding: str = "utf-8", columns: tuple[str, str] = COLUMNS
) -> tuple[LabeledTexts, list[DroppedRow]]:
    """Read texts with labels from JSONL, or from CSV or TSV with a header.

    Args:
        data: The file, or ``-`` for standard input.
        encoding: Of the file.
        columns: Names of the columns of text and label, which may be there under a synonym.

    Returns:
        The rows that have both, and those that lack one.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
        ConfigError: The encoding is unknown.
    """
    (texts, dropped), problems = parse_labeled_texts(data, encoding=encoding, columns=columns)
    require_readable(problems)
    if not texts:
        names = " and ".join(columns)
        raise DataError(f"{texts.path}: the file is empty.  Expected rows with {names}.")
    return texts, dropped


def parse_labeled_texts(
    data: DataSource | str | Path, *, encoding: str = "utf-8", columns: tuple[str, str] = COLUMNS
) -> Parsed[tuple[LabeledTexts, list[DroppedRow]]]:
    """Read texts with labels and describe what cannot be read, in one pass.

    Args:
        data: As for `read_labeled_texts`.
        encoding: As for `read_labeled_texts`.
        columns: As for `read_labeled_texts`.

    Raises:
        DataError: The file is missing or cannot be opened.
        ConfigError: The encoding is unknown.
    """
    records, problems = read_records(data, columns, encoding=encoding)
    rows = LabeledTexts(path=as_path(data), texts=[], labels=[], lines=[])
    dropped = []
    for line, (text, label) in records:
        if not text.strip() or not label.strip():
            reason = "empty text" if label.strip() else "empty label"
            dropped.append(DroppedRow(line=line, reason=reason, text=text))
            continue
        rows.texts.append(text.strip())
        rows.labels.append(label.strip())
        rows.lines.append(line)
    return Parsed((rows, dropped), problems)
