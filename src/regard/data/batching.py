"""Token ids in flat arrays, and batches of them: sorted by length, filled to a token budget.

The order of an epoch depends only on the seed and the number of the epoch, so that a run resumes
anywhere without replaying earlier epochs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.progress import tracked_parts

_MUCH_LONGER = 3  # sources such as documents have this many times the tokens of their targets
_POOL_ROWS = 1 << 17  # rows sorted together: larger pads less, smaller mixes batches more
_PART_CHARS = 1 << 20  # characters encoded together: more take more memory and are no faster


def parts_to_encode(texts: Sequence[str], stage: str = "encoding the texts") -> Iterator[range]:
    """Return the rows of texts part by part, each of about a million characters.

    A token takes a hundred bytes while its text is encoded, and four in `TokenRows`.

    Args:
        texts: The texts.
        stage: What is done with them, for the progress of long work.

    Returns:
        The indices of texts to encode together.

    >>> list(parts_to_encode(["a", "b" * 1_000_000, "c" * 500_000, "d"]))
    [range(0, 2), range(2, 4)]
    """
    return tracked_parts(_parts_by_chars(texts), stage, len(texts))


def _parts_by_chars(texts: Sequence[str]) -> Iterator[range]:
    start = num_chars = 0
    for row, text in enumerate(texts):
        if row > start and num_chars + len(text) > _PART_CHARS:
            yield range(start, row)
            start, num_chars = row, 0
        num_chars += len(text)
    if start < len(texts):
        yield range(start, len(texts))


class SpecialIds(NamedTuple):
    """The tokens around the sentences of pairs; the defaults are those of our own vocabularies.

    Args:
        pad: Token that rows are padded with on the right.
        start: First token that a decoder reads.
        end: Token after a target, and after a source too unless there is another.
        source_end: Token that ends a source; None is `end`.
        ignored: Label of padding, where `pad` may be a label of its own; None is `pad`.
        source_ends: All tokens after a source, where they are not the one that ends it: none for a
            published vocabulary that adds none.
    """

    pad: int = 0
    start: int = 1
    end: int = 2
    source_end: int | None = None
    ignored: int | None = None
    source_ends: tuple[int, ...] | None = None

    @property
    def end_of_source(self) -> int:
        """Token that ends a source, or a part of one."""
        return self.end if self.source_end is None else self.source_end

    @property
    def after_source(self) -> tuple[int, ...]:
        """Tokens after a source."""
        return (self.end_of_source,) if self.source_ends is None else self.source_ends

    @property
    def ignore_index(self) -> int:
        """Label where nothing is to be predicted."""
        return self.pad if self.ignored is None else self.ignored


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of sentence pairs, padded on the right.

    Args:
        source_ids: ``[batch, source_length]``.
        target_ids: Decoder inputs, ``[batch, target_length]``, beginning with ``<s>``.
        labels: What follows each decoder input, ``[batch, target_length]``, ending with ``</s>``.
        rows: Row of each pair in its data set, ``[batch]``.
    """

    source_ids: Tensor
    target_ids: Tensor
    labels: Tensor
    rows: NDArray[np.int64]


class TokenRows:
    """Rows of token ids in one flat array.

    Args:
        rows: Token ids of each row, which are read once.
    """

    def __init__(self, rows: Iterable[Sequence[int] | NDArray[np.integer]]) -> None:
        ids, lengths = array("i"), array("q")  # grow in place
        for row in rows:
            ids.extend(row)
            lengths.append(len(row))
        self._hold(np.asarray(ids, dtype=np.int32), np.asarray(lengths, dtype=np.int64))

    def _hold(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> None:
        """Keep the ids of all rows, ``[tokens]``, and the length of each, ``[rows]``."""
        self.ids, self.lengths = ids, lengths
        self.starts = np.concatenate([[0], np.cumsum(lengths)])

    def select(self, rows: NDArray[np.int64]) -> TokenRows:
        """Return some rows, ``[rows]`` indices that rise."""
        is_selected = np.zeros(len(self), dtype=bool)
        is_selected[rows] = True
        selected = TokenRows([])
        selected._hold(self.ids[np.repeat(is_selected, self.lengths)], self.lengths[rows])
        return selected

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.ids[self.starts[row] : self.starts[row + 1]]

    def pad(
        self,
        rows: NDArray[np.int64],
        *,
        before: int | None = None,
        after: Sequence[int] = (),
        fill: int = 0,
    ) -> Tensor:
        """Return rows, ``[batch, length]``, padded on the right with `fill`.

        `rows`, ``[batch]``, are indices; each row may have a token before and some after it.
        """
        lead = int(before is not None)
        width = int(self.lengths[rows].max()) + lead + len(after)
        out = np.full((len(rows), width), fill, dtype=np.int64)
        for index, row in enumerate(rows):
            ids = self[row]
            end = lead + len(ids)
            out[index, lead:end] = ids
            out[index, end : end + len(after)] = after
        if before is not None:
            out[:, 0] = before
        return torch.from_numpy(out)


class LengthBatches:
    """Batches of rows of about equal length, ``[batch, length]``, in a fresh order every epoch.

    Args:
        lengths: Lengths of the rows, ``[rows]``; for pairs, of the targets.
        source_lengths: Lengths of the sources of pairs, ``[rows]``.
        batch_tokens: Maximum number of tokens in a batch, padding counted, of pairs on either side;
            a longer row is a batch of its own.
        seed: Seed of the order.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        source_lengths: NDArray[np.int64] | None = None,
        *,
        batch_tokens: int,
        seed: int,
    ) -> None:
        self.lengths, self.source_lengths = lengths, source_lengths
        self.batch_tokens = batch_tokens
        self.seed = seed

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch; the same arguments give the same order.

        Rows are shuffled, then sorted by target and source length, then cut into batches, and the
        batches are shuffled. Which rows of a length meet in a batch differs from epoch to epoch.
        """
        generator = np.random.default_rng([self.seed, epoch])
        shuffled = generator.permutation(len(self.lengths))
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), _POOL_ROWS):
            batches += self._cut(shuffled[start : start + _POOL_ROWS])
        return [batches[index] for index in generator.permutation(len(batches))]

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the rows of batches that cover the data once, sorted by length, not shuffled."""
        return self._cut(np.arange(len(self.lengths)))

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows; for pairs, of the targets."""
        return int(self.lengths.sum())

    @property
    def longest(self) -> int:
        """Length of the longest row, source or target, its end counted."""
        return 1 + max(int(lengths.max()) for lengths in self._all_lengths())

    def size(self, rows: NDArray[np.int64]) -> int:
        """Return the number of tokens of some rows, sources and targets together."""
        return sum(int(lengths[rows].sum()) for lengths in self._all_lengths())

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """Return the fraction of all positions, [batch, length], that is padding, 0 to 1."""
        all_lengths = self._all_lengths()
        used = sum(int((lengths[rows] + 1).sum()) for rows in batches for lengths in all_lengths)
        return 1 - used / max(1, sum(self.padded_sizes(batches)))

    def padded_sizes(self, batches: Sequence[NDArray[np.int64]]) -> list[int]:
        """Return the positions of batches, padding counted; sources are a batch of their own."""
        return [
            len(rows) * (1 + int(lengths[rows].max()))
            for rows in batches
            for lengths in self._all_lengths()
        ]

    def _all_lengths(self) -> list[NDArray[np.int64]]:
        """Return the lengths of the rows, and for pairs those of their sources."""
        return (
            [self.lengths] if self.source_lengths is None else [self.lengths, self.source_lengths]
        )

    def _cut(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return rows sorted by length, cut where padded sources or targets pass the budget.

        Sources rise in length through one target length and fall through the next, so that a batch
        that spans two has no jump in it. Sources that are much longer are sorted by first.
        """
        targets = self.lengths[rows]
        sources = targets if self.source_lengths is None else self.source_lengths[rows]
        first, second = targets, sources
        if sources.sum() > _MUCH_LONGER * targets.sum():
            first, second = sources, targets
        rows = rows[np.lexsort((np.where(first % 2, -second, second), first))]
        widths = self.lengths[rows] + 1
        if self.source_lengths is not None:
            widths = np.maximum(widths, self.source_lengths[rows] + 1)
        batches, start = [], 0
        while start < len(rows):
            most = max(1, self.batch_tokens // int(widths[start]))
            widest = np.maximum.accumulate(widths[start : start + most])
            tokens = widest * np.arange(1, len(widest) + 1)  # padded, of batches of 1, 2, ... rows
            end = start + max(1, int(np.searchsorted(tokens, self.batch_tokens, side="right")))
            batches.append(rows[start:end])
            start = end
        return batches


class PairBatches(LengthBatches):
    """Batches of sentence pairs, ``[batch, length]``, in a fresh order every epoch.

    Args:
        sources: Token ids of the sources, without begin and end.
        targets: Token ids of the targets, without begin and end, as many rows.
        batch_tokens: Maximum number of tokens in a batch on either side, padding counted; a longer
            row is a batch of its own.
        seed: Seed of the order.
        ids: What pads, begins and ends the rows.
    """

    def __init__(
        self,
        sources: TokenRows,
        targets: TokenRows,
        *,
        batch_tokens: int,
        seed: int,
        ids: SpecialIds = SpecialIds(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(targets.lengths, sources.lengths, batch_tokens=batch_tokens, seed=seed)
        self.sources, self.targets, self.ids = sources, targets, ids

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Build the batch of some rows, ``[batch]``: its ids are ``[batch, length]``."""
        ids = self.ids
        fill = ids.pad if ids.ignored is None else ids.start  # a row of the targets' own table
        return Batch(
            source_ids=self.source_ids(rows),
            target_ids=self.targets.pad(rows, before=ids.start, fill=fill),
            labels=self.targets.pad(rows, after=[ids.end], fill=ids.ignore_index),
            rows=rows,
        )

    def source_ids(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the sources of some rows, ``[batch]``, with their ends: ``[batch, length]``."""
        return self.sources.pad(rows, after=self.ids.after_source, fill=self.ids.pad)
