"""The base of models of text: a vocabulary, and logits from hidden states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.models.base.model import Model
from regard.settings.binding import check_count

PAD_ID = 0


class TextModel(Model):
    """A model that computes logits of tokens.

    Args:
        vocab_size: Number of token ids, 1 or more.
        dim: Size of its hidden states.

    Raises:
        ConfigError: The number of token ids is out of range.
    """

    output_weight: nn.Parameter
    """Maps the last hidden states to logits, ``[vocab, dim]``."""

    has_output_map = True
    """Whether `output_weight` maps states to logits; else a head of the model uses it."""

    has_plain_logits = True
    """Whether logits are the last hidden states times `output_weight`, and nothing else."""

    def __init__(self, vocab_size: int, *, dim: int) -> None:
        super().__init__(dim=dim)
        check_count(vocab_size, "vocab_size")
        self.vocab_size = vocab_size

    @property
    def output_name(self) -> str:
        """Logits of tokens."""
        return f"logits of {self.vocab_size:,} tokens"

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``[batch, length, dim]`` (any leading axes) to ``[..., vocab]``."""
        return F.linear(hidden, self.output_weight.to(hidden.dtype))


def token_table(vocab_size: int, dim: int) -> nn.Parameter:
    """Return a table of token embeddings, ``[vocab, dim]``, with entries of variance ``1 / dim``.

    Times ``sqrt(dim)`` they embed with variance 1; as they are they map to logits of variance 1.
    """
    return nn.Parameter(torch.empty(vocab_size, dim).normal_(std=dim**-0.5))


def valid_lengths(ids: Tensor, pad_id: int = PAD_ID) -> Tensor | None:
    """Count the tokens of each row of ``[batch, length]``; return None where no row is padded."""
    lengths = (ids != pad_id).sum(1)
    return lengths if bool((lengths < ids.shape[1]).any()) else None
