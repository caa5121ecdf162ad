"""Encoder and decoder blocks (Vaswani et al. 2017, section 3.1), post-norm or pre-norm.

Post-norm, ``norm(x + f(x))``, is the paper's. Pre-norm, ``x + f(norm(x))``, trains without
warm-up trouble (Xiong et al. 2020) and is the default here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from torch import Tensor, nn

from regard.attention import NoMask, Pattern
from regard.layers.attention import CrossAttention, SelfAttention
from regard.layers.cache import Cache
from regard.layers.dropout import Dropout, MaskPool
from regard.layers.feed_forward import Activation, FeedForward
from regard.layers.norm import LayerNorm

NormPlace = Literal["pre", "post"]


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dimensions of one block.

    Args:
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Number of attention heads.
        hidden_dim: Size inside the feed-forward network.
        dropout: Rate on the output of each sub-layer, 0 to below 1.
        norm: Where normalisation stands.
        activation: Of the feed-forward network.
        output_gain: Factor on the initial weights of every map that writes to the residual stream.
    """

    dim: int
    num_heads: int
    hidden_dim: int
    dropout: float
    norm: NormPlace
    activation: Activation
    output_gain: float


class Residual(nn.Module):
    """A sub-layer's residual connection with its normalisation and dropout."""

    def __init__(self, config: BlockConfig, pool: MaskPool) -> None:
        super().__init__()
        self.norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout, pool)
        self.is_pre = config.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `sublayer` to ``[batch, length, dim]`` around the residual stream."""
        if self.is_pre:
            return self.dropout.add(x, sublayer(self.norm(x)))
        return self.norm(self.dropout.add(x, sublayer(x)))


class EncoderBlock(nn.Module):
    """Self-attention by `pattern`, then feed-forward."""

    def __init__(self, config: BlockConfig, pattern: Pattern | NoMask, pool: MaskPool) -> None:
        super().__init__()
        self.self_attention = SelfAttention(
            config.dim, config.num_heads, pattern=pattern, output_gain=config.output_gain
        )
        self.feed_forward = FeedForward(
            config.dim,
            config.hidden_dim,
            activation=config.activation,
            output_gain=config.output_gain,
        )
        self.attention_residual = Residual(config, pool)
        self.feed_forward_residual = Residual(config, pool)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map ``[batch, length, dim]`` to the same; `lengths` ``[batch]`` are valid positions."""
        x = self.attention_residual(x, lambda y: self.self_attention(y, lengths=lengths))
        return self.feed_forward_residual(x, self.feed_forward)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention over the encoder's output, then feed-forward.

    Args:
        config: Dimensions.
        pattern: Of self-attention, causal.
        cross_pattern: Of cross-attention.
        pool: Of dropout masks.
    """

    def __init__(
        self,
        config: BlockConfig,
        pattern: Pattern | NoMask,
        cross_pattern: Pattern | NoMask,
        pool: MaskPool,
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(
            config.dim, config.num_heads, pattern=pattern, output_gain=config.output_gain
        )
        self.cross_attention = CrossAttention(
            config.dim, config.num_heads, pattern=cross_pattern, output_gain=config.output_gain
        )
        self.feed_forward = FeedForward(
            config.dim,
            config.hidden_dim,
            activation=config.activation,
            output_gain=config.output_gain,
        )
        self.self_residual = Residual(config, pool)
        self.cross_residual = Residual(config, pool)
        self.feed_forward_residual = Residual(config, pool)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_lengths: Tensor | None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Map the decoder's stream.

        Args:
            x: New positions, ``[batch, length, dim]``.
            memory: Keys and values of the source, from ``cross_attention.project``.
            memory_lengths: Valid source positions of each row, ``[batch]``; None means all.
            cache: Self-attention keys and values of the positions before `x`.

        Returns:
            Same shape as `x`.
        """
        start = 0 if cache is None else len(cache)
        x = self.self_residual(x, lambda y: self.self_attention(y, cache=cache))
        x = self.cross_residual(
            x,
            lambda y: self.cross_attention(y, *memory, lengths=memory_lengths, query_offset=start),
        )
        return self.feed_forward_residual(x, self.feed_forward)
