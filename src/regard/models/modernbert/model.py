"""ModernBERT: an encoder of long texts.

Warner, Chaffin, Clavié, Weller et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional
Encoder for Fast, Memory Efficient, and Long Context Finetuning and Inference", 2024: pre-norm
blocks without biases, gated feed-forward networks (Shazeer 2020), rotary positions (Su et al.
2021), and attention that alternates: every third layer sees all tokens, the others a window. The
embeddings are normalised, and the first layer's attention therefore has no norm of its own. Cost
of a pass: O(length window dim + length dim^2) in a layer with a window, length^2 in place of
length window in the others.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from torch import nn

from regard.attention import Full, Local, Pattern
from regard.layers.attention_config import AttentionConfig
from regard.layers.feed_forward import Activation
from regard.layers.linear import Linear
from regard.layers.masked_token_head import MaskedTokenHead
from regard.layers.norm import LayerNorm
from regard.layers.pooling import PoolerActivation
from regard.layers.positions import LearnedPositions
from regard.layers.prediction_head import PredictionHead
from regard.layers.transformer_block import BlockConfig, NormPosition, TransformerBlock
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import require_positive


class ModernBertConfig(
    EncoderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="modernbert"
):
    """The dimensions of a ModernBERT; the defaults are those of ModernBERT base.

    Args:
        norm: pre (default, the paper's) or post.
        activation: geglu (the paper's), swiglu, or one without a gate: gelu, gelu_tanh, relu.
        max_positions: Longest text, in tokens.
        position_offset: 0 only: rotary positions have no table.
        num_segments: Kinds of segments; 0, the paper's, has no table of them.
        embedding_dim: None only.
        has_pooler: Whether classifiers and models of answers have the paper's prediction head: a
            linear map, an activation and a norm of the vector that they read. It begins as the
            head of masked tokens, where the weights have that.
        pooler_activation: Activation of that head: gelu (the paper's), relu or tanh.
        window: Tokens that a token sees in a layer, half of them on either side; 0 is all of them.
            A list alternates over the layers. A pattern other than full in attention.pattern
            replaces it.
        rotary_base: Base of rotary positions in layers that see all tokens, above 0.
        local_rotary_base: The same in layers with a window.
        bias: Whether the maps of feed-forward networks have biases.
        attention_bias: Whether those of attention have biases.
        norm_bias: Whether norms have biases.
        head_bias: Whether the map of the prediction head has a bias.
        has_output_bias: Whether logits of masked tokens have a bias each.
    """

    pools_every_vector: ClassVar[bool] = True

    num_layers: int = 22
    hidden_dim: int = 1152
    dropout: float = 0.0
    norm: NormPosition = "pre"
    activation: Activation = "geglu"
    epsilon: float = 1e-5
    max_positions: int = 8192
    num_segments: int = 0
    has_pooler: bool = True
    pooler_activation: PoolerActivation = "gelu"
    window: int | tuple[int, ...] = (0, 128, 128)
    rotary_base: float = 160_000.0
    local_rotary_base: float = 10_000.0
    bias: bool = False
    attention_bias: bool = False
    norm_bias: bool = False
    head_bias: bool = False
    has_output_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rotary_base", "local_rotary_base")
        if (self.dim // self.num_heads) % 2:
            size = self.dim // self.num_heads
            raise ValueError(f"dim / num_heads must be even with rotary positions, not {size}")
        if self.position_offset:
            offset = self.position_offset
            raise ValueError(f"position_offset must be 0, not {offset}: there is no table")
        if self.embedding_dim is not None:
            raise ValueError(f"embedding_dim must be none, not {self.embedding_dim}")
        sizes = (self.window,) if isinstance(self.window, int) else self.window
        if not sizes:
            raise ValueError("window must have one number or more")
        if min(sizes) < 0:
            raise ValueError(f"window must be 0 or more, not {min(sizes)}")

    def windows(self) -> tuple[int, ...]:
        """Return the window of each layer; 0 is none.

        >>> ModernBertConfig(num_layers=5).windows()
        (0, 128, 128, 0, 128)
        """
        sizes = (self.window,) if isinstance(self.window, int) else self.window
        return tuple(sizes[layer % len(sizes)] for layer in range(self.num_layers))

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        sizes = [size for size in self.windows() if size]
        text = " / ".join(str(size) for size in dict.fromkeys(sizes))
        windows = f", window {text} in {len(sizes)} of {self.num_layers} layers" if sizes else ""
        return super().summary(attention) + windows

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer.

        >>> ModernBertConfig(num_layers=2).patterns(AttentionConfig())
        [Full(), Local(before=64, after=64)]
        """
        return [
            Local(size // 2, size // 2) if size and isinstance(pattern, Full) else pattern
            for pattern, size in zip(
                attention.encoder_patterns(self.num_layers), self.windows(), strict=True
            )
        ]

    def block(self) -> BlockConfig:
        """Return the dimensions of a block that sees all tokens."""
        return msgspec.structs.replace(
            super().block(),
            bias=self.bias,
            attention_bias=self.attention_bias,
            norm_bias=self.norm_bias,
            rotary_base=self.rotary_base,
        )

    def make_positions(self) -> LearnedPositions | None:
        """Return None: the layers have their own."""
        return None

    def make_norm(self, dim: int) -> LayerNorm:
        """Return a normalisation outside of the blocks."""
        return LayerNorm(dim, self.epsilon, bias=self.norm_bias)

    def make_head(self, vocab_size: int) -> MaskedTokenHead | None:
        """Return the head of masked tokens, if there is one."""
        if not self.has_mlm_head:
            return None
        return MaskedTokenHead(
            self.dim,
            vocab_size,
            self.make_norm(self.dim),
            activation=self.head_activation,
            bias=self.head_bias,
            output_bias=self.has_output_bias,
        )

    def make_pooler(self) -> PredictionHead | None:
        """Return the prediction head; None where there is none, or the head of tokens holds it."""
        if self.has_mlm_head or not self.has_pooler:
            return None
        dense = Linear(self.dim, self.dim, bias=self.head_bias)
        return PredictionHead(dense, self.make_norm(self.dim), activation=self.pooler_activation)


class ModernBert(Encoder):
    """The encoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The pattern of each layer; full is the window of `config`.
    """

    config: ModernBertConfig

    def __init__(
        self,
        config: ModernBertConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_patterns(config, attention, lacks="decoder")
        block = config.block()
        local_block = msgspec.structs.replace(block, rotary_base=config.local_rotary_base)
        mixers = (
            (local_block if window else block).self_attention(pattern)
            for pattern, window in zip(config.patterns(attention), config.windows(), strict=True)
        )
        super().__init__(config, vocab_size, mixers)
        if config.norm == "pre":
            first = self.blocks[0]
            assert isinstance(first, TransformerBlock)
            # The embeddings are normalised.
            first.attention_residual.register_module("norm", nn.Identity())

    def drop_head(self) -> None:
        """Remove the head of masked tokens; its map and its norm become the prediction head."""
        config = msgspec.structs.replace(self.config, has_mlm_head=False)
        if self.head is not None and config.has_pooler:
            dense, norm = self.head.dense, self.head.norm
            self.pooler = PredictionHead(dense, norm, activation=config.pooler_activation)
        self.head, self.config = None, config
