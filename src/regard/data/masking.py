"""Segments of running text with some tokens hidden (Devlin et al. 2019, section 3.1, task 1).

Of the tokens 15 % are to be told; of these 80 % are replaced by the mask, 10 % by a random token
and 10 % left as they are. Which ones follows from the seed and the places of the segments, which
differ from epoch to epoch: the masking is dynamic (Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.token_stream import StreamBatches, TextBatch, TokenStream

MASK = "<mask>"
_SHARE, _MASKED, _RANDOM = 0.15, 0.8, 0.1


class MaskedBatches(StreamBatches):
    """Batches of segments in which some tokens are hidden.

    Args:
        stream: The tokens, two or more.
        length: Of a segment, in tokens; a shorter stream is one segment.
        batch_tokens: Most tokens in a batch; a longer segment stands alone.
        mask_id: Token that stands for a hidden one.
        vocab_size: Number of token ids, of which random ones are drawn.
        seed: Of order and masks.
        pad_id: Token behind the end of the stream.
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

    def batch(self, rows: NDArray[np.int64]) -> TextBatch:
        """Build the batch of the segments at the given places.

        Labels, ``[batch, length]``, are the hidden tokens themselves, -1 elsewhere.
        """
        places = rows[:, None] + np.arange(self.length)
        inside = places < len(self.stream)
        tokens = self.stream.ids[np.minimum(places, len(self.stream) - 1)].astype(np.int64)
        generator = np.random.default_rng([self.seed, *rows.tolist()])
        hidden = inside & (generator.random(places.shape) < _SHARE)
        hidden[:, 0] |= ~hidden.any()  # never none at all
        labels = np.where(hidden, tokens, -1)
        choice = generator.random(places.shape)
        drawn = generator.integers(0, self.vocab_size, places.shape)
        shown = np.where(choice < _MASKED, self.mask_id, tokens)
        is_random = (choice >= _MASKED) & (choice < _MASKED + _RANDOM)
        ids = np.where(hidden, np.where(is_random, drawn, shown), tokens)
        ids[~inside] = self.pad_id
        return TextBatch(ids=torch.from_numpy(ids), labels=torch.from_numpy(labels), rows=rows)
