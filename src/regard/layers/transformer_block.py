"""Encoder and decoder blocks (Vaswani et al. 2017, section 3.1), by the position of their norms.

Post-norm, ``norm(x + f(x))``, is the paper's. Pre-norm, ``x + f(norm(x))``, trains without
warm-up trouble (Xiong et al. 2020) and is the default here. Published decoders also normalise what
a sub-layer adds: with a norm before it, too, ``x + norm(f(norm(x)))`` (sandwich norm, Ding et al.
2021; Gemma 2), or without, ``x + norm(f(x))`` (Liu et al. 2022; OLMo 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from torch import Tensor, nn

from regard.attention import DotProduct
from regard.errors import ConfigError
from regard.layers.dropout import Dropout, add_dropped
from regard.layers.feed_forward import Activation, FeedForward
from regard.layers.layer import INPUT, Flow, Layer
from regard.layers.multi_head_attention import CrossAttention, SelfAttention
from regard.layers.norm import NORMS, LayerNorm, NormKind, RMSNorm
from regard.layers.positioned_cache import PositionedCache
from regard.layers.rotary import Rotary
from regard.layers.rotary_scaling import AnyRotaryScaling, PlainAngles
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_positive, require_probability

if TYPE_CHECKING:
    from regard.attention import Pattern
    from regard.layers.cache import LayerCache
    from regard.layers.relative_bias import RelativeBias

NormPosition = Literal["pre", "post"]
BlockNorm = Literal["pre", "post", "sandwich", "output"]


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dimensions of one block.

    Args:
        dim: Size of the model.
        num_heads: Number of attention heads.
        hidden_dim: Size inside the feed-forward network.
        dropout: Rate on the output of each sub-layer, 0 to below 1.
        norm: Where norms are: pre or post (before each sub-layer, or after its sum with the
            stream), output (on what it adds to the stream), or sandwich (pre and output).
        parallel_residual: Whether attention and feed-forward network read the same stream, and are
            added to it together.
        activation: Activation of the feed-forward network.
        output_init_scale: Factor on the initial weights of every map that writes to the residual
            stream.
        norm_kind: Which normalisation.
        epsilon: Constant that the normalisation adds to the variance.
        bias: Whether linear maps have biases.
        head_dim: Size of a head; None is ``dim / num_heads``.
        num_kv_heads: Heads of keys and values of self-attention; None is `num_heads`.
        rotary_base: Base of rotary positions; None has none.
        rotary_scaling: How their angles are changed for long texts.
        attention_bias: Whether the maps of attention have biases; None is `bias`.
        qkv_bias: Whether those to queries, keys and values of self-attention have them; None is
            as the other maps of attention.
        qk_norm: Whether self-attention normalises each head of its queries and keys, or joint, all
            heads together.
        rotary_fraction: Part of a head that is rotated, the first coordinates, above 0, 1 at most.
        query_scale: Factor on the scores of self-attention; None is the root of ``1 / head_dim``.
        soft_cap: Bound of these scores; None has none.
        norm_bias: Whether layer normalisations have biases.
    """

    dim: int
    num_heads: int
    hidden_dim: int
    dropout: float = 0.1
    norm: BlockNorm = "pre"
    parallel_residual: bool = False
    activation: Activation = "relu"
    output_init_scale: float = 1.0
    norm_kind: NormKind = "layer"
    epsilon: float = 1e-5
    bias: bool = True
    head_dim: int | None = None
    num_kv_heads: int | None = None
    rotary_base: float | None = None
    rotary_scaling: AnyRotaryScaling = PlainAngles()
    attention_bias: bool | None = None
    qkv_bias: bool | None = None
    qk_norm: bool | Literal["joint"] = False
    rotary_fraction: float = 1.0
    query_scale: float | None = None
    soft_cap: float | None = None
    norm_bias: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "dim", "num_heads", "hidden_dim", "head_dim", "num_kv_heads")
        require_probability(self, "dropout")
        require_positive(self, "epsilon", "rotary_base", "query_scale", "soft_cap")
        if self.parallel_residual and self.norm == "post":
            raise ValueError("parallel_residual must be false where norm is post")

    @property
    def has_attention_bias(self) -> bool:
        """Whether the maps of attention have biases, set or not."""
        return self.bias if self.attention_bias is None else self.attention_bias

    def self_attention(
        self, pattern: Pattern, position_bias: RelativeBias | None = None
    ) -> SelfAttention:
        """Build the self-attention of a block, by a pattern and a bias of distances, if any."""
        size, rotary = self.head_dim or self.dim // self.num_heads, None
        query_norm, key_norm = (
            NORMS[self.norm_kind](
                num_heads * size if self.qk_norm == "joint" else size, self.epsilon
            )
            if self.qk_norm
            else None
            for num_heads in (self.num_heads, self.num_kv_heads or self.num_heads)
        )
        if self.rotary_base is not None:
            rotary = Rotary(
                base=self.rotary_base, scaling=self.rotary_scaling, fraction=self.rotary_fraction
            )
        attention = SelfAttention(
            self.dim,
            self.num_heads,
            pattern=pattern,
            output_init_scale=self.output_init_scale,
            head_dim=self.head_dim,
            bias=self.has_attention_bias,
            num_kv_heads=self.num_kv_heads,
            rotary=rotary,
            qkv_bias=self.qkv_bias,
            query_norm=query_norm,
            key_norm=key_norm,
            score=DotProduct(self.query_scale, self.soft_cap),
        )
        attention.position_bias = position_bias
        return attention

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
        if self.norm_kind == "layer":
            return LayerNorm(self.dim, self.epsilon, bias=self.norm_bias)
        return NORMS[self.norm_kind](self.dim, self.epsilon)

    def make_last_norm(self) -> LayerNorm | RMSNorm | nn.Identity:
        """Build what follows the last block: a normalisation, but in post-norm nothing."""
        return nn.Identity() if self.norm == "post" else self.make_norm()


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
        self.norm_position: BlockNorm = config.norm
        self.norm = nn.Identity() if config.norm == "output" else config.make_norm()
        self.output_norm = config.make_norm() if config.norm in ("output", "sandwich") else None
        """Of what the sub-layer adds to the stream; None where that is not normalised."""
        self.dropout = Dropout(config.dropout)

    @property
    def is_pre(self) -> bool:
        """Whether `norm` is before the sub-layer, or nothing is; else after the sum."""
        return self.norm_position != "post"

    def forward(
        self, x: Tensor, sublayer: Callable[[Tensor], Tensor], *, source: Tensor | None = None
    ) -> Tensor:
        """Add what a sub-layer computes to the residual stream.

        Args:
            x: The stream, ``[batch, length, dim]``.
            sublayer: Maps ``[batch, length, dim]`` to the same shape.
            source: What it reads instead of the stream, of the same shape.

        Returns:
            Same shape as `x`.
        """
        read = x if source is None else source
        if not self.is_pre:
            return self.norm(add_dropped(x, sublayer(read), self.dropout))
        added = sublayer(self.norm(read))
        if self.output_norm is not None:
            added = self.output_norm(added)
        return add_dropped(x, added, self.dropout)

    def steps(self, sublayer: str, name: str, x: str, read: str | None = None) -> list[Flow]:
        """Return the data flow through it.

        Args:
            sublayer: Name of the sub-layer.
            name: Its own name within the block.
            x: Name of the stream.
            read: Name of what the sub-layer reads; None is the stream.

        Returns:
            The steps, of which the last one is the stream after it.
        """
        norm, output_norm, total = f"{name}.norm", f"{name}.output_norm", f"{name}.sum"
        read, added, steps = read or x, sublayer, []
        if isinstance(self.norm, nn.Identity) or not self.is_pre:
            steps.append(Flow(sublayer, (read,)))
        else:
            steps += [Flow(norm, (read,)), Flow(sublayer, (norm,))]
        if self.output_norm is not None:
            steps.append(Flow(output_norm, (sublayer,)))
            added = output_norm
        steps.append(Flow(total, (x, added)))
        return steps if self.is_pre else [*steps, Flow(norm, (total,))]


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
        attention = self.attention_residual.steps("self_attention", "attention_residual", INPUT)
        return attention + self.feed_forward_residual.steps(
            "feed_forward", "feed_forward_residual", attention[-1].name
        )

    def make_cache(self) -> LayerCache:
        """Return an empty cache of its self-attention."""
        return self.self_attention.make_cache()


class ParallelBlock(TransformerBlock):
    """Self-attention next to feed-forward, which read the same stream (Wang & Komatsuzaki 2021).

    GPT-J, GPT-NeoX and PaLM have it: ``x + attention(norm(x)) + feed_forward(norm'(x))``.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None, cache: Any | None = None) -> Tensor:
        """Map a sequence, ``[batch, length, dim]``, to the same shape; see `TransformerBlock`."""
        total = self.attention_residual(
            x, lambda y: self.self_attention(y, lengths=lengths, cache=cache)
        )
        return self.feed_forward_residual(total, self.feed_forward, source=x)

    def steps(self) -> list[Flow]:
        """Return the sub-layers with their norms and residual sums."""
        attention = self.attention_residual.steps("self_attention", "attention_residual", INPUT)
        return attention + self.feed_forward_residual.steps(
            "feed_forward", "feed_forward_residual", attention[-1].name, INPUT
        )


class DecoderBlock(Layer):
    """Self-attention, cross-attention over the encoder's output, then feed-forward.

    Args:
        config: Dimensions.
        self_attention: Causal.
        cross_pattern: Pattern of cross-attention.

    Raises:
        ConfigError: The sub-layers are to be parallel.
    """

    def __init__(self, config: BlockConfig, self_attention: Mixer, cross_pattern: Pattern) -> None:
        super().__init__()
        if config.parallel_residual:
            raise ConfigError(
                "parallel_residual=true: a block that attends to a source has its sub-layers one "
                "after the other.  Set it to false."
            )
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
        # A cache without a number is for attention that sees all of the source.
        start = 0 if cache is None or isinstance(cache, PositionedCache) else len(cache)
        x = self.self_residual(x, lambda y: self.self_attention(y, cache=cache))
        x = self.cross_residual(
            x,
            lambda y: self.cross_attention(y, *memory, lengths=memory_lengths, query_offset=start),
        )
        return self.feed_forward_residual(x, self.feed_forward)

    def steps(self) -> list[Flow]:
        """Return the sub-layers with their norms and residual sums."""
        steps = self.self_residual.steps("self_attention", "self_residual", INPUT)
        steps += self.cross_residual.steps("cross_attention", "cross_residual", steps[-1].name)
        return steps + self.feed_forward_residual.steps(
            "feed_forward", "feed_forward_residual", steps[-1].name
        )

    def make_cache(self) -> LayerCache:
        """Return an empty cache of its self-attention."""
        return self.self_attention.make_cache()
