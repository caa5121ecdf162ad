"""Masked segments of running text (Devlin et al. 2019, section 3.1, task 1).

15 % of the tokens are predicted; of these 80 % are replaced by the mask, 10 % by a random token,
and 10 % stay. They are drawn by the seed and the positions of the segments, which differ from epoch
to epoch: the masking is dynamic (Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.token_stream import StreamBatches, TextBatch, TokenStream

MASK = "<mask>"
_PREDICTED, _MASKED, _RANDOM = 0.15, 0.8, 0.1


class MaskedBatches(StreamBatches):
    """Batches of segments, ``[batch, length]``, in which some tokens are masked.

    Args:
        stream: The tokens, two or more.
        length: Tokens of a segment; a shorter stream is one segment.
        batch_tokens: Maximum number of tokens in a batch; a longer segment is a batch of its own.
        mask_id: Id of the mask token.
        vocab_size: Number of token ids, from which random tokens are drawn.
        seed: Seed of order and masks.
        pad_id: Id of the token after the end of the stream.
    """

    def __init__(
        self,
        stream: TokenStream,
        *,
        length: int,
        batch_tokens: int,
        mask_id: int,
        vocab_size: int,
        seed: int = 0,
        pad_id: int = 0,
    ) -> None:
        super().__init__(stream, length=length, batch_tokens=batch_tokens, seed=seed)
        self.mask_id, self.vocab_size, self.pad_id = mask_id, vocab_size, pad_id

    @property
    def num_tokens(self) -> int:
        """Number of tokens in one pass: each may be masked, the last one too."""
        return len(self.stream)

    def batch(self, rows: NDArray[np.int64]) -> TextBatch:
        """Build the batch of the segments at `rows`; labels are -1 where nothing is predicted."""
        positions = rows[:, None] + np.arange(self.length)  # [batch, length]
        inside = positions < len(self.stream)
        tokens = self.stream.ids[np.minimum(positions, len(self.stream) - 1)].astype(np.int64)
        generator = np.random.default_rng([self.seed, *rows.tolist()])
        predicted = inside & (generator.random(positions.shape) < _PREDICTED)
        predicted[:, 0] |= ~predicted.any()  # at least one token
        labels = np.where(predicted, tokens, -1)
        choice = generator.random(positions.shape)
        drawn = generator.integers(0, self.vocab_size, positions.shape)
        masked = np.where(choice < _MASKED, self.mask_id, tokens)
        is_random = (choice >= _MASKED) & (choice < _MASKED + _RANDOM)
        ids = np.where(predicted, np.where(is_random, drawn, masked), tokens)
        ids[~inside] = self.pad_id
        return TextBatch(ids=torch.from_numpy(ids), labels=torch.from_numpy(labels), rows=rows)
