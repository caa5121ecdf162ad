"""Encoder and decoder blocks (Vaswani et al. 2017, section 3.1), post-norm or pre-norm.

Post-norm, ``norm(x + f(x))``, is the paper's. Pre-norm, ``x + f(norm(x))``, trains without
warm-up trouble (Xiong et al. 2020) and is the default here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from torch import Tensor, nn

from regard.layers.dropout import Dropout, add_dropped
from regard.layers.feed_forward import Activation, FeedForward
from regard.layers.layer import INPUT, Flow, Layer
from regard.layers.multi_head_attention import CrossAttention, SelfAttention
from regard.layers.norm import NORMS, LayerNorm, NormKind, RMSNorm
from regard.layers.rotary import Rotary
from regard.layers.rotary_scaling import RotaryScaling
from regard.layers.static_cache import StaticCache
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_positive, require_probability

if TYPE_CHECKING:
    from regard.attention import Pattern
    from regard.layers.cache import LayerCache

NormPosition = Literal["pre", "post"]


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dimensions of one block.

    Args:
        dim: Size of the model.
        num_heads: Number of attention heads.
        hidden_dim: Size inside the feed-forward network.
        dropout: Rate on the output of each sub-layer, 0 to below 1.
        norm: pre or post: before or after each sub-layer.
        activation: Activation of the feed-forward network.
        output_init_scale: Factor on the initial weights of every map that writes to the residual
            stream.
        norm_kind: Which normalisation.
        epsilon: Constant that the normalisation adds to the variance.
        bias: Whether linear maps have biases.
        head_dim: Size of a head; None is ``dim / num_heads``.
        num_kv_heads: Heads of keys and values of self-attention; None is `num_heads`.
        rotary_base: Base of rotary positions; None has none.
        rotary_scaling: How their slow angles are slowed down; None leaves them.
        attention_bias: Whether the maps of attention have biases; None is `bias`.
        qkv_bias: Whether those to queries, keys and values of self-attention have them; None is
            as the other maps of attention.
        qk_norm: Whether self-attention normalises each head of its queries and keys.
    """

    dim: int
    num_heads: int
    hidden_dim: int
    dropout: float = 0.1
    norm: NormPosition = "pre"
    activation: Activation = "relu"
    output_init_scale: float = 1.0
    norm_kind: NormKind = "layer"
    epsilon: float = 1e-5
    bias: bool = True
    head_dim: int | None = None
    num_kv_heads: int | None = None
    rotary_base: float | None = None
    rotary_scaling: RotaryScaling | None = None
    attention_bias: bool | None = None
    qkv_bias: bool | None = None
    qk_norm: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "dim", "num_heads", "hidden_dim", "head_dim", "num_kv_heads")
        require_probability(self, "dropout")
        require_positive(self, "epsilon", "rotary_base")

    @property
    def has_attention_bias(self) -> bool:
        """Whether the maps of attention have biases, set or not."""
        return self.bias if self.attention_bias is None else self.attention_bias

    def self_attention(self, pattern: Pattern) -> SelfAttention:
        """Build the self-attention of a block, by a pattern."""
        size = self.head_dim or self.dim // self.num_heads
        query_norm, key_norm = (
            NORMS[self.norm_kind](size, self.epsilon) if self.qk_norm else None for _ in range(2)
        )
        return SelfAttention(
            self.dim,
            self.num_heads,
            pattern=pattern,
            output_init_scale=self.output_init_scale,
            head_dim=self.head_dim,
            bias=self.has_attention_bias,
            num_kv_heads=self.num_kv_heads,
            rotary=None
            if self.rotary_base is None
            else Rotary(base=self.rotary_base, scaling=self.rotary_scaling),
            qkv_bias=self.qkv_bias,
            query_norm=query_norm,
            key_norm=key_norm,
        )

    def feed_forward(self) -> FeedForward:
        """Build the feed-forward network of a block."""
        return FeedForward(
            self.dim,
            self.hidden_dim,
            activation=self.activation,
            bias=self.bias,
            output_init_scale=self.output_init_scale,
        )

    def make_norm(self) -> LayerNorm | RMSNorm:
        """Build one normalisation."""
        return NORMS[self.norm_kind](self.dim, self.epsilon)

    def make_last_norm(self) -> LayerNorm | RMSNorm | nn.Identity:
        """Build what follows the last block: a normalisation in pre-norm, else nothing."""
        return self.make_norm() if self.norm == "pre" else nn.Identity()


class Mixer(Protocol):
    """How the positions of a block exchange data: self-attention, or a layer in its place."""

    def __call__(
        self, x: Tensor, *, lengths: Tensor | None = None, cache: Any | None = None
    ) -> Tensor:
        """Map ``[batch, length, dim]`` to the same shape, with arguments of `SelfAttention`."""
        ...

    def make_cache(self) -> LayerCache:
        """Return an empty cache."""
        ...


class ResidualConnection(nn.Module):
    """A sub-layer's residual connection with its normalisation and dropout."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm = config.make_norm()
        self.dropout = Dropout(config.dropout)
        self.is_pre = config.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `sublayer` to ``[batch, length, dim]`` around the residual stream."""
        if self.is_pre:
            return add_dropped(x, sublayer(self.norm(x)), self.dropout)
        return self.norm(add_dropped(x, sublayer(x), self.dropout))


class TransformerBlock(Layer):
    """Self-attention, then feed-forward: a layer of an encoder, or of a decoder-only model.

    Args:
        config: Dimensions.
        self_attention: Such as from ``config.self_attention``.
    """

    def __init__(self, config: BlockConfig, self_attention: Mixer) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.feed_forward = config.feed_forward()
        self.attention_residual = ResidualConnection(config)
        self.feed_forward_residual = ResidualConnection(config)

    def forward(self, x: Tensor, lengths: Tensor | None = None, cache: Any | None = None) -> Tensor:
        """Map a sequence.

        Args:
            x: New positions, ``[batch, length, dim]``.
            lengths: Valid positions of each row, ``[batch]``; None means all.
            cache: Cache of self-attention, with the positions before `x`; None where there are
                none.

        Returns:
            Same shape as `x`.
        """
        x = self.attention_residual(
            x, lambda y: self.self_attention(y, lengths=lengths, cache=cache)
        )
        return self.feed_forward_residual(x, self.feed_forward)

    def steps(self) -> list[Flow]:
        """Return the sub-layers with their norms and residual sums."""
        residuals = {
            "self_attention": "attention_residual",
            "feed_forward": "feed_forward_residual",
        }
        return _residual_steps(residuals, is_pre=self.feed_forward_residual.is_pre)

    def make_cache(self) -> LayerCache:
        """Return an empty cache of its self-attention."""
        return self.self_attention.make_cache()


class DecoderBlock(Layer):
    """Self-attention, cross-attention over the encoder's output, then feed-forward.

    Args:
        config: Dimensions.
        self_attention: Causal.
        cross_pattern: Pattern of cross-attention.
    """

    def __init__(self, config: BlockConfig, self_attention: Mixer, cross_pattern: Pattern) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.cross_attention = CrossAttention(
            config.dim,
            config.num_heads,
            pattern=cross_pattern,
            output_init_scale=config.output_init_scale,
            head_dim=config.head_dim,
            bias=config.has_attention_bias,
        )
        self.feed_forward = config.feed_forward()
        self.self_residual = ResidualConnection(config)
        self.cross_residual = ResidualConnection(config)
        self.feed_forward_residual = ResidualConnection(config)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_lengths: Tensor | None,
        cache: Any | None = None,
    ) -> Tensor:
        """Map the decoder's stream.

        Args:
            x: New positions, ``[batch, length, dim]``.
            memory: Keys and values of the source, from ``cross_attention.project``.
            memory_lengths: Valid source positions of each row, ``[batch]``; None means all.
            cache: Cache of self-attention, with the positions before `x`; None where there are
                none.

        Returns:
            Same shape as `x`.
        """
        # A static cache has no number, and is for attention that sees all of the source.
        start = 0 if cache is None or isinstance(cache, StaticCache) else len(cache)
        x = self.self_residual(x, lambda y: self.self_attention(y, cache=cache))
        x = self.cross_residual(
            x,
            lambda y: self.cross_attention(y, *memory, lengths=memory_lengths, query_offset=start),
        )
        return self.feed_forward_residual(x, self.feed_forward)

    def steps(self) -> list[Flow]:
        """Return the sub-layers with their norms and residual sums."""
        residuals = {
            "self_attention": "self_residual",
            "cross_attention": "cross_residual",
            "feed_forward": "feed_forward_residual",
        }
        return _residual_steps(residuals, is_pre=self.feed_forward_residual.is_pre)

    def make_cache(self) -> LayerCache:
        """Return an empty cache of its self-attention."""
        return self.self_attention.make_cache()


def _residual_steps(residuals: dict[str, str], *, is_pre: bool) -> list[Flow]:
    """Return the data flow through sub-layers, each with the name of its residual connection."""
    steps, x = [], INPUT
    for sublayer, residual in residuals.items():
        norm, total = f"{residual}.norm", f"{residual}.sum"
        if is_pre:
            steps += [Flow(norm, (x,)), Flow(sublayer, (norm,)), Flow(total, (x, sublayer))]
        else:
            steps += [Flow(sublayer, (x,)), Flow(total, (x, sublayer)), Flow(norm, (total,))]
        x = steps[-1].name
    return steps
