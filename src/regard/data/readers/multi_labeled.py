"""Texts with a column of 0 and 1 for every label, from JSONL, CSV, TSV or Parquet.

comment_text,toxic,insult
"Thank you, that helped.",0,0
"You idiot.",1,1
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.dropped_rows import DroppedRow
from regard.data.multi_labeled_text import MultiLabeledTexts
from regard.data.readers.labeled import describe_no_usable_rows
from regard.data.readers.number_columns import is_missing
from regard.data.readers.problems import RowProblem, require_readable
from regard.data.readers.source import SourceLike, as_path
from regard.data.readers.tables import read_records
from regard.errors import ConfigError, DataError

FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
}
"""Whether a row has a label, by its cell in lower case."""
_UNKNOWN = ("-1", "-1.0")  # of rows that nobody labeled, as in the test data of Jigsaw's


def read_multi_labeled_texts(
    data: SourceLike, columns: Sequence[str], *, encoding: str = "utf-8"
) -> tuple[MultiLabeledTexts, list[DroppedRow]]:
    """Read texts with a column for every label.

    A row without labels is a row like any other.

    Args:
        data: An open source, or the name of a file; ``-`` is standard input.
        columns: Name of the column of texts, and of that of each label.
        encoding: Encoding of the file.

    Returns:
        The rows, and those that were dropped for an empty text, a label that is missing or -1, or
        since their annotators rejected them.

    Raises:
        ConfigError: A column is named twice.
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"data.columns: {repeated} is named twice.  Name each column once.")
    names = columns[1:]
    rows = MultiLabeledTexts(path=as_path(data), texts=[], labels=[], lines=[], label_sets=[])
    dropped: list[DroppedRow] = []
    problems: list[RowProblem] = []
    for line, (text, *cells) in read_records(data, columns, encoding=encoding, rejected=dropped):
        flags = [FLAGS.get(cell.strip().casefold()) for cell in cells]
        if None in flags:
            index = flags.index(None)
            name, cell = names[index], cells[index].strip()
            if is_unlabeled(cell):
                reason = f"no value for a label ({cell or 'empty'})"
                dropped.append(DroppedRow(line=line, reason=reason, text=text))
            else:
                problems.append(_describe_other_value(rows.path, line, name, cell, text))
        elif not text.strip():
            dropped.append(DroppedRow(line=line, reason="empty text", text=text))
        else:
            labels = tuple(name for name, flag in zip(names, flags, strict=True) if flag)
            rows.append(line, text, labels)
    require_readable(problems)
    if not rows:
        raise DataError(describe_no_usable_rows(data, dropped, columns))
    return rows, dropped


def is_unlabeled(cell: str) -> bool:
    """Return whether a cell says that nobody looked whether a text has a label.

    >>> is_unlabeled("-1"), is_unlabeled(""), is_unlabeled("0")
    (True, True, False)
    """
    return cell.strip() in _UNKNOWN or is_missing(cell)


def _describe_other_value(path: str, line: int, name: str, cell: str, text: str) -> RowProblem:
    """Return the problem of a cell that is not 0 or 1."""
    reason = f'column {name} holds "{cell}", 0 or 1 expected: whether the text has that label.'
    remedy = "Labels in one column?  Name two: `data.columns=TEXT,LABEL`"
    try:
        if 0 < float(cell) < 1:
            remedy = "A fraction of annotators?  Round it to 0 or 1 first."
    except ValueError:
        pass
    return RowProblem(path, line, reason, text, remedy)
