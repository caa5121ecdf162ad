"""Texts with any number of labels in one column: lists, or names between separators.

{"text": "Thank you, that helped.", "labels": []}
{"text": "You idiot.", "labels": ["toxic", "insult"]}

text,labels
You idiot.,toxic|insult
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from regard.data.dropped_rows import DroppedRow
from regard.data.multi_labeled_text import MultiLabeledTexts
from regard.data.readers.json_lines import text_of_value
from regard.data.readers.labeled import describe_no_usable_rows
from regard.data.readers.number_columns import is_missing
from regard.data.readers.printed_values import parse_printed
from regard.data.readers.problems import RowProblem, require_readable
from regard.data.readers.source import DataSource, SourceLike, as_path
from regard.data.readers.tables import read_records, sample_records
from regard.errors import DataError

_FRACTION = re.compile(r"-?\d*\.\d+(e-?\d+)?")  # such as a probability
_NUM_SAMPLED = 200  # rows by which lists of labels are recognized


def read_label_sets(
    data: SourceLike, columns: tuple[str, str], *, encoding: str = "utf-8", separator: str = ""
) -> tuple[MultiLabeledTexts, list[DroppedRow]]:
    """Read texts with their labels in one column.

    A row with an empty list has no labels, and so has one with an empty cell among names between
    separators, as for ``str.get_dummies`` of pandas and ``MultiLabelBinarizer`` of scikit-learn.
    Among lists an empty cell was not labeled, and NA never was.

    Args:
        data: An open source, or the name of a file; ``-`` is standard input.
        columns: Names of the columns of texts and of labels; synonyms of them are found, too.
        encoding: Encoding of the file.
        separator: What is between the labels of a cell, such as ``|``; empty where all are lists.

    Returns:
        The rows, and those that were dropped for an empty text, a cell without labels, or since
        their annotators rejected them.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    rows = MultiLabeledTexts(path=as_path(data), texts=[], labels=[], lines=[], label_sets=[])
    dropped: list[DroppedRow] = []
    problems: list[RowProblem] = []
    records = read_records(data, columns, encoding=encoding, takes_lists=True, rejected=dropped)
    for line, (text, cell) in records:
        labels = _labels_of(cell, separator)
        if labels is None and is_missing(cell):
            reason = f"no value for a label ({cell.strip() or 'empty'})"
            dropped.append(DroppedRow(line=line, reason=reason, text=text))
        elif labels is None:
            problems.append(_describe_other_value(rows.path, line, columns[1], cell, text))
        elif not text.strip():
            dropped.append(DroppedRow(line=line, reason="empty text", text=text))
        else:
            rows.append(line, text, labels)
    require_readable(problems)
    if separator and rows and not any(rows.label_sets):
        raise DataError(f"{rows.path}: no row has a label: all cells of {columns[1]} are empty.")
    if not rows:
        raise DataError(describe_no_usable_rows(data, dropped, columns))
    return rows, dropped


def holds_label_sets(source: DataSource, columns: Sequence[str], encoding: str = "utf-8") -> bool:
    """Return whether a column has lists of labels behind that of the texts, by the first rows.

    Every cell that is filled is a list, without a value twice, and one has several. Lists of 0 and
    1 of one length have a 1 for each label, and are none; nor are fractions.

    Args:
        source: The data.
        columns: Names of the columns of texts and labels.
        encoding: Encoding of the file.
    """
    rows = sample_records(
        source, columns, encoding=encoding, takes_lists=True, num_rows=_NUM_SAMPLED
    )
    cells = [cell for _, cell in rows if not is_missing(cell)]
    lists = [items for cell in cells if (items := _items_of(cell)) is not None]
    if len(lists) < len(cells) or not any(len(items) > 1 for items in lists):
        return False
    have_one_length = len({len(items) for items in lists}) == 1
    are_flags = have_one_length and all({*items} <= {"0", "1"} for items in lists)
    have_repeats = any(len({*items}) < len(items) for items in lists)
    have_fractions = any(_FRACTION.fullmatch(item) for items in lists for item in items)
    return not (are_flags or have_repeats or have_fractions)


def _items_of(cell: str) -> list[str] | None:
    """Return the labels of a list as JSON, Python or NumPy print it; None of any other cell.

    >>> _items_of('["a", "b"]'), _items_of("['a' 'b']"), _items_of("[3]"), _items_of("[see below]")
    (['a', 'b'], ['a', 'b'], ['3'], None)
    """
    text = cell.strip()
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
        return None
    value = parse_printed(text)
    if isinstance(value, dict) and value.keys() == {"choices"}:
        value = value["choices"]
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        return None
    return list(filter(None, map(text_of_value, value)))


def _labels_of(cell: str, separator: str) -> tuple[str, ...] | None:
    """Return the labels of a cell, each once; None where it has not got a list, nor names."""
    labels = _items_of(cell)
    if labels is None and separator and (not is_missing(cell) or not cell.strip()):
        labels = list(filter(None, map(str.strip, cell.split(separator))))
    return None if labels is None else tuple(dict.fromkeys(labels))


def _describe_other_value(path: str, line: int, name: str, cell: str, text: str) -> RowProblem:
    """Return the problem of a cell that is not a list."""
    reason = f'column {name} holds "{cell.strip()}", a list of labels expected, such as ["a", "b"].'
    remedy = "Names between separators, such as a|b?  `data.label_separator='|'`"
    return RowProblem(path, line, reason, text, remedy)


__all__ = ["holds_label_sets", "read_label_sets"]
