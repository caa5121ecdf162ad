"""Texts with labels, from JSONL, CSV or TSV."""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_text import COLUMNS, LabeledTexts
from regard.data.readers.json_lines import describe_several, plain_items
from regard.data.readers.printed_values import parse_printed
from regard.data.readers.problems import RowProblem, require_readable
from regard.data.readers.source import SourceLike, as_path, as_source
from regard.data.readers.tables import describe_no_rows, read_records
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
        The rows, and those that were dropped for an empty text or label, or since their annotators
        rejected them.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    rows = LabeledTexts(path=as_path(data), texts=[], labels=[], lines=[])
    dropped: list[DroppedRow] = []
    problems: list[RowProblem] = []
    records = read_records(data, columns, encoding=encoding, takes_lists=True, rejected=dropped)
    for line, (text, cell) in records:
        labels = _labels_of(cell)
        if len(labels) > 1:
            problems.append(_describe_several_labels(rows.path, line, columns[1], labels, text))
            continue
        label = "".join(labels)
        empty = [name for name, cell in (("label", label), ("text", text)) if not cell.strip()]
        if empty:
            dropped.append(DroppedRow(line=line, reason=f"empty {empty[0]}", text=text))
            continue
        rows.texts.append(text.strip())
        rows.labels.append(label.strip())
        rows.lines.append(line)
    require_readable(problems)
    if not rows:
        raise DataError(describe_no_usable_rows(data, dropped, columns))
    return rows, dropped


def describe_no_usable_rows(
    data: SourceLike, dropped: Sequence[DroppedRow], columns: Sequence[str]
) -> str:
    """Return why a file has no row that can be used.

    Args:
        data: The file.
        dropped: Its rows, all of which were dropped.
        columns: Names of the columns that rows are expected to have.
    """
    cause = describe_no_rows(as_source(data))
    if reasons := count_reasons(dropped):
        cause = f"no usable row: all have {' or '.join(map(_with_article, reasons))}."
    return f"{as_path(data)}: {cause}  Expected rows with {' and '.join(columns)}."


def _describe_several_labels(
    path: str, line: int, column: str, labels: Sequence[str], text: str
) -> RowProblem:
    """Return the problem of a row with several labels where a text has one."""
    remedy = (
        "Keep one of them.  For a classifier that gives a text any number of labels: "
        "`data.multi_label=true`"
    )
    if len({*labels}) < len(labels):
        remedy = "A tag for each word?  Tags of words are for no task here."
    if {*labels} <= {"0", "1"}:
        remedy = (
            "A 1 for each label that it has?  Write each label to a column of its own, and name "
            "all: `data.columns=TEXT,LABEL,LABEL`"
        )
    return RowProblem(path, line, describe_several(column, labels, remedy), text)


def _with_article(reason: str) -> str:
    """Return a reason as what a row has."""
    if reason.startswith(("the", "no ")):
        return reason
    return f"an {reason}" if reason.startswith("empty") else f"a mark ({reason})"


def _labels_of(cell: str) -> list[str]:
    """Return the label in a cell, or those of a list or of choices, as Python or JSON print it.

    >>> _labels_of("good"), _labels_of("['good']"), _labels_of("[good]")
    (['good'], ['good'], ['[good]'])
    """
    if (cell[:1], cell[-1:]) not in (("[", "]"), ("{", "}")):
        return [cell]
    value = parse_printed(cell)
    return [] if value in ([], {"choices": []}) else plain_items(value) or [cell]
