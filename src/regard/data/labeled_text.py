"""Texts with labels, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import PairBatches, TokenRows
from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import DataError

COLUMNS = ("text", "label")


class LabeledTexts(msgspec.Struct, frozen=True, kw_only=True):
    """Texts with their labels.

    Args:
        path: File as named.
        texts: One a row.
        labels: Of each text.
        lines: The 1-based line of each row in its file.
    """

    path: str
    texts: list[str]
    labels: list[str]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Iterable[int]) -> LabeledTexts:
        """Return the rows at the given 0-based indices, in the order given."""
        rows = list(rows)
        return LabeledTexts(
            path=self.path,
            texts=[self.texts[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            lines=[self.lines[row] for row in rows],
        )

    def quote(self, row: int) -> str:
        """Return the text of a row."""
        return self.texts[row]

    def as_pairs(self) -> ParallelCorpus:
        """Return the texts as pairs with themselves: equal texts then share a side."""
        return ParallelCorpus(
            path=self.path, sources=self.texts, targets=self.texts, lines=self.lines
        )


def label_names(rows: LabeledTexts, columns: tuple[str, str] = COLUMNS) -> tuple[str, ...]:
    """List the labels, in alphabetical order.

    Raises:
        DataError: There are fewer than two.
    """
    names = sorted(set(rows.labels))
    if len(names) < 2:
        raise DataError(
            f'{rows.path}: every row has the label "{names[0]}".  A classifier needs two or more.  '
            f"Columns seen: {', '.join(columns)}.  Wrong column? "
            f"`data.columns={columns[0]},NAME`"
        )
    return tuple(names)


def check_known_labels(rows: LabeledTexts, names: Sequence[str], train_path: str) -> None:
    """Refuse rows with labels that training has not.

    Raises:
        DataError: The first such row.
    """
    for label, line in zip(rows.labels, rows.lines, strict=True):
        if label not in names:
            raise DataError(
                f'{rows.path}:{line}: the label "{label}" does not stand in {train_path}.  '
                f"Known: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
            )


class LabeledTextBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of texts.

    Args:
        ids: ``[batch, length]``, padded on the right with 0.
        labels: Number of each text's label, ``[batch]``.
        rows: Row of each text in its data set, ``[batch]``.
    """

    ids: Tensor
    labels: Tensor
    rows: NDArray[np.int64]


class LabeledTextBatches:
    """Batches of texts of about equal length, in a fresh order every epoch.

    Args:
        texts: Token ids of the texts, with what stands around each.
        labels: Number of each text's label.
        batch_tokens: Most tokens in a batch, padding counted; a longer text stands alone.
        seed: Of the order.
        pad_id: Token that pads on the right.
    """

    def __init__(
        self,
        texts: TokenRows,
        labels: Sequence[int],
        *,
        batch_tokens: int,
        seed: int = 0,
        pad_id: int = 0,
    ) -> None:
        self.texts, self.pad_id = texts, pad_id
        self.labels = torch.tensor(labels)
        self._by_length = PairBatches(texts, texts, batch_tokens=batch_tokens, seed=seed)

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return self._by_length.num_tokens

    @property
    def longest(self) -> int:
        """Length of the longest text, in tokens."""
        return self._by_length.longest

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch; as `PairBatches.order`."""
        return self._by_length.order(epoch)

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the rows of batches that cover the data once, sorted by length."""
        return self._by_length.in_sequence()

    def batch(self, rows: NDArray[np.int64]) -> LabeledTextBatch:
        """Build the batch of the given rows."""
        ids = self.texts.pad(rows, fill=self.pad_id)
        return LabeledTextBatch(ids=ids, labels=self.labels[rows], rows=rows)

    def size(self, rows: NDArray[np.int64]) -> int:
        """Count the tokens of some rows."""
        return int(self.texts.lengths[rows].sum())

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """Measure which share of all places, ``[batch, length]``, is padding, 0 to 1."""
        return self._by_length.padding_fraction(batches)
