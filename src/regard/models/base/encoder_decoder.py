"""What every encoder-decoder offers: training, search, alignment and planning use this alone.

A family writes `hidden` (all target positions at once, for training) and `start` with `step` (one
token at a time, for generation), which must agree.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from torch import Tensor, nn

from regard.layers.cache import LayerCache
from regard.layers.multi_head_attention import MultiHeadAttention
from regard.layers.seq2seq_attention import SourceAttention
from regard.models.base.text_model import PAD_ID, TextModel, token_table

Tied = Literal["all", "target", "none"]
S = TypeVar("S")
START_ID = 1


class EncoderDecoder(TextModel, Generic[S]):
    """A model that reads a source and writes a target; `S` is what it carries between tokens.

    Source and target share one vocabulary; `num_blocks` counts the layers of both sides.
    """

    pad_id: int = PAD_ID
    """Token that fills up the rows of a source."""

    start_id: int = START_ID
    """Token that begins a target."""

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the logits of every next target token.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            target_ids: Decoder inputs, ``[batch, length]``, beginning with `start_id`; they are
                not shifted inside.

        Returns:
            ``[batch, length, vocab]``.
        """
        return self.logits(self.hidden(source_ids, target_ids))

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

    @property
    @abstractmethod
    def aligning_attention(self) -> MultiHeadAttention | SourceAttention | None:
        """The attention over the source that aligns best; None where there is none."""


class OnePassDecoder(EncoderDecoder[S]):
    """An encoder-decoder that writes one token or all of them by the same pass.

    A family writes `start` and `write`.
    """

    @abstractmethod
    def write(self, target_ids: Tensor, state: S) -> Tensor:
        """Go on by ``[batch, length]`` tokens; bring the state up to date.

        Returns:
            The decoder's last states, ``[batch, length, dim]``.
        """

    def hidden(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the decoder's last states, ``[batch, length, dim]``; arguments as `forward`."""
        return self.write(target_ids, self.start(source_ids))

    def step(self, ids: Tensor, state: S) -> Tensor:
        """Decode one token; as `EncoderDecoder.step`."""
        return self.logits(self.write(ids[:, None], state)[:, 0])


@dataclass
class DecoderState:
    """All that decoding carries from one token to the next.

    Args:
        memory: Keys and values of the source, one pair a layer, ``[batch, heads, keys, head_dim]``.
        lengths: Valid source positions of each row, ``[batch]``.
        caches: What self-attention keeps of the target, one cache a layer.
    """

    memory: list[tuple[Tensor, Tensor]]
    lengths: Tensor
    caches: list[LayerCache]

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        self.memory = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.memory]
        self.select_beams(rows)

    def select_beams(self, rows: Tensor) -> None:
        """Reorder rows among those of one source: what depends on the source alone stays."""
        self.lengths = self.lengths.index_select(0, rows)
        for cache in self.caches:
            cache.select(rows)


def tied_tables(
    vocab_size: int, dim: int, tied: Tied
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Make the tables of source, target and output, ``[vocab, dim]``; tied ones are the same."""
    source = token_table(vocab_size, dim)
    target = source if tied == "all" else token_table(vocab_size, dim)
    return source, target, token_table(vocab_size, dim) if tied == "none" else target
