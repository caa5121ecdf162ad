"""Running text as one stream of token ids, cut into segments of equal length.

Every epoch cuts at other positions, so that a token is not always the first of its segment.
The order depends only on the seed and the number of the epoch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import parts_to_encode
from regard.data.readers.running_text import TextLines


class TextBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of segments.

    Args:
        ids: ``[batch, length]``.
        labels: The token after each, ``[batch, length]``; -1 after the end of the stream.
        rows: Position of each segment in the stream, ``[batch]``.
        before: The tokens before each segment, ``[batch, context]``, fewer of them at the beginning
            of the stream; None without a context.
    """

    ids: Tensor
    labels: Tensor
    rows: NDArray[np.int64]
    before: Tensor | None = None


class LineTokenizer(Protocol):
    """A vocabulary for running text."""

    @property
    def document_start(self) -> list[int]:
        """Token ids before running text."""
        ...

    @property
    def document_end(self) -> list[int]:
        """Token ids after a document."""
        ...

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each line, with its newline."""
        ...


class TokenStream:
    """The token ids of running text.

    Each line ends with its newline, each document with the tokenizer's `document_end` (``</s>`` and
    a newline); the stream begins with `document_start`, so that its first word is predicted too.

    Args:
        lines: The text.
        tokenizer: Its vocabulary.
    """

    def __init__(self, lines: TextLines, tokenizer: LineTokenizer) -> None:
        document_end = tokenizer.document_end
        ids, starts = array("i", tokenizer.document_start), array("q")
        for part in parts_to_encode(lines.texts):
            rows = tokenizer.encode_lines(lines.texts[part.start : part.stop])
            for row, is_end in zip(rows, lines.ends_document[part.start : part.stop], strict=True):
                starts.append(len(ids))
                ids.extend(row)
                if is_end:
                    ids.extend(document_end)
        self.ids = np.asarray(ids, dtype=np.int32)
        self._starts = np.asarray(starts, dtype=np.int64)
        self._numbers = np.array(lines.numbers)

    def __len__(self) -> int:
        return len(self.ids)

    def line_indices(self) -> NDArray[np.int64]:
        """Return the index of the line of each token, ``[tokens]``."""
        positions = np.arange(len(self.ids))
        return np.maximum(np.searchsorted(self._starts, positions, side="right") - 1, 0)

    def lines_between(self, start: int, end: int) -> list[int]:
        """Return the numbers of the lines of the tokens from `start` to ``end - 1``."""
        first, last = np.searchsorted(self._starts, [start, end - 1], side="right") - 1
        return np.unique(self._numbers[max(0, first) : last + 1]).tolist()


class StreamBatches:
    """Batches of segments, ``[batch, length]``, in a fresh order every epoch.

    Args:
        stream: The tokens, two or more.
        length: Tokens of a segment; a shorter stream is one segment.
        batch_tokens: Maximum number of tokens in a batch; a longer segment is a batch of its own.
        seed: Seed of the order.
        context: Number of tokens before each segment that a batch has too, at most `length`.
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
        """Number of tokens that one pass predicts."""
        return len(self.stream) - 1

    @property
    def longest(self) -> int:
        """Length of a segment."""
        return self.length

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the positions of the segments of every batch of an epoch, shuffled.

        The first segment begins at a random position; a segment that the end of the stream cuts
        short is left out, unless it is the only one. With a context, the first segment is a batch
        of its own where fewer tokens are before it.
        """
        generator = np.random.default_rng([self.seed, epoch])
        room = self.num_tokens - self.length
        first = int(generator.integers(0, min(self.length, room + 1)))
        starts = np.arange(first, room + 1, self.length, dtype=np.int64)
        if first >= self.context:
            return self._cut(generator.permutation(starts))
        batches = self._cut(generator.permutation(starts[1:]))
        batches.insert(int(generator.integers(len(batches) + 1)), starts[:1])
        return batches

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the positions of segments that cover the stream once, from its beginning."""
        starts = np.arange(0, self.num_tokens, self.length, dtype=np.int64)
        if self.context:  # the first has nothing before it
            return [batch for part in (starts[:1], starts[1:]) for batch in self._cut(part)]
        return self._cut(starts)

    def batch(self, rows: NDArray[np.int64]) -> TextBatch:
        """Build the batch of the segments that begin at `rows`, ``[batch]``."""
        positions = rows[:, None] + np.arange(self.length + 1)  # [batch, length + 1]
        inside = positions < len(self.stream)
        tokens = np.where(inside, self.stream.ids[np.minimum(positions, len(self.stream) - 1)], 0)
        ids = torch.from_numpy(tokens.astype(np.int64))
        labels = ids[:, 1:].masked_fill(torch.from_numpy(~inside[:, 1:]), -1)
        before = None
        if context := min(self.context, int(rows.min())):
            earlier = rows[:, None] + np.arange(-context, 0)
            before = torch.from_numpy(self.stream.ids[earlier].astype(np.int64))
        return TextBatch(ids=ids[:, :-1], labels=labels, rows=rows, before=before)

    def size(self, rows: NDArray[np.int64]) -> int:
        """Return the number of tokens of the segments that begin at `rows`, ``[batch]``."""
        return len(rows) * self.length

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:  # noqa: ARG002
        """Return 0, since segments are not padded."""
        return 0.0

    def padded_sizes(self, batches: Sequence[NDArray[np.int64]]) -> list[int]:
        """Return the tokens of each batch."""
        return [self.size(rows) for rows in batches]

    def _cut(self, starts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        borders = range(self.rows_per_batch, len(starts), self.rows_per_batch)
        return np.split(starts, borders) if len(starts) else []
