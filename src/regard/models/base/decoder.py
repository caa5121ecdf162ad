"""What every language model offers: training, generation and planning use this alone.

A family writes `hidden` (all positions at once, for training) and `start` with `advance` (the next
positions after those seen, for generation), which must agree. Most families are a stack: an
embedding, blocks, and what follows the last of them (`StackedDecoder`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from regard.attention import Pattern
from regard.layers.cache import LayerCache
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.norm import LayerNorm
from regard.layers.positions import LearnedPositions, SinusoidalPositions
from regard.layers.transformer_block import Block, BlockConfig, DecoderBlock, Mixer
from regard.models.base.text_model import TextModel, token_table


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


class StackedDecoder(Decoder[LayerCaches]):
    """An embedding, blocks one after the other, and what follows the last of them.

    Args:
        vocab_size: Number of token ids.
        dim: Size of the model.
        num_layers: Blocks.
        dropout: Rate on embeddings, 0 to below 1.
        tied: Whether the embedding and the output share one table.
        table: Makes a table of tokens, ``[vocab, dim]``.
        positions: Where tokens stand; None where the layers tell.
        scale: Factor on the rows of the embedding; None is ``sqrt(dim)``.
        embedding_norm: Of the embeddings; None has none.
    """

    blocks: nn.ModuleList
    """What a family adds: each maps ``x`` with a ``cache`` of its own that it makes."""

    norm: nn.Module
    """What a family adds: maps what the last block gives to the last states."""

    def __init__(
        self,
        vocab_size: int,
        *,
        dim: int,
        num_layers: int,
        dropout: float,
        tied: bool,
        table: Callable[[int, int], nn.Parameter] = token_table,
        positions: SinusoidalPositions | LearnedPositions | None = None,
        scale: float | None = None,
        embedding_norm: LayerNorm | None = None,
    ) -> None:
        super().__init__(vocab_size, dim=dim, num_blocks=num_layers)
        self.output_weight = table(vocab_size, dim)
        tokens = self.output_weight if tied else table(vocab_size, dim)
        dropped = Dropout(dropout, self.mask_pool)
        self.embedding = TokenEmbedding(
            tokens, positions, dropped, scale=scale, norm=embedding_norm
        )

    def add_blocks(
        self,
        block: BlockConfig,
        mixers: Iterable[Mixer],
        cross: Sequence[Pattern] | None = None,
    ) -> None:
        """Add the blocks, and the norm that follows where theirs come first.

        Args:
            block: Dimensions of each.
            mixers: By which positions see those before them, first layer to last.
            cross: Patterns by which each block reads a source; None reads none.
        """
        pool = self.mask_pool
        if cross is None:
            self.blocks = nn.ModuleList(Block(block, mixer, pool) for mixer in mixers)
        else:
            self.blocks = nn.ModuleList(
                DecoderBlock(block, mixer, pattern, pool)
                for mixer, pattern in zip(mixers, cross, strict=True)
            )
        self.norm = block.make_last_norm()

    def hidden(self, ids: Tensor) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``, of rows read from their beginning."""
        return self.read(ids)

    def layers(self) -> list[nn.Module]:
        """List its layers; as `Model.layers`."""
        return [*self.blocks]

    def start(self) -> LayerCaches:
        """Prepare to read a batch of texts from their beginning; each layer keeps what it needs."""
        blocks: Any = self.blocks
        return LayerCaches([block.make_cache() for block in blocks])

    def advance(self, ids: Tensor, state: LayerCaches) -> Tensor:
        """Read on; as `Decoder.advance`."""
        return self.logits(self.read(ids, state.caches)[:, -1])

    def read(
        self,
        ids: Tensor,
        caches: Sequence[LayerCache] | None = None,
        *,
        memory: Sequence[tuple[Tensor, Tensor]] | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Compute the last states of tokens.

        Args:
            ids: ``[batch, length]``.
            caches: What each layer keeps of the tokens before, brought up to date; None where there
                are none.
            memory: Keys and values of the source for each layer; None for blocks that read none.
            lengths: Valid source positions of each row, ``[batch]``; None means all.

        Returns:
            ``[batch, length, dim]``.
        """
        start = 0 if caches is None else len(caches[0])
        x = self.begin(self.embedding(ids, start=start, dtype=self.compute_dtype))
        for number, block in enumerate(self.blocks):
            cache = None if caches is None else caches[number]
            if memory is None:
                x = block(x, cache=cache)
            else:
                x = block(x, memory[number], lengths, cache)
        return self.finish(x)

    def begin(self, x: Tensor) -> Tensor:
        """Map embeddings, ``[batch, length, dim]``, to what the first block reads."""
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Map what the last block gives, ``[batch, length, dim]``, to the last states."""
        return self.norm(x)


def stream_gain(num_layers: int, *, reads_source: bool = False) -> float:
    """Compute the factor on maps that write to a pre-norm stream: its variance stays.

    Each block adds twice to it, three times where it reads a source (Radford et al. 2019, section
    2.3).
    """
    return ((3 if reads_source else 2) * num_layers) ** -0.5
