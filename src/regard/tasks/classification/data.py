"""Texts with labels: read, split, and checked against each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from msgspec.structs import replace

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import (
    COLUMNS,
    LabeledTexts,
    describe_contradictions,
    describe_rare_labels,
    join_labels,
    label_names,
    refuse_swapped,
)
from regard.data.labels import (
    describe_alike,
    describe_joined,
    describe_missing_values,
    describe_scale,
    describe_spellings,
    distinct_labels,
    spell_labels,
)
from regard.data.listing import describe_lines
from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.source import DataSource
from regard.data.readers.table_inspection import inspect_records
from regard.data.splits import count_near_duplicates
from regard.errors import DataError
from regard.setup.config import DataConfig, two_columns
from regard.setup.dataset import Dataset, ReadOptions, TrainingRow
from regard.setup.facts import DataDetails, DataFacts
from regard.setup.held_out import split_rows

L = TypeVar("L", LabeledTexts, LabeledInputs)
"""Texts or inputs with labels."""


class ClassificationData(Dataset[L], kw_only=True):
    """Texts or inputs with labels.

    Args:
        labels: Names of the labels.
        notes: What was found while the data was read, for the warnings.
    """

    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def contents(self) -> str:
        """The number of labels in words."""
        return f"{len(self.labels)} labels"

    @property
    def title(self) -> str:
        """What a model of this data is, in words."""
        return f"A classifier of {len(self.labels)} labels"

    def warnings(self) -> list[str]:
        """Name labels that can hardly be learned, of nearly every row, of one, of none; "NaN"."""
        labels = [label for part in (self.train, self.valid, self.test) for label in part.labels]
        rare = describe_rare_labels(labels, self.train.labels, self.read_as.columns)
        unclear = [
            *describe_joined(labels),
            *describe_missing_values(labels),
            *describe_alike(labels),
            *describe_scale(labels),
        ]
        return [*rare, *unclear, *self.notes]

    def example(self) -> str:
        """Return one of the validation inputs as an argument of a command."""
        raise NotImplementedError


class TextClassificationData(ClassificationData[LabeledTexts], kw_only=True):
    """Texts with labels."""

    @property
    def unit(self) -> str:
        """What is counted."""
        return "texts"

    def facts(self) -> DataFacts:
        """Return the characters of the training texts, and the labels."""
        return DataFacts(num_chars=sum(map(len, self.train.texts)), labels=self.labels)

    def details(self) -> DataDetails:
        """Return the number of near duplicates."""
        num_pairs = sum(map(count_near_duplicates, (self.train, self.valid, self.test)))
        return DataDetails(num_near_duplicates=num_pairs)

    def texts(self) -> list[str]:
        """Return the training texts."""
        return self.train.texts

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training rows are in the file."""
        return describe_lines([self.train.lines[row] for row in rows])

    def training_row(self, row: int) -> TrainingRow:
        """Return a training text with its label."""
        return TrainingRow(self.locate([row]), self.train.texts[row], self.train.labels[row])

    def example(self) -> str:
        """Return the first words of a validation text."""
        return " ".join(self.valid.texts[0].split()[:8]).replace('"', "")


def read_text_classification_data(options: ReadOptions) -> TextClassificationData:
    """Return the texts with labels of a run, read and split; named files stay whole.

    Raises:
        DataError: There are no texts, or they cannot be used.
    """
    data = options.data
    train_source = options.training_source("reviews.jsonl")
    texts, dropped = read_labeled_texts_of(train_source, data)
    notes = describe_spellings(texts.labels)
    texts = with_spelling(texts, data.labels or distinct_labels(texts.labels))
    labels = label_names(texts, columns_of(data))
    refuse_swapped(texts, columns_of(data))
    notes += describe_contradictions(texts)

    def read_own(source: DataSource) -> LabeledTexts:
        return with_spelling(read_labeled_texts_of(source, data)[0], labels)

    parts = split_rows(options, texts, read_own)
    all_labels = join_labels(labels, (parts.valid, parts.test), texts.path)
    return TextClassificationData(
        path=texts.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*dropped, *parts.dropped],
        labels=all_labels,
        notes=tuple(notes),
        read_as=inspect_records(
            train_source, columns_of(data), "labelled text", encoding=data.encoding
        ),
    )


def with_spelling(rows: L, names: Collection[str]) -> L:
    """Return rows with their labels in the spelling of some names."""
    return replace(rows, labels=spell_labels(rows.labels, names))


def columns_of(data: DataConfig) -> tuple[str, str]:
    """Return the names of the columns of text and label."""
    return two_columns(data, *COLUMNS) or COLUMNS


def read_labeled_texts_of(
    source: DataSource | str, data: DataConfig
) -> tuple[LabeledTexts, list[DroppedRow]]:
    """Return the rows with text and label, read as the settings say, and those that lack one.

    Raises:
        DataError: The file cannot be read.
    """
    return read_labeled_texts(source, encoding=data.encoding, columns=columns_of(data))


def exclude_repeated(rows: L, repeated: Sequence[int], train_path: str, *, drop: bool) -> L:
    """Return held-out rows without those that are also in the training data.

    Args:
        rows: The held-out rows.
        repeated: Indices of those in the training data.
        train_path: Path of the training data, for the message.
        drop: Whether to leave them out.

    Raises:
        DataError: There are some and `drop` is false, or nothing is left.
    """
    if not repeated:
        return rows
    if not drop:
        raise DataError(
            f"{rows.path}: {len(repeated):,} of {len(rows):,} inputs are also in {train_path}.  "
            "Scores would be too good.  Drop them: `data.drop_overlap=true`;  "
            "keep: `data.allow_overlap=true`"
        )
    new_rows = sorted(set(range(len(rows))) - set(repeated))
    if not new_rows:
        raise DataError(
            f"{rows.path}: every input is also in {train_path}: none is left.  "
            "Name another, or keep them: `data.allow_overlap=true`"
        )
    return rows.select(new_rows)
