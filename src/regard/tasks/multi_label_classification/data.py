"""Texts with any number of labels: read, split, and checked."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_text import COLUMNS, describe_contradictions
from regard.data.labels import describe_alike
from regard.data.multi_labeled_text import (
    MultiLabeledTexts,
    check_labels_occur,
    describe_label_counts,
)
from regard.data.readers.multi_labeled import read_multi_labeled_texts
from regard.data.readers.source import DataSource
from regard.data.readers.table_inspection import inspect_records
from regard.errors import ConfigError
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.setup.facts import DataDetails, DataFacts
from regard.setup.held_out import split_rows
from regard.tasks.classification.data import TextClassificationData

_CONTENTS = "texts with a column of 0 and 1 for each label"


class MultiLabelData(TextClassificationData, kw_only=True):
    """Texts with any number of labels."""

    @property
    def title(self) -> str:
        """What a model of this data is, in words."""
        return f"A classifier that gives a text any of {len(self.labels)} labels"

    def warnings(self) -> list[str]:
        """Name labels that no training row has, or all have, and those that look the same."""
        train = cast("MultiLabeledTexts", self.train)
        counts = describe_label_counts(train, self.labels)
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
        ConfigError: No columns of labels are named.
        DataError: There are no texts, or they cannot be used.
    """
    data, source = options.data, options.training_source("comments.csv")
    if len(data.columns) <= len(COLUMNS):
        raise ConfigError(
            "data.multi_label=true: several labels are columns of 0 and 1 behind that of the text, "
            "all named: `data.columns=TEXT,LABEL,LABEL`"
        )
    texts, dropped = read_multi_labeled_texts_of(source, data)
    labels = data.columns[1:]
    check_labels_occur(texts, labels)
    read_own = partial(_read_rows, data=data)
    parts = split_rows(options, texts, read_own)
    read_as = inspect_records(source, data.columns, _CONTENTS, encoding=data.encoding)
    return MultiLabelData(
        path=texts.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*dropped, *parts.dropped],
        labels=labels,
        notes=tuple(describe_contradictions(texts)),
        read_as=read_as,
    )


def read_multi_labeled_texts_of(
    source: DataSource | str, data: DataConfig
) -> tuple[MultiLabeledTexts, list[DroppedRow]]:
    """Return the rows with text and labels, read as the settings say, and those that lack some.

    Without names of columns, as for a published model, they are ``text`` and the labels.

    Raises:
        DataError: The file cannot be read.
    """
    columns = data.columns or (COLUMNS[0], *data.labels)
    return read_multi_labeled_texts(source, columns, encoding=data.encoding)


def _read_rows(source: DataSource, data: DataConfig) -> MultiLabeledTexts:
    return read_multi_labeled_texts_of(source, data)[0]
