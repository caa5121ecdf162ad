"""Texts or inputs with labels, split into training, validation and test without leakage."""

from __future__ import annotations

from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts
from regard.data.splits import overlap, split


def split_labeled_texts(
    rows: LabeledTexts, *, seed: int, valid_rows: int | None, test_rows: int | None
) -> tuple[LabeledTexts, LabeledTexts, LabeledTexts]:
    """Divide rows into training, validation and test; equal texts stay together.

    Args:
        rows: As read.
        seed: Of the choice.
        valid_rows: To validate on, about; None is 2.5 % of the rows.
        test_rows: To test on, likewise.

    Raises:
        DataError: There are too few rows.
    """
    parts = split(rows.as_pairs(), seed=seed, valid_rows=valid_rows, test_rows=test_rows)
    row_of = {line: row for row, line in enumerate(rows.lines)}
    train, valid, test = (
        rows.select(row_of[line] for line in part.lines)
        for part in (parts.train, parts.valid, parts.test)
    )
    return train, valid, test


def repeated(train: LabeledTexts, held_out: LabeledTexts) -> list[int]:
    """Return the rows of a held-out part whose text stands in training too."""
    return [row for row, _ in overlap(train.as_pairs(), held_out.as_pairs())]


def split_inputs(
    inputs: LabeledInputs, *, seed: int, valid_rows: int | None, test_rows: int | None
) -> tuple[LabeledInputs, LabeledInputs, LabeledInputs, list[DroppedRow]]:
    """Divide inputs into training, validation and test; equal inputs stay together.

    Args:
        inputs: As read.
        seed: Of the choice.
        valid_rows: To validate on, about; None is 2.5 % of the inputs.
        test_rows: To test on, likewise.

    Returns:
        The parts, and the inputs that were left out since they would have stood in two.

    Raises:
        DataError: There are too few inputs.
    """
    parts = split(inputs.as_pairs(), seed=seed, valid_rows=valid_rows, test_rows=test_rows)
    train, valid, test = (
        inputs.select(line - 1 for line in part.lines)
        for part in (parts.train, parts.valid, parts.test)
    )
    dropped = [
        DroppedRow(line=drop.line, reason=drop.reason, text=inputs.locations[drop.line - 1])
        for drop in parts.dropped
    ]
    return train, valid, test, dropped


def inputs_in_training(train: LabeledInputs, held_out: LabeledInputs) -> list[int]:
    """Return the rows of a held-out part that stand in training too."""
    return [row for row, _ in overlap(train.as_pairs(), held_out.as_pairs())]
