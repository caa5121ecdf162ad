"""The base of language models: all that training and generation use of them.

A decoder is an embedding, a stack of blocks, and a norm after the last of them. A family adds the
blocks, whose pass over all positions at once (training) must agree with that over a few positions
after those in a cache (generation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from regard.attention import Pattern
from regard.layers.attention_config import AttentionConfig
from regard.layers.cache import LayerCache
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.norm import LayerNorm
from regard.layers.positioned_cache import next_position
from regard.layers.positions import LearnedPositions, SinusoidalPositions
from regard.layers.transformer_block import (
    BlockConfig,
    DecoderBlock,
    Mixer,
    ParallelBlock,
    TransformerBlock,
)
from regard.models.base.text_model import TextModel, token_lengths, token_table


@dataclass
class LayerCaches:
    """The state of a decoder between two tokens: one cache a layer.

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


class Decoder(TextModel):
    """A model that continues a text.

    Args:
        vocab_size: Number of token ids.
        dim: Size of the model.
        num_heads: Attention heads of a block; 0 without attention.
        dropout: Rate on embeddings, 0 to below 1.
        tied: Whether the embedding and the output share one table.
        table: Builds a table of tokens, ``[vocab, dim]``.
        positions: Positions of the tokens; None where the layers have them.
        scale: Factor on the rows of the embedding; None is ``sqrt(dim)``.
        embedding_norm: Normalisation of the embeddings; None has none.
    """

    memory_length: int = 0
    """Positions before a segment whose hidden states it uses in training."""

    blocks: nn.ModuleList
    """Added by the family: each maps ``x`` with a ``cache`` of its own."""

    norm: nn.Module
    """Added by the family: maps the last block's output to the last hidden states."""

    @property
    def num_positions(self) -> int | None:
        """Maximum number of tokens where positions have a trained table; None without a limit."""
        positions = self.embedding.positions
        return positions.num_positions if isinstance(positions, LearnedPositions) else None

    def __init__(
        self,
        vocab_size: int,
        *,
        dim: int,
        num_heads: int,
        dropout: float,
        tied: bool,
        table: Callable[[int, int], nn.Parameter] = token_table,
        positions: SinusoidalPositions | LearnedPositions | None = None,
        scale: float | None = None,
        embedding_norm: LayerNorm | None = None,
    ) -> None:
        super().__init__(vocab_size, dim=dim)
        self.num_heads = num_heads
        self.output_weight = table(vocab_size, dim)
        tokens = self.output_weight if tied else table(vocab_size, dim)
        self.embedding = TokenEmbedding(
            tokens, positions, Dropout(dropout), scale=scale, norm=embedding_norm
        )

    def add_blocks(
        self,
        block: BlockConfig,
        mixers: Iterable[Mixer],
        cross: Sequence[Pattern] | None = None,
    ) -> None:
        """Add the blocks, and the norm after the last where a block begins with its norm.

        Args:
            block: Dimensions of each.
            mixers: Self-attention of each, first to last.
            cross: Patterns of each block's attention over a source; None has no source.
        """
        if cross is None:
            kind = ParallelBlock if block.parallel_residual else TransformerBlock
            self.blocks = nn.ModuleList(kind(block, mixer) for mixer in mixers)
        else:
            self.blocks = nn.ModuleList(
                DecoderBlock(block, mixer, pattern)
                for mixer, pattern in zip(mixers, cross, strict=True)
            )
        self.norm = block.make_last_norm()

    def forward(self, ids: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Compute the logits of every next token.

        Args:
            ids: ``[batch, length]``; a position sees itself and those before it, so padding on the
                right, of any id, changes nothing before it.
            lengths: Tokens of each row, ``[batch]``; they change nothing but what is computed at
                padding, which has no meaning.

        Returns:
            ``[batch, length, vocab]``.
        """
        return self.logits(self.hidden_states(ids, lengths=lengths))

    def hidden_states(self, ids: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Compute the last hidden states of ids; see `forward`.

        Args:
            ids: ``[batch, length]``.
            lengths: Tokens of each row, ``[batch]``; None means all.

        Returns:
            ``[batch, length, dim]``.
        """
        if lengths is not None:
            token_lengths(ids, lengths)  # checks them
        return self.decode(ids)

    def hidden_states_after(self, before: Tensor, ids: Tensor) -> Tensor:  # noqa: ARG002
        """Compute the last hidden states of a segment, with a memory of the segment before it.

        Args:
            before: Ids of the positions before, ``[batch, context]``; no gradient flows into them.
            ids: Ids of the segment, ``[batch, length]``.

        Returns:
            ``[batch, length, dim]``; those of `hidden_states` where the family has no memory.
        """
        return self.hidden_states(ids)

    def init_state(self) -> LayerCaches:
        """Return the state before the first token of a batch of texts."""
        blocks: Any = self.blocks
        return LayerCaches([block.make_cache() for block in blocks])

    def decode_step(self, ids: Tensor, state: LayerCaches) -> Tensor:
        """Decode the next tokens.

        Args:
            ids: The next tokens of each row, ``[batch, new]``, as many for every row.
            state: State from `init_state`; updated in place.

        Returns:
            Logits of the token after the last, ``[batch, vocab]``.
        """
        return self.logits(self.decode(ids, state.caches)[:, -1])

    def decode(
        self,
        ids: Tensor,
        caches: Sequence[LayerCache] | None = None,
        *,
        memory: Sequence[tuple[Tensor, Tensor]] | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Compute the last hidden states of the next tokens.

        Args:
            ids: ``[batch, length]``.
            caches: Caches of each layer, with the tokens before; they are updated. None has none
                before.
            memory: Keys and values of the source for each layer; None where there is none.
            lengths: Valid source positions of each row, ``[batch]``; None means all.

        Returns:
            ``[batch, length, dim]``.
        """
        start = 0 if caches is None else next_position(caches[0])
        x = self.before_blocks(self.embedding(ids, start=start, dtype=self.compute_dtype))
        for number, block in enumerate(self.blocks):
            cache = None if caches is None else caches[number]
            if memory is None:
                x = block(x, cache=cache)
            else:
                x = block(x, memory[number], lengths, cache)
        return self.after_blocks(x)

    def before_blocks(self, x: Tensor) -> Tensor:
        """Map embeddings, ``[batch, length, dim]``, to the first block's input."""
        return x

    def after_blocks(self, x: Tensor) -> Tensor:
        """Map the last block's output, ``[batch, length, dim]``, to the last hidden states."""
        return self.norm(x)

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embedding of the tokens."""
        return {"text": self.embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = attention.decoder_patterns(self.num_blocks)
        return self.bytes_kept(patterns, length, num_heads=self.num_heads)


def residual_init_scale(num_layers: int, *, reads_source: bool = False) -> float:
    """Compute the factor on initial weights of maps that write to a pre-norm residual stream.

    It keeps the variance of the stream: each block adds to it twice, or three times where it reads
    a source (Radford et al. 2019, section 2.3).

    Args:
        num_layers: Blocks of the decoder.
        reads_source: Whether they attend to a source.

    Returns:
        A factor of at most 1.
    """
    return ((3 if reads_source else 2) * num_layers) ** -0.5
