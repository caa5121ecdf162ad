"""Texts with labels, as a run reads them: cleaned, split, and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_text import COLUMNS, LabeledTexts, check_known_labels, label_names
from regard.data.listing import describe_lines
from regard.data.readers.labeled import read_labeled_texts
from regard.data.splits import check_overlap, overlap, split
from regard.errors import DataError, NextStep
from regard.setup.base_task import ReadOptions
from regard.setup.config import DataConfig
from regard.setup.facts import DataFacts
from regard.training.events import DataSummary


class ClassificationData(msgspec.Struct, kw_only=True):
    """The data of a run.

    Args:
        path: File as named.
        train: Rows to learn from.
        valid: Rows that choose the best weights.
        test: Rows held out for the final figures; may be empty.
        dropped: Rows left out, with the reason.
        labels: Names of the labels.
    """

    path: str
    train: LabeledTexts
    valid: LabeledTexts
    test: LabeledTexts
    dropped: list[DroppedRow]
    labels: tuple[str, ...]

    def facts(self) -> DataFacts:
        """Return the size, in characters of the training texts, and the labels."""
        return DataFacts(num_chars=sum(map(len, self.train.texts)), labels=self.labels)

    def summary(self) -> DataSummary:
        """Describe the texts in an event."""
        return DataSummary(
            path=self.path,
            unit="texts",
            languages=f"{len(self.labels)} labels",
            languages_are_guessed=False,
            num_train=len(self.train),
            num_valid=len(self.valid),
            num_test=len(self.test),
            dropped=count_reasons(self.dropped),
        )

    def texts(self) -> list[str]:
        """Return the training texts."""
        return self.train.texts

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training rows are in the file."""
        return describe_lines([self.train.lines[row] for row in rows])

    def numbers(self, rows: LabeledTexts) -> list[int]:
        """Return the number of each row's label."""
        number_of = {label: number for number, label in enumerate(self.labels)}
        return [number_of[label] for label in rows.labels]


def read_classification_data(options: ReadOptions) -> ClassificationData:
    """Read texts with labels, and hold out what the options do not name.

    Raises:
        DataError: There are none, or they cannot be used.
    """
    data = options.data
    if data.path is None:
        raise DataError(
            "no data.",
            NextStep("Name a file", "train", ("reviews.jsonl",), (("output", "FOLDER"),)),
        )
    columns = columns_of(data)
    rows, dropped = _read(options, "path")
    labels = label_names(rows, columns)
    parts = split(
        rows,
        seed=options.seed,
        valid_rows=0 if data.valid else None,
        test_rows=0 if data.test else None,
    )
    train, valid, test = parts.train, parts.valid, parts.test
    if data.valid:
        valid = _read_held_out(options, "valid", train, labels)
    if data.test:
        test = _read_held_out(options, "test", train, labels)
    return ClassificationData(
        path=rows.path,
        train=train,
        valid=valid,
        test=test,
        dropped=[*dropped, *parts.dropped],
        labels=labels,
    )


def columns_of(data: DataConfig) -> tuple[str, str]:
    """Return the names of the columns of text and label."""
    return (data.columns[0], data.columns[1]) if data.columns else COLUMNS


def _read(options: ReadOptions, name: str) -> tuple[LabeledTexts, list[DroppedRow]]:
    source, data = options.source(name), options.data
    assert source is not None
    return read_labeled_texts(source, encoding=data.encoding, columns=columns_of(data))


def _read_held_out(
    options: ReadOptions, name: str, train: LabeledTexts, labels: tuple[str, ...]
) -> LabeledTexts:
    rows, _ = _read(options, name)
    check_known_labels(rows, labels, train.path)
    if options.data.drop_overlap:
        shared = overlap(train, rows)
        return rows.select(row for row in range(len(rows)) if row not in shared)
    if not options.data.allow_overlap:
        check_overlap(train, rows)
    return rows
