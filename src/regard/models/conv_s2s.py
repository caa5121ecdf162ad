"""Convolutional sequence to sequence learning (Gehring, Auli, Grangier, Yarats & Dauphin 2017).

Stacks of gated convolutions read and write; every decoder layer attends to the source. No position
waits for another in training, and generation keeps the last inputs of each layer alone. As in the
authors' code (fairseq) sums are scaled by sqrt(0.5), those of attention too. Other than in the
paper weights are not normalised, and gradients not scaled: they stay the derivatives of the loss.
Cost of a pass: O(length width dim^2) a layer and O(source x target x dim) for attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from regard.attention import NoMask, Pattern
from regard.checks import require_at_least, require_rate
from regard.layers.convolution import ConvolutionCache, GatedConvolution
from regard.layers.dropout import Dropout, MaskPool
from regard.layers.embedding import TokenEmbedding
from regard.layers.linear import Linear
from regard.layers.patterns import AttentionConfig
from regard.layers.positions import LearnedPositions, SinusoidalPositions
from regard.layers.source_attention import Memory, SourceAttention
from regard.models.encoder_decoder import (
    EncoderDecoder,
    Tied,
    require_no_self_attention,
    tied_tables,
)
from regard.models.model import FamilyConfig
from regard.models.text_model import valid_lengths

HALF = math.sqrt(0.5)
"""Keeps the variance of a sum of two."""

EMBEDDED = 0.1
"""Standard deviation of embeddings, section 3.5: gates begin half open."""


class ConvS2SConfig(FamilyConfig, frozen=True, kw_only=True, tag="conv_s2s"):
    """The dimensions of a convolutional encoder-decoder.

    A language model is its decoder alone, without attention and num_encoder_layers.

    Args:
        num_encoder_layers: Convolutions that read.
        num_decoder_layers: Convolutions that write, each with attention.
        dim: Size of embeddings and states, even.
        kernel_width: Positions that a convolution sees, 1 or more; n layers see
            ``1 + n (kernel_width - 1)``.
        dropout: Rate on embeddings, inputs of convolutions and the output, 0 to below 1.
        positions: learned (the paper's) or sinusoidal.
        max_positions: Rows of a learned position table.
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
        require_at_least(
            1, self, "num_encoder_layers", "num_decoder_layers", "kernel_width", "max_positions"
        )
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"dim must be even and 2 or more, not {self.dim}")
        require_rate(self, "dropout")

    def summary(self, attention: AttentionConfig) -> str:
        """Tell the dimensions in a line."""
        return (
            f"{self.num_encoder_layers}+{self.num_decoder_layers} layers, d={self.dim}, "
            f"kernel {self.kernel_width}, attention {attention.side_summary('cross')}"
        )

    def make_positions(self) -> SinusoidalPositions | LearnedPositions:
        """Make what tells where a token stands."""
        if self.positions == "sinusoidal":
            return SinusoidalPositions(self.dim)
        positions = LearnedPositions(self.dim, self.max_positions)
        nn.init.normal_(positions.weight)  # as tokens: the paper draws both alike
        return positions


@dataclass
class ConvolutionalState:
    """All that decoding carries from one token to the next.

    Args:
        memory: Keys and values of the source, ``[batch, keys, dim]``.
        lengths: Valid source positions of each row, ``[batch]``; None means all.
        caches: The last inputs of each decoder layer.
        position: Of the next token.
    """

    memory: Memory
    lengths: Tensor | None
    caches: list[ConvolutionCache] = field(default_factory=list)
    position: int = 0

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        keys, values = self.memory
        self.memory = keys.index_select(0, rows), values.index_select(0, rows)
        if self.lengths is not None:
            self.lengths = self.lengths.index_select(0, rows)
        for cache in self.caches:
            cache.select(rows)


class ConvBlock(nn.Module):
    """``sqrt(0.5) (x + convolution(dropout(x)))``.

    Args:
        config: Dimensions.
        pool: Of dropout masks.
        is_causal: Whether a position sees those before it only.
    """

    def __init__(self, config: ConvS2SConfig, pool: MaskPool, *, is_causal: bool = False) -> None:
        super().__init__()
        keep_rate = 1.0 - config.dropout
        self.convolution = GatedConvolution(
            config.dim, config.kernel_width, is_causal=is_causal, keep_rate=keep_rate
        )
        self.dropout = Dropout(config.dropout, pool)

    def forward(
        self, x: Tensor, is_valid: Tensor | None = None, cache: ConvolutionCache | None = None
    ) -> Tensor:
        """Map positions.

        Args:
            x: ``[batch, length, dim]``.
            is_valid: Which of them are no padding, ``[batch, length, 1]``; None means all.
            cache: Of a causal block: the inputs before `x`, brought up to date.

        Returns:
            Same shape as `x`.
        """
        seen = self.dropout(x)
        if is_valid is not None:
            seen = seen.masked_fill(~is_valid, 0.0)
        return (x + self.convolution(seen, cache)) * HALF

    def make_cache(self) -> ConvolutionCache:
        """Make what a causal block keeps of the positions seen, empty."""
        return ConvolutionCache()


class ConvDecoderBlock(nn.Module):
    """A causal convolution, attention to the source by its output and the token, residual.

    Args:
        config: Dimensions.
        pattern: Of attention.
        pool: Of dropout masks.
    """

    def __init__(self, config: ConvS2SConfig, pattern: Pattern | NoMask, pool: MaskPool) -> None:
        super().__init__()
        keep_rate = 1.0 - config.dropout
        self.convolution = GatedConvolution(
            config.dim, config.kernel_width, is_causal=True, keep_rate=keep_rate
        )
        self.query = Linear(config.dim, config.dim)
        self.cross_attention = SourceAttention(pattern)
        self.dropout = Dropout(config.dropout, pool)

    def forward(
        self, x: Tensor, tokens: Tensor, state: ConvolutionalState, cache: ConvolutionCache
    ) -> Tensor:
        """Map the decoder's stream.

        Args:
            x: New positions, ``[batch, length, dim]``.
            tokens: Their embeddings, the same shape.
            state: The source, and where the new positions begin.
            cache: The inputs before `x`, brought up to date.

        Returns:
            Same shape as `x`.
        """
        h = self.convolution(self.dropout(x), cache)
        context = self.cross_attention(
            (self.query(h) + tokens) * HALF,  # d_i = W_d h_i + b_d + g_i, equation 1
            state.memory,
            lengths=state.lengths,
            query_offset=state.position,
        )
        return (x + (h + context * _root_of_length(state)) * HALF) * HALF


def _root_of_length(state: ConvolutionalState) -> Tensor | float:
    """Restore the variance that a mean of m vectors loses: m sqrt(1 / m), section 3.4."""
    keys = state.memory[0]
    if state.lengths is None:
        return math.sqrt(keys.shape[1])
    return state.lengths.to(keys.dtype).sqrt()[:, None, None]  # [batch, 1, 1]


class ConvS2S(EncoderDecoder[ConvolutionalState]):
    """The convolutional encoder-decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids, shared by source and target.
        attention: Only its patterns of cross-attention have a meaning here.

    Raises:
        ConfigError: A pattern of self-attention is set.
    """

    def __init__(
        self,
        config: ConvS2SConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        num_blocks = config.num_encoder_layers + config.num_decoder_layers
        super().__init__(vocab_size, dim=config.dim, num_blocks=num_blocks)
        require_no_self_attention("conv_s2s", attention)
        self.config = config
        dim = config.dim
        source, target, self.output_weight = tied_tables(vocab_size, dim, config.tied)
        self.source_embedding = self._embedding(source)
        self.target_embedding = self._embedding(target)
        self.dropout = Dropout(config.dropout, self.mask_pool)
        # The paper's maps between the sizes of embeddings and of convolutions, section 3.2.
        self.encoder_input, self.encoder_output = Linear(dim, dim), Linear(dim, dim)
        self.decoder_input, self.decoder_output = Linear(dim, dim), Linear(dim, dim)
        self.encoder = nn.ModuleList(
            ConvBlock(config, self.mask_pool) for _ in range(config.num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            ConvDecoderBlock(config, pattern, self.mask_pool)
            for pattern in attention.cross_patterns(config.num_decoder_layers)
        )

    def _embedding(self, table: nn.Parameter) -> TokenEmbedding:
        dropout = Dropout(self.config.dropout, self.mask_pool)
        return TokenEmbedding(table, self.config.make_positions(), dropout)

    @property
    def decoder_blocks(self) -> list[ConvDecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder if isinstance(block, ConvDecoderBlock)]

    @property
    def aligning_attention(self) -> SourceAttention:
        """That of the last-but-one decoder layer, as for the Transformer."""
        blocks = self.decoder_blocks
        return blocks[max(0, len(blocks) - 2)].cross_attention

    def layers(self) -> list[nn.Module]:
        """List its layers; as `Model.layers`."""
        return [*self.encoder, *self.decoder]

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the bytes of scores and weights; as `EncoderDecoder.attention_bytes`."""
        patterns = attention.cross_patterns(self.config.num_decoder_layers)
        return self.bytes_kept(patterns, length)

    def encode(self, source_ids: Tensor) -> tuple[Memory, Tensor | None]:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with 0.

        Returns:
            The keys z and values z + e, ``[batch, source_length, dim]`` each, and the valid lengths
            ``[batch]``, or None where no row is padded.
        """
        lengths = valid_lengths(source_ids)
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

    def start(self, source_ids: Tensor) -> ConvolutionalState:
        """Read the source ``[batch, source_length]`` and prepare to decode."""
        memory, lengths = self.encode(source_ids)
        return ConvolutionalState(memory, lengths, [ConvolutionCache() for _ in self.decoder])

    def hidden(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the decoder's last states, ``[batch, length, dim]``; arguments as `forward`."""
        return self._write(target_ids, self.start(source_ids))

    def step(self, ids: Tensor, state: ConvolutionalState) -> Tensor:
        """Decode one token; as `EncoderDecoder.step`."""
        return self.logits(self._write(ids[:, None], state)[:, 0])

    def _write(self, target_ids: Tensor, state: ConvolutionalState) -> Tensor:
        """Go on by ``[batch, length]`` tokens; bring the state up to date."""
        tokens = EMBEDDED * self.target_embedding(
            target_ids, start=state.position, dtype=self.compute_dtype
        )
        x = self.decoder_input(tokens)
        for block, cache in zip(self.decoder, state.caches, strict=True):
            x = block(x, tokens, state, cache)
        state.position += target_ids.shape[1]
        return self.dropout(self.decoder_output(x))
