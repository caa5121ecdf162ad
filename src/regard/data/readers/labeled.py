"""Texts with labels, from JSONL, CSV or TSV."""

from __future__ import annotations

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_text import COLUMNS, LabeledTexts
from regard.data.readers.source import SourceLike, as_source
from regard.data.readers.tables import as_path, describe_no_rows, read_records
from regard.errors import DataError


def read_labeled_texts(
    data: SourceLike, *, encoding: str = "utf-8", columns: tuple[str, str] = COLUMNS
) -> tuple[LabeledTexts, list[DroppedRow]]:
    """Read texts and labels from JSONL, or from CSV or TSV with a header.

    Args:
        data: An open source, or the name of a file; ``-`` is standard input.
        encoding: Encoding of the file.
        columns: Names of the columns of texts and of labels; synonyms of them are found, too.

    Returns:
        The rows, and those that were dropped for an empty text or label.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    rows = LabeledTexts(path=as_path(data), texts=[], labels=[], lines=[])
    dropped = []
    for line, (text, label) in read_records(data, columns, encoding=encoding):
        empty = [name for name, cell in (("label", label), ("text", text)) if not cell.strip()]
        if empty:
            dropped.append(DroppedRow(line=line, reason=f"empty {empty[0]}", text=text))
            continue
        rows.texts.append(text.strip())
        rows.labels.append(label.strip())
        rows.lines.append(line)
    if not rows:
        cause = describe_no_rows(as_source(data))
        if dropped:
            cause = f"no usable row: all have an {' or an '.join(count_reasons(dropped))}."
        raise DataError(f"{rows.path}: {cause}  Expected rows with {' and '.join(columns)}.")
    return rows, dropped
