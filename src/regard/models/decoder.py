"""What every language model offers: training, generation and planning use this alone.

A family writes `hidden` (all positions at once, for training) and `start` with `advance` (the next
positions after those seen, for generation), which must agree.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from regard.layers.cache import LayerCache
from regard.models.text_model import TextModel


@dataclass
class LayerCaches:
    """What the layers of a decoder keep of the positions seen, one cache a layer.

    Args:
        caches: First layer to last.
    """

    caches: Sequence[LayerCache]

    def __len__(self) -> int:
        """Count the positions seen."""
        return len(self.caches[0])

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        for cache in self.caches:
            cache.select(rows)


S = TypeVar("S")


class Decoder(TextModel, Generic[S]):
    """A model that continues a text; `S` is what it carries between tokens."""

    memory_length: int = 0
    """Positions before a segment whose states its training can use."""

    def forward(self, ids: Tensor) -> Tensor:
        """Compute the logits of every next token.

        Args:
            ids: ``[batch, length]``; a position sees itself and those before it, so padding on the
                right changes nothing before it.

        Returns:
            ``[batch, length, vocab]``.
        """
        return self.logits(self.hidden(ids))

    @abstractmethod
    def hidden(self, ids: Tensor) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``; arguments as `forward`."""

    def hidden_after(self, before: Tensor, ids: Tensor) -> Tensor:  # noqa: ARG002 - may be unused
        """Compute the last states of a segment whose memory are those of the segment before.

        Args:
            before: Ids of the positions before, ``[batch, context]``; no gradient flows into them.
            ids: Of the segment, ``[batch, length]``.

        Returns:
            ``[batch, length, dim]``; as `hidden` where the family has no memory.
        """
        return self.hidden(ids)

    @abstractmethod
    def start(self) -> S:
        """Prepare to read a batch of texts from their beginning."""

    @abstractmethod
    def advance(self, ids: Tensor, state: S) -> Tensor:
        """Read on.

        Args:
            ids: The next tokens of each row, ``[batch, new]``, as many for every row.
            state: From `start`; brought up to date in place.

        Returns:
            Logits of the token after the last, ``[batch, vocab]``.
        """
