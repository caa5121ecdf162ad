"""Decoder-only models: GPT-2 and its modern successors, Llama, SmolLM, Mistral and Qwen.

Radford et al. 2019 ("Language models are unsupervised multitask learners"): pre-norm blocks of
causal self-attention, learned positions, one table for input and output. Touvron et al. 2023
("LLaMA") takes RMS norms (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), gated
feed-forward networks (Shazeer 2020) and no biases; heads may share keys and values (Ainslie et al.
2023). The second is the default, the first a few settings away, and so are Mistral's window (Jiang
et al. 2023), Qwen2's biases (Yang et al. 2024) and the norms of queries and keys of Qwen3 (Yang et
al. 2025; Henry et al. 2020). Cost of a pass: O(length^2 dim + length dim^2) a layer with full
attention; a window or a sparse pattern replaces length^2 by its number of pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from regard.attention import Causal, Local, Pattern
from regard.layers.attention_config import AttentionConfig
from regard.layers.feed_forward import Activation
from regard.layers.initialization import fill_normal
from regard.layers.norm import NormKind
from regard.layers.positions import LearnedPositions
from regard.layers.rotary_scaling import RotaryScaling
from regard.layers.transformer_block import BlockConfig
from regard.models.base.decoder import Decoder, residual_init_scale
from regard.models.base.model import FamilyConfig
from regard.settings.validation import require_at_least, require_positive, require_probability

_TABLE_STD = 0.02  # of the tables' initial weights: Radford et al. 2018, section 4.1


class GptConfig(FamilyConfig, frozen=True, kw_only=True, tag="gpt"):
    """The dimensions of a decoder-only model.

    Args:
        num_layers: Blocks.
        dim: Size of the model.
        num_heads: Attention heads in every block.
        num_kv_heads: Heads of keys and values, which divide num_heads; none is one for each.
        head_dim: Size of a head; none is dim / num_heads.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1.
        norm_kind: rms or layer (GPT-2).
        epsilon: Epsilon of the norms, above 0.
        activation: swiglu, gelu_tanh (GPT-2), gelu or relu.
        bias: Whether linear maps have biases (GPT-2).
        attention_bias: Whether the maps of attention have biases; none is as the others.
        qkv_bias: Whether the maps to queries, keys and values have biases (Qwen2); none is as the
            other maps of attention.
        qk_norm: Whether each head of queries and keys is normalised before it is rotated (Qwen3).
        window: Tokens that a token sees, itself and those before it (Mistral); 0 is all of them, a
            list has one number for each layer. A pattern other than full in attention.pattern
            replaces it.
        positions: rotary or learned (GPT-2).
        max_positions: Rows of a learned position table, of which later positions take the last;
            rotary positions have no limit.
        rotary_base: Base of rotary positions, above 0; larger for longer texts.
        rotary_scaling: Divisor of slow rotary angles, tokens of the longest text of the first
            training, and how often slow and fast angles turn within it (Llama 3.1: 8, 8192, 1, 4);
            none leaves them.
        tied: Whether input and output share one table.
    """

    num_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    num_kv_heads: int | None = None
    head_dim: int | None = None
    hidden_dim: int = 1408
    dropout: float = 0.1
    norm_kind: NormKind = "rms"
    epsilon: float = 1e-5
    activation: Activation = "swiglu"
    bias: bool = False
    attention_bias: bool | None = None
    qkv_bias: bool | None = None
    qk_norm: bool = False
    window: int | tuple[int, ...] = 0
    positions: Literal["rotary", "learned"] = "rotary"
    max_positions: int = 1024
    rotary_base: float = 10000.0
    rotary_scaling: tuple[float, float, float, float] | None = None
    tied: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_layers", "dim", "num_heads", "hidden_dim", "max_positions")
        heads, shared = self.num_heads, self.num_kv_heads
        if self.head_dim is None and self.dim % heads:
            raise ValueError(f"dim must be a multiple of num_heads ({heads}), not {self.dim}")
        require_at_least(1, self, "head_dim")
        if self.positions == "rotary" and self.size_of_head % 2:
            name = "head_dim" if self.head_dim else "dim / num_heads"
            raise ValueError(f"{name} must be even with rotary positions, not {self.size_of_head}")
        if shared is not None and (shared < 1 or heads % shared):
            raise ValueError(f"num_kv_heads must divide num_heads ({heads}), not {shared}")
        self._check_windows()
        require_probability(self, "dropout")
        require_positive(self, "epsilon", "rotary_base")
        if self.rotary_scaling is None:
            return
        if self.positions != "rotary":
            raise ValueError(f"rotary_scaling must be none where positions are {self.positions}")
        try:
            RotaryScaling.of(self.rotary_scaling)
        except ValueError as error:
            raise ValueError(f"rotary_scaling: {error}") from None

    def _check_windows(self) -> None:
        """Check that there is one window, or one of each layer, of 0 or more."""
        sizes = (self.window,) if isinstance(self.window, int) else self.window
        if isinstance(self.window, tuple) and len(sizes) != self.num_layers:
            raise ValueError(
                f"window must be one number or one for each of {self.num_layers} layers, "
                f"not {len(sizes)}"
            )
        if min(sizes) < 0:
            raise ValueError(f"window must be 0 or more, not {min(sizes)}")

    def longest_input(self, max_length: int) -> int:
        """Return the tokens of the longest text: those that a learned table has positions for."""
        return min(max_length, self.max_positions) if self.positions == "learned" else max_length

    @property
    def size_of_head(self) -> int:
        """The size of a head, set or not."""
        return self.head_dim or self.dim // self.num_heads

    def windows(self) -> tuple[int, ...]:
        """Return the window of each layer; 0 is none."""
        return (self.window,) * self.num_layers if isinstance(self.window, int) else self.window

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer.

        >>> GptConfig(num_layers=2, window=(0, 8)).patterns(AttentionConfig())
        [Causal(), Local(before=7, after=0)]
        """
        return [
            Local(size - 1, 0) if size and isinstance(pattern, Causal) else pattern
            for pattern, size in zip(
                attention.decoder_patterns(self.num_layers), self.windows(), strict=True
            )
        ]

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        shared = self.num_kv_heads
        grouped = "" if shared in (None, self.num_heads) else f" ({shared} of keys and values)"
        return (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads{grouped}, "
            f"ff {self.hidden_dim} {self.activation}, {self.norm_kind} norm, "
            f"{self.positions} positions, attention {attention.kind_summary('decoder')}"
            f"{self._window_summary()}"
        )

    def _window_summary(self) -> str:
        """Describe the windows; empty where there are none."""
        sizes = [size for size in self.windows() if size]
        if not sizes:
            return ""
        text = " / ".join(str(size) for size in dict.fromkeys(sizes))
        layers = f" in {len(sizes)} of {self.num_layers} layers"
        return f", window {text}" + (layers if len(sizes) < self.num_layers else "")

    def block(self, *, reads_source: bool = False) -> BlockConfig:
        """Return the dimensions of one block, which may also attend to a source."""
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm="pre",
            activation=self.activation,
            output_init_scale=residual_init_scale(self.num_layers, reads_source=reads_source),
            norm_kind=self.norm_kind,
            epsilon=self.epsilon,
            bias=self.bias,
            head_dim=self.head_dim,
            num_kv_heads=self.num_kv_heads,
            rotary_base=self.rotary_base if self.positions == "rotary" else None,
            rotary_scaling=RotaryScaling.of(self.rotary_scaling) if self.rotary_scaling else None,
            attention_bias=self.attention_bias,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
        )


class Gpt(Decoder):
    """The decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The pattern of each layer; full is the window of `config`.
        reads_source: Whether its blocks attend to the source of an encoder-decoder.
    """

    def __init__(
        self,
        config: GptConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
        *,
        reads_source: bool = False,
    ) -> None:
        positions = None
        if config.positions == "learned":
            positions = LearnedPositions(config.dim, config.max_positions)
            fill_normal(positions.weight, _TABLE_STD)
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=config.num_heads,
            dropout=config.dropout,
            tied=config.tied,
            table=_table,
            positions=positions,
            scale=1.0,
        )
        self.config = config
        block = config.block(reads_source=reads_source)
        mixers = map(block.self_attention, config.patterns(attention))
        cross = attention.cross_patterns(config.num_layers) if reads_source else None
        self.add_blocks(block, mixers, cross)

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = self.config.patterns(attention)
        return self.bytes_kept(patterns, length, num_heads=self.num_heads)


def _table(rows: int, dim: int) -> nn.Parameter:
    """Return a table of embeddings, ``[rows, dim]``, which are used without a factor."""
    return nn.Parameter(fill_normal(torch.empty(rows, dim), _TABLE_STD))
