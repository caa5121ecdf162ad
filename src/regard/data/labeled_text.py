"""Texts with labels, and batches of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import LengthBatches, TokenRows
from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_inputs import LabeledInputs
from regard.data.listing import list_first, pluralize, shorten_line
from regard.data.rows import Rows
from regard.errors import DataError, did_you_mean

COLUMNS = ("text", "label")
_NUM_NAMED = 10  # labels in a message
_LONGEST_NAME = 60  # characters of a label in a message
_LONGER = 2  # times the length of texts that labels have which are the texts


class LabeledTexts(Rows, frozen=True, kw_only=True):
    """Texts with their labels.

    Args:
        path: File as named.
        texts: One text a row.
        labels: Label of each text.
        lines: 1-based line of each row in its file.
    """

    texts: list[str]
    labels: list[str]
    lines: list[int]

    def keys(self) -> tuple[list[str], list[str]]:
        """Return the texts twice: equal texts must not be in different parts."""
        return self.texts, self.texts

    def describe(self, row: int) -> str:
        """Return a text itself."""
        return self.texts[row]

    def locate(self, row: int) -> str:
        """Return where a text is, for messages."""
        return f"{self.path}:{self.lines[row]}"

    def drop(self, row: int, reason: str) -> DroppedRow:
        """Return the entry of a row that was left out."""
        return DroppedRow(line=self.lines[row], reason=reason, text=self.texts[row])


def label_names(rows: LabeledTexts, columns: tuple[str, str] = COLUMNS) -> tuple[str, ...]:
    """Return the labels in alphabetical order; raise `DataError` if there are fewer than two."""
    names = sorted(set(rows.labels))
    if len(names) < 2:
        raise DataError(
            f'{rows.path}: every row has the label "{names[0]}".  A classifier needs two or more.  '
            f"Columns seen: {', '.join(columns)}.  Wrong column? "
            f"`data.columns={columns[0]},NAME`"
        )
    return tuple(names)


def refuse_swapped(rows: LabeledTexts, columns: tuple[str, str]) -> None:
    """Check that the columns of texts and of labels are not taken for each other.

    They are where most labels occur once and are much longer than the texts, of which there are
    few: what is read as the texts are the labels.

    Args:
        rows: All rows.
        columns: Names of the columns of texts and of labels.

    Raises:
        DataError: They are.
    """
    texts, labels = set(rows.texts), set(rows.labels)
    is_shorter = _LONGER * _num_chars(texts) / len(texts) < _num_chars(labels) / len(labels)
    if is_shorter and 2 * len(labels) > len(rows) and 2 * len(texts) <= len(labels):
        text, label = columns
        raise DataError(
            f"{rows.path}: text and label look swapped: column {text}, read as the text, has "
            f"{pluralize(len(texts), 'value')}, and column {label}, read as the label, "
            f"{len(labels):,} longer ones.  In this order: `data.columns={label},{text}`"
        )


def _num_chars(texts: Iterable[str]) -> int:
    return sum(map(len, texts))


def describe_rare_labels(
    labels: Sequence[str], train_labels: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """Return what looks wrong about the labels of data.

    Args:
        labels: Labels of all rows.
        train_labels: Labels of the rows in training.
        columns: Names of the columns, the last is that of labels; empty where there are none.
    """
    warnings, counts = [], Counter(labels)
    single = sorted(label for label, count in counts.items() if count == 1)
    if 2 * len(counts) > len(labels):
        names = (*columns[:-1], "NAME")
        remedy = f"  Wrong column?  `data.columns={','.join(names)}`" if columns else ""
        warnings.append(
            f"{len(counts):,} labels in {len(labels):,} rows: nearly every row has its own.{remedy}"
        )
    elif single:
        have = pluralize(len(single), "label has", "labels have")
        names = _list_labels(single)
        warnings.append(f"{have} one row: {names}.  Add rows of them.")
    unseen = sorted(counts.keys() - set(train_labels))
    if unseen:
        have = pluralize(len(unseen), "label has", "labels have")
        names = _list_labels(unseen)
        warnings.append(f"{have} no row in training: {names}.")
    return warnings


def _list_labels(labels: Sequence[str]) -> str:
    """Return the first labels in words, each on one line."""
    return list_first([shorten_line(label, _LONGEST_NAME) for label in labels], _NUM_NAMED)


def describe_contradictions(rows: LabeledTexts) -> list[str]:
    """Return a sentence about texts that have several labels; empty where there are none."""
    first: dict[str, int] = {}
    contradicting: dict[str, int] = {}  # the first row of a text with another label
    for row, (text, label) in enumerate(zip(rows.texts, rows.labels, strict=True)):
        if rows.labels[first.setdefault(text, row)] != label:
            contradicting.setdefault(text, row)
    if not contradicting:
        return []
    have = pluralize(len(contradicting), "text has several labels", "texts have several labels")
    text, second = next(iter(contradicting.items()))
    examples = " and ".join(
        f"{rows.labels[row]} in line {rows.lines[row]:,}" for row in (first[text], second)
    )
    return [f"{have} ({examples}).  Do annotators disagree?  Keep one row of each."]


def join_labels(
    names: Sequence[str], held_out: Iterable[LabeledTexts | LabeledInputs], train_path: str
) -> tuple[str, ...]:
    """Return the labels in training and of held-out rows, in alphabetical order.

    A label of held-out rows alone is never predicted, so its rows count as errors.

    Args:
        names: Labels in training.
        held_out: Parts of the data that were named.
        train_path: Path of the training data, for messages.

    Raises:
        DataError: No label of a part is in training.
    """
    all_labels = set(names)
    for part in held_out:
        if set(names).isdisjoint(part.labels):
            check_known_labels(part, names, train_path)
        all_labels |= set(part.labels)
    # Labels that are all known keep their order: numbers are in that of their values.
    return tuple(names) if all_labels == set(names) else tuple(sorted(all_labels))


def check_known_labels(
    rows: LabeledTexts | LabeledInputs, names: Sequence[str], train_path: str
) -> None:
    """Check that the labels of rows are among those in training.

    Raises:
        DataError: Some are not; the message has the first of their rows, how many there are, and
            the labels that are known.
    """
    training_labels = set(names)
    counts = Counter(label for label in rows.labels if label not in training_labels)
    if not counts:
        return
    first = next(row for row, label in enumerate(rows.labels) if label in counts)
    label, folded = rows.labels[first], {name.casefold(): name for name in names}
    unknown = [f"{name} ({count:,})" for name, count in counts.most_common()]
    raise DataError(
        f'{rows.locate(first)}: the label "{label}" is not in {train_path}.'
        f"{did_you_mean(label.casefold(), folded)}  Unknown in {counts.total():,} of "
        f"{len(rows):,} rows: {list_first(unknown, _NUM_NAMED)}.  "
        f"Known: {list_first(names, _NUM_NAMED)}."
    )


class LabeledTextBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of texts.

    Args:
        ids: ``[batch, length]``, padded on the right with 0.
        labels: Number of each text's label, ``[batch]``; of texts with any number of labels 1 for
            each that it has, ``[batch, labels]``.
        rows: Row of each text in its data set, ``[batch]``.
    """

    ids: Tensor
    labels: Tensor
    rows: NDArray[np.int64]


class LabeledTextBatches(LengthBatches):
    """Batches of texts of about equal length, ``[batch, length]``, in a fresh order every epoch.

    Args:
        texts: Token ids of the texts, special tokens included.
        labels: Number of each text's label; or 1 for each label that it has, ``[texts, labels]``.
        truncated: Tokens of each text that were cut off; empty where none were.
        batch_tokens: Maximum number of tokens in a batch, padding counted; a longer text is a batch
            of its own.
        seed: Seed of the order.
        pad_id: Token that pads on the right.
    """

    def __init__(
        self,
        texts: TokenRows,
        labels: Sequence[int] | NDArray[np.uint8],
        *,
        truncated: Sequence[int] = (),
        batch_tokens: int,
        seed: int = 0,
        pad_id: int = 0,
    ) -> None:
        super().__init__(texts.lengths, batch_tokens=batch_tokens, seed=seed)
        self.texts, self.pad_id = texts, pad_id
        self.truncated = truncated or [0] * len(labels)
        self.labels = torch.tensor(labels)

    def batch(self, rows: NDArray[np.int64]) -> LabeledTextBatch:
        """Build the batch of some rows, ``[batch]``: its ids are ``[batch, length]``."""
        ids = self.texts.pad(rows, fill=self.pad_id)
        return LabeledTextBatch(ids=ids, labels=self.labels[rows], rows=rows)
