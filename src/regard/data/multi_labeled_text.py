"""Texts that have any number of labels each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_text import LabeledTexts
from regard.data.listing import list_first, pluralize
from regard.errors import DataError, did_you_mean

NO_LABEL = "no label"
"""How a text without labels reads."""
_NUM_NAMED = 10  # labels in a message


class MultiLabeledTexts(LabeledTexts, frozen=True, kw_only=True):
    """Texts with any number of labels.

    Args:
        label_sets: The labels of each text; `labels` has them in words.
    """

    label_sets: list[tuple[str, ...]]

    def append(self, line: int, text: str, labels: tuple[str, ...]) -> None:
        """Add a text of a line, with its labels."""
        self.texts.append(text.strip())
        self.labels.append(describe_labels(labels))
        self.lines.append(line)
        self.label_sets.append(labels)

    def targets(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Return 1 for each label that a text has, ``[texts, labels]``, in the order of `names`."""
        index_of = {name: index for index, name in enumerate(names)}
        targets = np.zeros((len(self), len(names)), np.uint8)
        for row, labels in enumerate(self.label_sets):
            targets[row, [index_of[label] for label in labels]] = 1
        return targets


def describe_labels(labels: Sequence[str]) -> str:
    """Return labels of one text in words.

    >>> describe_labels(["toxic", "insult"]), describe_labels([])
    ('toxic, insult', 'no label')
    """
    return ", ".join(labels) or NO_LABEL


def check_labels_occur(rows: MultiLabeledTexts, names: Sequence[str]) -> None:
    """Check that texts differ in some label.

    Raises:
        DataError: Every label is 0 in all rows, or 1.
    """
    targets = rows.targets(names)
    if not (targets != targets[:1]).any():
        raise DataError(
            f"{rows.path}: every row has {rows.labels[0]}.  A classifier needs rows that differ.  "
            f"Labels: {list_first(names, _NUM_NAMED)}."
        )


def check_known_label_sets(rows: MultiLabeledTexts, names: Sequence[str], train_path: str) -> None:
    """Check that the labels of rows are among those in training.

    Raises:
        DataError: Some are not; the message has the first of their rows, and the labels that are
            known.
    """
    known = set(names)
    for row, labels in enumerate(rows.label_sets):
        if unknown := [label for label in labels if label not in known]:
            raise DataError(
                f'{rows.locate(row)}: the label "{unknown[0]}" is not in {train_path}.'
                f"{did_you_mean(unknown[0], names)}  Known: {list_first(names, _NUM_NAMED)}."
            )


def describe_label_counts(rows: MultiLabeledTexts, names: Sequence[str], remedy: str) -> list[str]:
    """Return what looks wrong about the labels of training rows, a sentence each.

    Args:
        rows: The rows.
        names: All labels.
        remedy: How a classifier that always gives one label is trained.
    """
    targets = rows.targets(names)
    counts = targets.sum(0, dtype=np.int64)
    warnings = []
    for form, is_met in (
        ("{} no row in training", counts == 0),
        ("{} every row in training", counts == len(rows)),
    ):
        if few := [name for name, is_one in zip(names, is_met, strict=True) if is_one]:
            have = form.format(pluralize(len(few), "label has", "labels have"))
            warnings.append(f"{have}: {list_first(few, _NUM_NAMED)}.")
    if (targets.sum(1) == 1).all():
        warnings.append(f"Every text has exactly one of the labels.  {remedy}")
    return warnings
