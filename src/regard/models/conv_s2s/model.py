"""Convolutional sequence to sequence learning (Gehring, Auli, Grangier, Yarats & Dauphin 2017).

Encoder and decoder are stacks of gated convolutions; every decoder layer attends to the source. All
positions are computed at once in training, and generation keeps only the last inputs of each layer.
As in the authors' code (fairseq) sums are scaled by sqrt(0.5), those of attention too. Unlike in
the paper, weights are not normalised and gradients are not scaled, so that they are the derivatives
of the loss. Cost of a pass: O(length width dim^2) a layer and O(source x target x dim) for
attention.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.convolution import (
    HALF,
    ConvBlock,
    ConvDecoderBlock,
    ConvolutionalState,
    ConvolutionCache,
)
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.initialization import fill_normal
from regard.layers.linear import Linear
from regard.layers.positions import LearnedPositions, SinusoidalPositions
from regard.layers.seq2seq_attention import Memory
from regard.models.base.encoder_decoder import SinglePassDecoder, Tied, tied_tables
from regard.models.base.model import FamilyConfig
from regard.models.base.pattern_support import check_patterns
from regard.models.base.text_model import lengths_of_padded
from regard.settings.validation import require_at_least, require_probability

EMBEDDED = 0.1
"""Standard deviation of embeddings (section 3.5), with which gates begin half open."""


class ConvS2SConfig(FamilyConfig, frozen=True, kw_only=True, tag="conv_s2s"):
    """The dimensions of a convolutional encoder-decoder.

    A language model is its decoder alone, without attention; it does not use num_encoder_layers.

    Args:
        num_encoder_layers: Convolutions of the encoder.
        num_decoder_layers: Convolutions of the decoder, each with attention.
        dim: Size of embeddings and states, even.
        kernel_width: Positions that a convolution sees, 1 or more; n layers see
            ``1 + n (kernel_width - 1)``.
        dropout: Rate on embeddings, inputs of convolutions and the output, 0 to below 1.
        positions: learned (the paper's) or sinusoidal.
        max_positions: Rows of a learned position table; later positions count as the last.
        tied: Which of source, target and output embedding share one table: all, target
            (target and output), or none.
    """

    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    dim: int = 512
    kernel_width: int = 3
    dropout: float = 0.1
    positions: Literal["sinusoidal", "learned"] = "learned"
    max_positions: int = 512
    tied: Tied = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            1, self, "num_encoder_layers", "num_decoder_layers", "kernel_width", "max_positions"
        )
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"dim must be even and 2 or more, not {self.dim}")
        require_probability(self, "dropout")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        return (
            f"{self.num_encoder_layers}+{self.num_decoder_layers} layers, d={self.dim}, "
            f"kernel {self.kernel_width}, attention {attention.kind_summary('cross')}"
        )

    def decoder_summary(self, attention: AttentionConfig) -> str:  # noqa: ARG002 - it has none
        """Describe the dimensions of the decoder alone in a line."""
        return f"{self.num_decoder_layers} layers, d={self.dim}, kernel {self.kernel_width}"

    def make_positions(self) -> SinusoidalPositions | LearnedPositions:
        """Return the embedding of positions."""
        if self.positions == "sinusoidal":
            return SinusoidalPositions(self.dim)
        positions = LearnedPositions(self.dim, self.max_positions)
        fill_normal(positions.weight)  # the standard deviation of tokens, as in the paper
        return positions


class ConvS2S(SinglePassDecoder[ConvolutionalState]):
    """The convolutional encoder-decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids, shared by source and target.
        attention: Only its patterns of cross-attention are used.

    Raises:
        ConfigError: A pattern of self-attention is set.
    """

    source_memory = {"keys": ("states",), "values": ("states", "embeddings")}  # noqa: RUF012

    def __init__(
        self,
        config: ConvS2SConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(vocab_size, dim=config.dim)
        check_patterns(config, attention, lacks="self-attention")
        self.config = config
        dim = config.dim
        source, target, self.output_weight = tied_tables(vocab_size, dim, config.tied)
        self.source_embedding = self._embedding(source)
        self.target_embedding = self._embedding(target)
        self.dropout = self._dropout()
        # The paper's maps between the sizes of embeddings and of convolutions, section 3.2.
        self.encoder_input, self.encoder_output = Linear(dim, dim), Linear(dim, dim)
        self.decoder_input, self.decoder_output = Linear(dim, dim), Linear(dim, dim)
        self.encoder = nn.ModuleList(
            ConvBlock(dim, config.kernel_width, self._dropout())
            for _ in range(config.num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            ConvDecoderBlock(dim, config.kernel_width, self._dropout(), pattern)
            for pattern in attention.cross_patterns(config.num_decoder_layers)
        )

    def _embedding(self, table: nn.Parameter) -> TokenEmbedding:
        return TokenEmbedding(table, self.config.make_positions(), self._dropout())

    def _dropout(self) -> Dropout:
        return Dropout(self.config.dropout)

    @property
    def decoder_blocks(self) -> list[ConvDecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder if isinstance(block, ConvDecoderBlock)]

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embeddings of source and target."""
        return {"source": self.source_embedding, "target": self.target_embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = attention.cross_patterns(self.config.num_decoder_layers)
        return self.bytes_kept(patterns, length)

    def encode(
        self, source_ids: Tensor, lengths: Tensor | None = None
    ) -> tuple[Memory, Tensor | None]:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with 0.
            lengths: Tokens of each source, ``[batch]``; None finds them by the padding.

        Returns:
            The keys z and values z + e, ``[batch, source_length, dim]`` each, and the valid lengths
            ``[batch]``, or None where no row is padded.
        """
        lengths = lengths_of_padded(source_ids, lengths)
        is_valid = None
        if lengths is not None:
            positions = torch.arange(source_ids.shape[1], device=source_ids.device)
            is_valid = (positions < lengths[:, None])[..., None]  # [batch, length, 1]
        embedded = self.source_embedding(source_ids, dtype=self.compute_dtype) * EMBEDDED
        x = self.encoder_input(embedded)
        for block in self.encoder:
            x = block(x, is_valid)
        keys = self.encoder_output(x)
        return (keys, (keys + embedded) * HALF), lengths

    def init_state(
        self, source_ids: Tensor, *, lengths: Tensor | None = None
    ) -> ConvolutionalState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        memory, lengths = self.encode(source_ids, lengths)
        caches = [ConvolutionCache() for _ in self.decoder]
        return ConvolutionalState(memory=memory, lengths=lengths, caches=caches)

    def decode(self, target_ids: Tensor, state: ConvolutionalState) -> Tensor:
        """Decode the next ``[batch, length]`` tokens and update the state."""
        tokens = EMBEDDED * self.target_embedding(
            target_ids, start=state.position, dtype=self.compute_dtype
        )
        x = self.decoder_input(tokens)
        for block, cache in zip(self.decoder, state.caches, strict=True):
            x = block(x, tokens, state, cache)
        state.position += target_ids.shape[1]
        return self.dropout(self.decoder_output(x))
