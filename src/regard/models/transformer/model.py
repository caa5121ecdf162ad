"""The Transformer (Vaswani, Shazeer, Parmar et al., "Attention Is All You Need", 2017).

An encoder reads the source once; a decoder writes the target one token at a time, attending to
what it has written and to the encoder's output. Cost of a pass: O(length^2 dim + length dim^2) a
layer with full attention; a sparse pattern replaces length^2 by its number of pairs.

Marian's models (Junczys-Dowmunt et al. 2018) are the paper's with sinusoids in another order, a
bias for each token, and some other options of the configuration; BART (Lewis et al. 2020) has
learned positions and a norm of the embeddings.

With ``has_copy`` the decoder may copy tokens of the source (See, Liu & Manning 2017).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.feed_forward import Activation
from regard.layers.norm import LayerNorm
from regard.layers.pointer_generator import CopyDistribution, PointerGenerator
from regard.layers.positioned_cache import next_position
from regard.layers.positions import LearnedPositions, SinusoidalPositions, SinusoidOrder
from regard.layers.role_embedding import RoleEmbedding
from regard.layers.transformer_block import (
    BlockConfig,
    DecoderBlock,
    NormPosition,
    TransformerBlock,
)
from regard.models.base.encoder_decoder import DecoderState, EncoderDecoder, Tied, tied_tables
from regard.models.base.model import Connection, FamilyConfig
from regard.models.base.question_roles import NUM_ROLES, ROLE_WIDTH, find_roles
from regard.models.base.text_model import PAD_ID, lengths_of_padded, token_lengths
from regard.settings.validation import require_at_least, require_even_heads, require_probability

_ROTARY_BASE = 10_000.0  # Su et al. 2021
_ORDERS: dict[str, SinusoidOrder] = {
    "sinusoidal": "interleaved",
    "sinusoidal_halves": "halves",
    "sinusoidal_fairseq": "fairseq",
}


class TransformerConfig(FamilyConfig, frozen=True, kw_only=True, tag="transformer"):
    """The dimensions of a Transformer.

    A language model is its decoder alone and does not use num_encoder_layers; an encoder alone,
    which classifies or predicts masked tokens, does not use num_decoder_layers, tied, start_id and
    has_output_bias. Only the encoder-decoder can copy.

    Args:
        num_encoder_layers: Encoder blocks.
        num_decoder_layers: Decoder blocks.
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Attention heads in every block.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1.
        norm: pre (default) or post (the paper's).
        activation: relu (the paper's), gelu, gelu_tanh, silu, swiglu or geglu.
        positions: sinusoidal (the paper's), sinusoidal_halves (all sines before all cosines),
            sinusoidal_fairseq (the same with fairseq's angles, see `sinusoids`), learned, or rotary
            (Su et al. 2021), where self-attention sees distances alone.
        max_positions: Rows of a learned position table; later positions count as the last.
        position_offset: Rows of a learned table before the first position's (BART: 2), or number of
            the first position where positions are sinusoidal_fairseq.
        tied: Which of source, target and output embedding share one table: all, target
            (target and output), or none.
        has_embedding_norm: Whether embeddings go through a layer norm (BART).
        has_embedding_scale: Whether token embeddings are taken times ``sqrt(dim)`` (the paper's).
        has_output_bias: Whether each token has a bias that is added to its logit.
        has_copy: Whether the decoder may copy tokens of the source, such as names and numbers: a
            pointer-generator (See, Liu & Manning 2017). Source and target share the vocabulary.
        separator_id: Token between the question and the text of every source. The encoder then
            reads which tokens are of the text, and which of these are in the question, too (Chen et
            al. 2017, section 3.2), and learns from few rows. None for sources without questions.
        pad_id: Token that fills up the rows of a source.
        start_id: Token that begins a target.
    """

    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    hidden_dim: int = 2048
    dropout: float = 0.1
    norm: NormPosition = "pre"
    activation: Activation = "relu"
    positions: Literal[
        "sinusoidal", "sinusoidal_halves", "sinusoidal_fairseq", "learned", "rotary"
    ] = "sinusoidal"
    max_positions: int = 512
    position_offset: int = 0
    tied: Tied = "all"
    has_embedding_norm: bool = False
    has_embedding_scale: bool = True
    has_output_bias: bool = False
    has_copy: bool = False
    separator_id: int | None = None
    pad_id: int = PAD_ID
    start_id: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_encoder_layers", "num_decoder_layers", "num_heads")
        require_at_least(1, self, "hidden_dim", "max_positions")
        require_even_heads(self.dim, self.num_heads)
        require_probability(self, "dropout")
        require_at_least(0, self, "position_offset", "separator_id", "pad_id", "start_id")
        if self.positions == "rotary" and (self.dim // self.num_heads) % 2:
            size = self.dim // self.num_heads
            raise ValueError(f"dim / num_heads must be even with rotary positions, not {size}")
        if self.position_offset and self.positions not in ("learned", "sinusoidal_fairseq"):
            raise ValueError(
                f"position_offset must be 0 where positions are {self.positions}, "
                f"not {self.position_offset}: learned and sinusoidal_fairseq ones alone have one"
            )

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        num_layers = f"{self.num_encoder_layers}+{self.num_decoder_layers}"
        copying = ", copy mechanism" if self.has_copy else ""
        return self._summary(num_layers, attention.summary()) + copying

    def encoder_summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions of the encoder alone in a line."""
        return self._summary(self.num_encoder_layers, attention.kind_summary("encoder"))

    def decoder_summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions of the decoder alone in a line."""
        return self._summary(self.num_decoder_layers, attention.kind_summary("decoder"))

    def _summary(self, num_layers: int | str, patterns: str) -> str:
        return (
            f"{num_layers} layers, d={self.dim}, {self.num_heads} heads, ff {self.hidden_dim}, "
            f"{self.norm}-norm, attention {patterns}"
        )

    def block(self, num_sublayers: float) -> BlockConfig:
        """Return the dimensions of one block.

        Args:
            num_sublayers: Number of sub-layers that add to one pre-norm residual stream; the
                initial scale of their outputs keeps its variance.

        Returns:
            The dimensions.
        """
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm=self.norm,
            activation=self.activation,
            output_init_scale=1.0 if self.norm == "post" else num_sublayers**-0.5,
            rotary_base=_ROTARY_BASE if self.positions == "rotary" else None,
        )

    def require_no_source(self, part: str) -> None:
        """Check that a part of the Transformer alone does not copy or have questions.

        Args:
            part: Its name, for the message.

        Raises:
            ConfigError: A setting asks for it.
        """
        if self.separator_id is not None:
            raise ConfigError(
                f"`model.separator_id={self.separator_id}`: {part} alone has no sources with "
                "questions.  Leave it out."
            )
        if self.has_copy:
            raise ConfigError(
                f"`model.has_copy=true`: {part} alone has no source to copy from and no target to "
                "copy into.  Leave it out."
            )

    def make_positions(self) -> SinusoidalPositions | LearnedPositions | None:
        """Return the embedding of positions; None where self-attention has its own."""
        if self.positions == "rotary":
            return None
        if self.positions == "learned":
            return LearnedPositions(self.dim, self.max_positions, self.position_offset)
        return SinusoidalPositions(self.dim, _ORDERS[self.positions], self.position_offset)

    def make_embedding_norm(self) -> LayerNorm | None:
        """Return the norm of embeddings; None where they have none."""
        return LayerNorm(self.dim) if self.has_embedding_norm else None

    def make_embedding(self, table: nn.Parameter) -> TokenEmbedding:
        """Return the embedding of the encoder or the decoder, by a table ``[vocab, dim]``."""
        counts_after_padding = self.position_offset == self.pad_id + 1
        is_uncounted = self.positions == "sinusoidal_fairseq" and counts_after_padding
        return TokenEmbedding(
            table,
            self.make_positions(),
            Dropout(self.dropout),
            scale=self.embedding_scale,
            norm=self.make_embedding_norm(),
            uncounted_id=self.pad_id if is_uncounted else None,
        )

    @property
    def embedding_scale(self) -> float:
        """Factor on token embeddings."""
        return self.dim**0.5 if self.has_embedding_scale else 1.0


class Transformer(EncoderDecoder[DecoderState]):
    """The encoder-decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids, shared by source and target.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(vocab_size, dim=config.dim)
        self.config = config
        self.pad_id, self.start_id = config.pad_id, config.start_id
        source, target, self.output_weight = tied_tables(vocab_size, config.dim, config.tied)
        # Published checkpoints have an axis of one before the vocabulary.
        has_bias = config.has_output_bias
        self.output_bias = nn.Parameter(torch.zeros(1, vocab_size)) if has_bias else None
        self.has_plain_logits = not (has_bias or config.has_copy)
        self.source_embedding = config.make_embedding(source)
        self.target_embedding = config.make_embedding(target)
        num_sublayers = 2 * config.num_encoder_layers + 3 * config.num_decoder_layers
        block = config.block(num_sublayers / 2)
        self.encoder = nn.ModuleList(
            TransformerBlock(block, block.self_attention(pattern))
            for pattern in attention.encoder_patterns(config.num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(block, block.self_attention(pattern), cross_pattern)
            for pattern, cross_pattern in zip(
                attention.decoder_patterns(config.num_decoder_layers),
                attention.cross_patterns(config.num_decoder_layers),
                strict=True,
            )
        )
        self.encoder_norm, self.decoder_norm = block.make_last_norm(), block.make_last_norm()
        if config.has_copy:
            self.copy_head = PointerGenerator(config.dim, vocab_size, config.start_id)
        self.source_roles = None
        if config.separator_id is not None:
            self.source_roles = RoleEmbedding(config.dim, NUM_ROLES, ROLE_WIDTH)

    def hidden_states(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""
        return self.states_and_copies(source_ids, target_ids, lengths=lengths)[0]

    def states_and_copies(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the last hidden states, ``[batch, length, dim]``, and what is copied."""
        states, lengths = self.encode(source_ids, lengths)
        x = embedded = self.target_embedding(target_ids, dtype=self.compute_dtype)
        for block in self.decoder_blocks:
            x = block(x, block.cross_attention.project(states), lengths)
        hidden = self.decoder_norm(x)
        if self.copy_head is None:
            return hidden, None
        source = self.copy_head.read(source_ids, states)
        return hidden, self.copy_head(hidden, embedded, target_ids, source, lengths)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map states ``[batch, length, dim]`` (any leading axes) to ``[batch, length, vocab]``."""
        logits = super().logits(hidden)
        return logits if self.output_bias is None else logits + self.output_bias[0].to(logits.dtype)

    @property
    def decoder_blocks(self) -> list[DecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embeddings of source and target."""
        return {"source": self.source_embedding, "target": self.target_embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        config = self.config
        patterns = attention.every_pattern(config.num_encoder_layers, config.num_decoder_layers)
        copying = 0 if self.copy_head is None else self.copy_head.saved_bytes(length)
        return copying + self.bytes_kept(patterns, length, num_heads=config.num_heads)

    def connections(self) -> list[Connection]:
        """Return what the copy head reads, next to the logits and the source."""
        if self.copy_head is None:
            return []
        last = "decoder_norm" if self.config.norm == "pre" else f"decoder.{len(self.decoder) - 1}"
        return [
            Connection(last, "copy_head", "states"),
            Connection("target_embedding", "copy_head", "embedded input"),
        ]

    def encode(
        self, source_ids: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            lengths: Tokens of each source, ``[batch]``; None finds them by `pad_id`.

        Returns:
            States ``[batch, source_length, dim]`` and the valid lengths ``[batch]``, or None where
            no row is padded.
        """
        lengths = lengths_of_padded(source_ids, lengths, pad_id=self.pad_id)
        x = self.source_embedding(source_ids, dtype=self.compute_dtype)
        if self.source_roles is not None and self.config.separator_id is not None:
            roles = find_roles(source_ids, self.config.separator_id, lengths)
            x = x + self.source_roles(roles).to(x.dtype)
        for block in self.encoder:
            x = block(x, lengths)
        return self.encoder_norm(x), lengths

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> DecoderState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        lengths = token_lengths(source_ids, lengths, pad_id=self.pad_id)
        states, _ = self.encode(source_ids, lengths)
        copy_head = self.copy_head
        return DecoderState(
            memory=[block.cross_attention.project(states) for block in self.decoder_blocks],
            lengths=lengths,
            caches=[block.self_attention.make_cache() for block in self.decoder_blocks],
            copy_source=None if copy_head is None else copy_head.read(source_ids, states),
        )

    def next_logits(self, target_ids: Tensor, state: DecoderState) -> Tensor:
        """Decode the next tokens, ``[batch, length]``, to ``[batch, length, vocab]``."""
        x = embedded = self.target_embedding(
            target_ids, start=next_position(state.caches[0]), dtype=self.compute_dtype
        )
        for block, memory, cache in zip(self.decoder, state.memory, state.caches, strict=True):
            x = block(x, memory, state.lengths, cache)
        hidden = self.decoder_norm(x)
        logits = self.logits(hidden)
        if self.copy_head is None or state.copy_source is None:
            return logits
        # The tokens of all rows that read one source are positions of one target.
        parts = (
            part.unflatten(0, (-1, state.readers)).flatten(1, 2)
            for part in (hidden, embedded, target_ids)
        )
        copies = self.copy_head(*parts, state.copy_source, state.lengths)
        by_source = logits.unflatten(0, (-1, state.readers)).flatten(1, 2)
        return copies.mix(by_source).view_as(logits)
