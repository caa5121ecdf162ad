"""Texts or inputs with labels, split into training, validation and test without leakage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self, TypeVar

from regard.data.dropped_rows import DroppedRow
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.splits import overlap, split


class LabeledRows(Protocol):
    """Rows with labels, such as `LabeledTexts` and `LabeledInputs`."""

    def select(self, rows: Iterable[int]) -> Self:
        """Return the rows at the given 0-based indices, in the order given."""
        ...

    def as_pairs(self) -> ParallelCorpus:
        """Return pairs that share a side where rows are equal; no two have the same line."""
        ...

    def quote(self, row: int) -> str:
        """Return what a report shows of a row that was left out."""
        ...


T = TypeVar("T", bound=LabeledRows)


def split_labeled(
    rows: T, *, seed: int, valid_rows: int | None, test_rows: int | None
) -> tuple[T, T, T, list[DroppedRow]]:
    """Divide rows into training, validation and test; equal rows stay together.

    Args:
        rows: As read.
        seed: Of the choice.
        valid_rows: To validate on, about; None is 2.5 % of the rows.
        test_rows: To test on, likewise.

    Returns:
        The parts, and the rows that were left out since they would have been in two.

    Raises:
        DataError: There are too few rows.
    """
    pairs = rows.as_pairs()
    parts = split(pairs, seed=seed, valid_rows=valid_rows, test_rows=test_rows)
    row_of_line = {line: row for row, line in enumerate(pairs.lines)}
    train, valid, test = (
        rows.select(row_of_line[line] for line in part.lines)
        for part in (parts.train, parts.valid, parts.test)
    )
    dropped = [
        DroppedRow(line=drop.line, reason=drop.reason, text=rows.quote(row_of_line[drop.line]))
        for drop in parts.dropped
    ]
    return train, valid, test, dropped


def rows_in_training(train: LabeledRows, held_out: LabeledRows) -> list[int]:
    """Return the rows of a held-out part that are in training too, from 0."""
    return [row for row, _ in overlap(train.as_pairs(), held_out.as_pairs())]
