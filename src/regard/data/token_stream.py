"""Running text as one stream of token ids, cut into segments of equal length.

Every epoch cuts at other places, so that no token stands at the beginning of its segment twice.
The order depends on the seed and the epoch's number only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.readers.text import TextLines


class TextBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of segments.

    Args:
        ids: ``[batch, length]``.
        labels: What follows each, ``[batch, length]``; -1 behind the end of the stream.
        rows: Place of each segment in the stream, ``[batch]``.
        before: The tokens before each segment, ``[batch, context]``; None where none are wanted,
            or none are there.
    """

    ids: Tensor
    labels: Tensor
    rows: NDArray[np.int64]
    before: Tensor | None = None


class LineTokenizer(Protocol):
    """What turns lines into token ids."""

    @property
    def document_start(self) -> list[int]:
        """What stands before running text."""
        ...

    @property
    def document_end(self) -> list[int]:
        """What stands after a document."""
        ...

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into token ids, each with the end of its line behind it."""
        ...


class TokenStream:
    """The token ids of running text.

    Each line ends with its newline, each document with the tokenizer's end of one (``</s>`` and a
    newline); the stream begins as every document does, so that its first word is predicted too.

    Args:
        lines: The text.
        tokenizer: Its vocabulary.
    """

    def __init__(self, lines: TextLines, tokenizer: LineTokenizer) -> None:
        rows = tokenizer.encode_lines(lines.texts)
        between = tokenizer.document_end
        flat = [*tokenizer.document_start]
        starts = []
        for row, is_end in zip(rows, lines.ends_document, strict=True):
            starts.append(len(flat))
            flat += [*row, *between] if is_end else row
        self.ids = np.array(flat, dtype=np.int32)
        self._starts = np.array(starts)
        self._numbers = np.array(lines.numbers)

    def __len__(self) -> int:
        return len(self.ids)

    def lines_between(self, start: int, end: int) -> list[int]:
        """List the numbers of the lines that the tokens `start` to ``end - 1`` come from."""
        first, last = np.searchsorted(self._starts, [start, end - 1], side="right") - 1
        return np.unique(self._numbers[max(0, first) : last + 1]).tolist()


class StreamBatches:
    """Batches of segments in a fresh order every epoch.

    Args:
        stream: The tokens, two or more.
        length: Of a segment, in tokens; a shorter stream is one segment.
        batch_tokens: Most tokens in a batch; a longer segment stands alone.
        seed: Of the order.
        context: Tokens before each segment that a batch has too; at most as many as the segment.
    """

    def __init__(
        self,
        stream: TokenStream,
        *,
        length: int,
        batch_tokens: int,
        seed: int = 0,
        context: int = 0,
    ) -> None:
        self.stream = stream
        self.length = min(length, len(stream) - 1)
        self.context = min(context, self.length)
        self.rows_per_batch = max(1, batch_tokens // self.length)
        self.seed = seed

    @property
    def num_tokens(self) -> int:
        """Tokens to be predicted in one pass."""
        return len(self.stream) - 1

    @property
    def longest(self) -> int:
        """Length of a segment."""
        return self.length

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the places of the segments of every batch of an epoch, shuffled.

        Segments begin anew at a drawn place; those cut short by the end of the stream are left
        out, unless there is no other.
        """
        generator = np.random.default_rng([self.seed, epoch])
        room = len(self.stream) - 1 - self.length
        first = int(generator.integers(0, min(self.length, room + 1)))
        if first < self.context <= room:
            first = min(room, first + self.length)
        starts = np.arange(first, room + 1, self.length, dtype=np.int64)
        return self._cut(generator.permutation(starts))

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the places of segments that cover the stream once, from its beginning."""
        starts = np.arange(0, self.num_tokens, self.length, dtype=np.int64)
        if self.context:  # the first has nothing before it
            return [batch for part in (starts[:1], starts[1:]) for batch in self._cut(part)]
        return self._cut(starts)

    def batch(self, rows: NDArray[np.int64]) -> TextBatch:
        """Build the batch of the segments at the given places."""
        places = rows[:, None] + np.arange(self.length + 1)
        inside = places < len(self.stream)
        tokens = np.where(inside, self.stream.ids[np.minimum(places, len(self.stream) - 1)], 0)
        ids = torch.from_numpy(tokens.astype(np.int64))
        labels = ids[:, 1:].masked_fill(torch.from_numpy(~inside[:, 1:]), -1)
        before = None
        if self.context and int(rows.min()) >= self.context:
            earlier = rows[:, None] + np.arange(-self.context, 0)
            before = torch.from_numpy(self.stream.ids[earlier].astype(np.int64))
        return TextBatch(ids=ids[:, :-1], labels=labels, rows=rows, before=before)

    def size(self, rows: NDArray[np.int64]) -> int:
        """Count the tokens of the segments at the given places."""
        return len(rows) * self.length

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:  # noqa: ARG002
        """Tell that there is no padding."""
        return 0.0

    def _cut(self, starts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        borders = range(self.rows_per_batch, len(starts), self.rows_per_batch)
        return np.split(starts, borders) if len(starts) else []
