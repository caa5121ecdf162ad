"""The best next tokens of each row of logits, with the sum that makes them probabilities.

PyTorch's ``topk`` reads a whole vocabulary token by token. Here the largest logit of each block of
tokens is found first, by vectors of the processor; only the best blocks are read token by token.
Cost: one pass over the logits, and O(rows (vocab / 64 + 64 k)).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 64  # tokens; also the fewest blocks a row for which the search by blocks is faster


class TopTokens(NamedTuple):
    """The best next tokens of each row.

    Args:
        logits: Highest first, ``[rows, k]``.
        ids: Their tokens, ``[rows, k]``.
        log_sum: Log-sum-exp of all logits of each row, ``[rows]``: ``logits - log_sum[:, None]``
            are log-probabilities.
    """

    logits: Tensor
    ids: Tensor
    log_sum: Tensor

    def pack(self) -> Tensor:
        """Return logits, ids and sum side by side, float64 ``[rows, 2 * k + 1]``."""
        parts = [self.logits, self.ids, self.log_sum[:, None]]
        return torch.cat([part.double() for part in parts], dim=1)

    @classmethod
    def unpack(cls, packed: Tensor, k: int) -> TopTokens:
        """Return the k best tokens of some that were packed."""
        most = packed.shape[1] // 2  # [rows, numbers]
        return cls(packed[:, :k].float(), packed[:, most : most + k].long(), packed[:, -1].float())

    def cpu(self) -> TopTokens:
        """Return them in main memory, where Python waits for a device once."""
        if self.logits.device.type == "cpu":
            return self
        return TopTokens.unpack(self.pack().cpu(), self.ids.shape[1])


def top_tokens(logits: Tensor, k: int) -> TopTokens:
    """Find the best tokens.

    Args:
        logits: ``[rows, vocab]``, float32.
        k: Number of tokens, 1 or more; all of them where the vocabulary has fewer.

    Returns:
        The best tokens; NaN where a row has one.

    >>> best = top_tokens(torch.tensor([[0.0, 2.0, 1.0]]), 2)
    >>> best.logits.tolist(), best.ids.tolist()
    ([[2.0, 1.0]], [[1, 2]])
    """
    rows, vocab = logits.shape
    k = min(k, vocab)
    num_blocks = vocab // _BLOCK
    if num_blocks < max(_BLOCK, 2 * k) or logits.device.type != "cpu":
        return TopTokens(*logits.topk(k, dim=1), logits.logsumexp(1))
    blocks = logits[:, : num_blocks * _BLOCK].view(rows, num_blocks, _BLOCK)
    largest = blocks.amax(2)  # [rows, blocks]
    best = largest.topk(k, dim=1).indices  # [rows, k]: the k best tokens are in the k best blocks
    ids = (best[:, :, None] * _BLOCK + torch.arange(_BLOCK)).flatten(1)
    if num_blocks * _BLOCK < vocab:
        rest = torch.arange(num_blocks * _BLOCK, vocab).expand(rows, -1)
        ids = torch.cat([ids, rest], dim=1)
    values, indices = logits.gather(1, ids).topk(k, dim=1)
    top = values[:, :1].masked_fill(values[:, :1] == -torch.inf, 0.0)
    log_sum = (logits - top).exp_().sum(1).log_() + top[:, 0]
    return TopTokens(values, ids.gather(1, indices), log_sum)
