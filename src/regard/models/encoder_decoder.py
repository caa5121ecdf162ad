"""What every encoder-decoder offers: training, search, alignment and planning use this alone.

A family writes `hidden` (all target positions at once, for training) and `start` with `step` (one
token at a time, for generation), which must agree.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.attention import MultiHeadAttention
from regard.layers.dropout import MaskPool
from regard.layers.patterns import AttentionConfig
from regard.layers.source_attention import SourceAttention

PAD_ID = 0
Tied = Literal["all", "target", "none"]
S = TypeVar("S")


class EncoderDecoder(nn.Module, Generic[S]):
    """A model that reads a source and writes a target; `S` is what it carries between tokens.

    Args:
        vocab_size: Number of token ids, shared by source and target.
        dim: Size of its states.
        num_blocks: Layers of encoder and decoder together.
    """

    output_weight: nn.Parameter
    """Maps hidden states to logits, ``[vocab, dim]``."""

    def __init__(self, vocab_size: int, *, dim: int, num_blocks: int) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.num_blocks = vocab_size, dim, num_blocks
        self.compute_dtype = torch.float32
        self.mask_pool = MaskPool()

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the logits of every next target token.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with 0.
            target_ids: Decoder inputs, ``[batch, length]``, beginning with 1 (``<s>``); they are
                not shifted inside.

        Returns:
            ``[batch, length, vocab]``.
        """
        return self.logits(self.hidden(source_ids, target_ids))

    def logits(self, hidden: Tensor) -> Tensor:
        """Map states ``[batch, length, dim]`` (any leading axes) to ``[batch, length, vocab]``."""
        return F.linear(hidden, self.output_weight.to(hidden.dtype))

    @abstractmethod
    def hidden(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the decoder's last states, ``[batch, length, dim]``; arguments as `forward`."""

    @abstractmethod
    def start(self, source_ids: Tensor) -> S:
        """Read the source ``[batch, source_length]`` and prepare to decode."""

    @abstractmethod
    def step(self, ids: Tensor, state: S) -> Tensor:
        """Decode one token.

        Args:
            ids: The last token of each row, ``[batch]``.
            state: From `start`; brought up to date in place.

        Returns:
            Logits of the next token, ``[batch, vocab]``.
        """

    @abstractmethod
    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict what attention keeps of a target token for the backward pass, in bytes.

        Args:
            attention: Its patterns, or others to be tried.
            length: Of source and target, in tokens.
        """

    @property
    @abstractmethod
    def aligning_attention(self) -> MultiHeadAttention | SourceAttention | None:
        """The attention over the source that aligns best; None where there is none."""


def tied_tables(
    vocab_size: int, dim: int, tied: Tied
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Make the tables of source, target and output, ``[vocab, dim]``; tied ones are the same.

    Entries are normal with variance ``1 / dim``: times ``sqrt(dim)`` they embed with variance 1,
    as they are they map to logits of variance 1.
    """

    def table() -> nn.Parameter:
        return nn.Parameter(torch.empty(vocab_size, dim).normal_(std=dim**-0.5))

    source = table()
    target = source if tied == "all" else table()
    return source, target, table() if tied == "none" else target


def valid_lengths(source_ids: Tensor) -> Tensor | None:
    """Count the tokens of each row of ``[batch, length]``; None where no row is padded."""
    lengths = (source_ids != PAD_ID).sum(1)
    return lengths if bool((lengths < source_ids.shape[1]).any()) else None


def describe_cross(attention: AttentionConfig) -> str:
    """Tell the patterns of cross-attention, as the settings have them."""
    cross = attention.cross
    return cross if isinstance(cross, str) else " / ".join(cross)


def require_no_self_attention(family: str, attention: AttentionConfig) -> None:
    """Refuse patterns of self-attention for a family that has none.

    Raises:
        ConfigError: A setting other than ``attention.cross`` has been changed.
    """
    default = AttentionConfig()
    for name in ("pattern", "encoder", "decoder"):
        if (given := getattr(attention, name)) != getattr(default, name):
            raise ConfigError(
                f"attention.{name}={given}: {family} has no self-attention.  "
                f"Leave it out; attention.cross tells how the decoder attends to the source."
            )
