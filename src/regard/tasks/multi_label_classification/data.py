"""Texts with any number of labels: read, split, and checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import chain
from typing import cast

import numpy as np

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_text import COLUMNS, LabeledTexts, describe_contradictions
from regard.data.labels import SEPARATORS, describe_alike
from regard.data.listing import pluralize
from regard.data.multi_labeled_text import (
    MultiLabeledTexts,
    check_labels_occur,
    describe_label_counts,
)
from regard.data.readers.label_sets import holds_label_sets, read_label_sets
from regard.data.readers.multi_labeled import read_multi_labeled_texts
from regard.data.readers.number_columns import is_missing
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.table_inspection import inspect_records
from regard.data.readers.tables import sample_records
from regard.errors import ConfigError
from regard.setup.config import DataConfig, two_columns
from regard.setup.dataset import ReadOptions
from regard.setup.facts import DataDetails, DataFacts
from regard.setup.held_out import split_rows
from regard.tasks.classification.data import TextClassificationData

_NUM_SAMPLED = 200  # rows by which the layout of a file is recognized
_SEPARATOR = "Is `data.label_separator` what is between them?"
_ONE_COLUMN = (
    "A classifier that always gives one: write its name into one column, and name that: "
    "`data.columns=TEXT,LABEL`"
)


class MultiLabelData(TextClassificationData, kw_only=True):
    """Texts with any number of labels.

    Args:
        one_label_remedy: What to do where every text has one label.
    """

    one_label_remedy: str

    @property
    def title(self) -> str:
        """What a model of this data is, in words."""
        return f"A classifier that gives a text any of {len(self.labels)} labels"

    def warnings(self) -> list[str]:
        """Name labels that no training row has, or all have, and those that look the same."""
        train = cast("MultiLabeledTexts", self.train)
        counts = describe_label_counts(train, self.labels, self.one_label_remedy)
        return [*counts, *describe_alike(self.labels), *self.notes]

    def facts(self) -> DataFacts:
        """Return the characters of the training texts, and the labels."""
        num_chars = sum(map(len, self.train.texts))
        return DataFacts(num_chars=num_chars, labels=self.labels, multi_label=True)

    def details(self) -> DataDetails:
        """Return the rows of each label, and those without one, in all parts."""
        details = super().details()
        parts = [cast("MultiLabeledTexts", part) for part in (self.train, self.valid, self.test)]
        totals = np.sum([part.targets(self.labels).sum(0, dtype=int) for part in parts], axis=0)
        counts = dict(zip(self.labels, totals.tolist(), strict=True))
        num_without = sum(not labels for part in parts for labels in part.label_sets)
        text = ", ".join(f"{label} {count:,}" for label, count in counts.items())
        return DataDetails(
            fields={"labels": counts, "without_labels": num_without},
            lines=[("Labels", f"{text}   without {num_without:,}")],
            num_near_duplicates=details.num_near_duplicates,
        )


def read_multi_label_data(options: ReadOptions) -> MultiLabelData:
    """Return the texts with labels of a run, read and split; named files stay whole.

    Raises:
        DataError: There are no texts, or they cannot be used.
    """
    data, source = options.data, options.training_source("comments.csv")
    texts, dropped = read_multi_labeled_texts_of(source, data)
    are_columns = len(data.columns) > len(COLUMNS)
    check_labels_occur(texts, data.columns[1:] if are_columns else _names_of(texts))
    parts = split_rows(options, texts, partial(read_held_out_texts, data=data))
    # A label of held-out rows alone is never predicted, so those rows count as errors.
    all_labels = _names_of(parts.train, parts.valid, parts.test)
    columns = data.columns or COLUMNS
    read_as = inspect_records(source, columns, _contents(data), encoding=data.encoding)
    return MultiLabelData(
        path=texts.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*dropped, *parts.dropped],
        labels=data.columns[1:] if are_columns else all_labels,
        one_label_remedy=_ONE_COLUMN if are_columns else _SEPARATOR * bool(data.label_separator),
        notes=(*describe_contradictions(texts), *_describe_empty_cells(texts, data)),
        read_as=read_as,
    )


def read_multi_labeled_texts_of(
    source: DataSource | str, data: DataConfig
) -> tuple[MultiLabeledTexts, list[DroppedRow]]:
    """Return the rows with text and labels, read as the settings say, and those that lack some.

    More than two names are a column for each label. Without names of columns, as for a published
    model, these are ``text`` and the labels where the file has them.

    Raises:
        ConfigError: A separator is set, and there is a column for each label.
        DataError: The file cannot be read.
    """
    if len(data.columns) > len(COLUMNS):
        if data.label_separator:
            raise ConfigError(
                f"data.label_separator={data.label_separator}: between labels in one column; "
                f"data.columns={','.join(data.columns)} names a column for each.  Name two: "
                "`data.columns=TEXT,LABELS`"
            )
        return read_multi_labeled_texts(source, data.columns, encoding=data.encoding)
    own_columns = (COLUMNS[0], *data.labels)
    if not data.columns and not data.label_separator and len(own_columns) > len(COLUMNS):
        source = as_source(source)
        if sample_records(source, own_columns, encoding=data.encoding, num_rows=1):
            return read_multi_labeled_texts(source, own_columns, encoding=data.encoding)
    return read_label_sets(
        source,
        two_columns(data, *COLUMNS) or COLUMNS,
        encoding=data.encoding,
        separator=data.label_separator,
    )


def read_held_out_texts(source: DataSource | str, data: DataConfig) -> MultiLabeledTexts:
    """Return rows that a model is scored on, in the layout of training or in another.

    Where a file lacks the columns of training, it may have lists of labels, or known labels between
    separators.

    Raises:
        ConfigError: The settings do not fit each other.
        DataError: The file cannot be read.
    """
    source = as_source(source)
    if len(data.columns) > len(COLUMNS):
        names = data.columns[1:]
        layouts = [(data.columns[0], COLUMNS[1]), COLUMNS]
        if _sample(source, data.columns, data):
            layouts = []
    else:
        names, layouts = data.labels, [two_columns(data, *COLUMNS) or COLUMNS]
    for columns in layouts:
        separator = _separator_of([cell for _, cell in _sample(source, columns, data)], names)
        if separator or holds_label_sets(source, columns, data.encoding):
            return read_label_sets(source, columns, encoding=data.encoding, separator=separator)[0]
    return read_multi_labeled_texts_of(source, data)[0]


def _sample(source: DataSource, columns: Sequence[str], data: DataConfig) -> list[list[str]]:
    """Return the first rows of a file in some columns; none where it has not got them."""
    return sample_records(source, columns, encoding=data.encoding, num_rows=_NUM_SAMPLED)


def _separator_of(cells: Sequence[str], names: Collection[str]) -> str:
    """Return what is between labels in cells; empty where that leaves a part that is no label.

    >>> _separator_of(["a; b", "c", ""], ["a", "b", "c"]), _separator_of(["a; d"], ["a", "b"])
    (';', '')
    """
    filled = [cell for cell in cells if not is_missing(cell)]
    for separator in SEPARATORS:
        parts = {part.strip() for cell in filled for part in cell.split(separator)}
        if parts and parts <= set(names):
            return separator
    return ""


def _describe_empty_cells(texts: MultiLabeledTexts, data: DataConfig) -> list[str]:
    """Return how empty cells among names between separators were read; empty without any."""
    count = sum(not labels for labels in texts.label_sets) if data.label_separator else 0
    if not count:
        return []
    return [
        f"{pluralize(count, 'row has', 'rows have')} no name in the cell of labels: read as texts "
        "without a label.  If nobody labeled them, write NA there: such rows are left out."
    ]


def _contents(data: DataConfig) -> str:
    """Return what texts with labels are read as, in words."""
    if len(data.columns) > len(COLUMNS):
        return "texts with a column of 0 and 1 for each label"
    if data.label_separator:
        return f"texts with labels separated by {data.label_separator!r}"
    return "texts with lists of labels"


def _names_of(*parts: LabeledTexts) -> tuple[str, ...]:
    """Return the labels of rows, in alphabetical order."""
    label_sets = (cast("MultiLabeledTexts", part).label_sets for part in parts)
    return tuple(sorted({*chain.from_iterable(chain(*label_sets))}))
