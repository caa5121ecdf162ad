"""Decoder-only models: GPT-2, Pythia, OPT, and their successors Llama, Mistral, Qwen, Gemma, OLMo.

Radford et al. 2019 ("Language models are unsupervised multitask learners"): pre-norm blocks of
causal self-attention, learned positions, one table for input and output. Touvron et al. 2023
("LLaMA") takes RMS norms (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), gated
feed-forward networks (Shazeer 2020) and no biases; heads may share keys and values (Ainslie et al.
2023). The second is the default, the first a few settings away, and so are Mistral's window (Jiang
et al. 2023), Qwen2's biases (Yang et al. 2024) and the norms of queries and keys of Qwen3 (Yang et
al. 2025; Henry et al. 2020). Cost of a pass: O(length^2 dim + length dim^2) a layer with full
attention; a window or a sparse pattern replaces length^2 by its number of pairs.

These families differ in a dozen independent choices, each of which is one setting here with the
word of its paper: one class computes all of them, and a published model is a row of values
(``models/FAMILY/hf.py``). A class for each family would repeat the same block a dozen times.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regard.attention import Causal, Local, Pattern
from regard.layers.attention_config import AttentionConfig
from regard.layers.feed_forward import Activation
from regard.layers.initialization import fill_normal
from regard.layers.norm import NormKind
from regard.layers.positions import LearnedPositions
from regard.layers.rotary_scaling import AnyRotaryScaling, PlainAngles
from regard.layers.transformer_block import BlockConfig
from regard.models.base.decoder import Decoder, residual_init_scale
from regard.models.base.model import FamilyConfig
from regard.settings.validation import (
    require_at_least,
    require_fraction,
    require_positive,
    require_probability,
)

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
        norm: Where norms are: pre, before each sub-layer; output, on what it adds to the stream
            (OLMo 2); sandwich, both (Gemma 2).
        norm_kind: rms, layer (GPT-2) or zero_centered_rms (Gemma), whose factors are 1 + weight.
        epsilon: Epsilon of the norms, above 0.
        activation: swiglu, geglu_tanh (Gemma), geglu, gelu_tanh (GPT-2), gelu, silu or relu (OPT).
        parallel_residual: Whether attention and feed-forward network read the same stream and are
            added to it together (GPT-NeoX).
        bias: Whether linear maps have biases (GPT-2).
        attention_bias: Whether the maps of attention have biases; none is as the others.
        qkv_bias: Whether the maps to queries, keys and values have biases (Qwen2); none is as the
            other maps of attention.
        qk_norm: Whether each head of queries and keys is normalised before it is rotated (Qwen3);
            joint normalises all heads together (OLMo 2).
        query_pre_attn_scalar: Scores of queries and keys are divided by the root of this number
            (Gemma 2); none is the size of a head.
        attention_soft_cap: Bound c of these scores, ``c tanh(score / c)`` (Gemma 2); none has none.
        logit_soft_cap: The same bound of logits (Gemma 2).
        window: Tokens that a token sees, itself and those before it (Mistral); 0 is all of them, a
            list has one number for each layer. A pattern other than full in attention.pattern
            replaces it.
        positions: rotary or learned (GPT-2).
        max_positions: Rows of a learned position table, of which later positions take the last;
            rotary positions have no limit, unless they depend on it (dynamic, longrope).
        position_offset: Unused rows of such a table before those (OPT: 2).
        rotary_base: Base of rotary positions, above 0; larger for longer texts.
        local_rotary_base: Base in layers that have a window, whose angles are not slowed down
            (Gemma 3); none is as in the others.
        rotary_fraction: Part of each head that is rotated, its first coordinates (GPT-NeoX), above
            0, 1 at most.
        rotary_scaling: How rotary angles are changed for texts longer than those of the first
            training; default leaves them.
        has_embedding_scale: Whether embeddings are taken times ``sqrt(dim)`` (Gemma).
        tied: Whether input and output share one table.
    """

    num_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    num_kv_heads: int | None = None
    head_dim: int | None = None
    hidden_dim: int = 1408
    dropout: float = 0.1
    norm: Literal["pre", "sandwich", "output"] = "pre"
    norm_kind: NormKind = "rms"
    epsilon: float = 1e-5
    activation: Activation = "swiglu"
    parallel_residual: bool = False
    bias: bool = False
    attention_bias: bool | None = None
    qkv_bias: bool | None = None
    qk_norm: bool | Literal["joint"] = False
    query_pre_attn_scalar: float | None = None
    attention_soft_cap: float | None = None
    logit_soft_cap: float | None = None
    window: int | tuple[int, ...] = 0
    positions: Literal["rotary", "learned"] = "rotary"
    max_positions: int = 1024
    position_offset: int = 0
    rotary_base: float = 10000.0
    local_rotary_base: float | None = None
    rotary_fraction: float = 1.0
    rotary_scaling: AnyRotaryScaling = PlainAngles()
    has_embedding_scale: bool = False
    tied: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_layers", "dim", "num_heads", "hidden_dim", "max_positions")
        require_at_least(0, self, "position_offset")
        heads, shared = self.num_heads, self.num_kv_heads
        if self.head_dim is None and self.dim % heads:
            raise ValueError(f"dim must be a multiple of num_heads ({heads}), not {self.dim}")
        require_at_least(1, self, "head_dim")
        if shared is not None and (shared < 1 or heads % shared):
            raise ValueError(f"num_kv_heads must divide num_heads ({heads}), not {shared}")
        self._check_windows()
        require_probability(self, "dropout")
        require_positive(self, "epsilon", "rotary_base", "local_rotary_base")
        require_positive(self, "query_pre_attn_scalar", "attention_soft_cap", "logit_soft_cap")
        require_fraction(self, "rotary_fraction")
        if self.positions == "rotary":
            self._check_rotary()
            return
        if self.rotary_scaling != PlainAngles():
            raise ValueError(f"rotary_scaling must be default where positions are {self.positions}")
        if self.local_rotary_base is not None:
            raise ValueError(f"local_rotary_base must be none where positions are {self.positions}")
        if self.rotary_fraction != 1:
            raise ValueError(f"rotary_fraction must be 1 where positions are {self.positions}")

    def _check_rotary(self) -> None:
        """Check the settings of rotary positions, and that there is nothing for a table."""
        size = int(self.size_of_head * self.rotary_fraction)
        if size < 2 or size % 2:
            name = "head_dim" if self.head_dim else "dim / num_heads"
            part = "" if self.rotary_fraction == 1 else f" times {self.rotary_fraction:g}"
            raise ValueError(f"{name}{part} must be even with rotary positions, not {size}")
        num_factors = self.rotary_scaling.num_factors()
        if num_factors not in (None, size // 2):
            raise ValueError(
                f"rotary_scaling has {num_factors} factors, and a head has {size // 2} pairs"
            )
        if self.position_offset:
            raise ValueError("position_offset must be 0 where positions are rotary")
        if self.local_rotary_base is not None and not any(self.windows()):
            raise ValueError("local_rotary_base must be none where no layer has a window")

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
        """Return the tokens of the longest text: those that there are positions for."""
        return min(max_length, self.position_limit or max_length)

    @property
    def position_limit(self) -> int | None:
        """Most tokens that there are positions for; None where there is no limit."""
        is_limited = self.positions == "learned" or self.rotary_scaling.depends_on_length
        return self.max_positions if is_limited else None

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
        position = "" if self.norm == "pre" else f" ({self.norm})"
        parallel = ", parallel" if self.parallel_residual else ""
        return (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads{grouped}, "
            f"ff {self.hidden_dim} {self.activation}{parallel}, {self.norm_kind} norm{position}, "
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

    def block(self, *, reads_source: bool = False, has_window: bool = False) -> BlockConfig:
        """Return the dimensions of one block.

        Args:
            reads_source: Whether it also attends to a source.
            has_window: Whether it has the angles of layers with a window.
        """
        base, scaling = self.rotary_base, self.rotary_scaling
        if has_window and self.local_rotary_base is not None:
            base, scaling = self.local_rotary_base, PlainAngles()
        scalar = self.query_pre_attn_scalar
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm=self.norm,
            parallel_residual=self.parallel_residual,
            activation=self.activation,
            output_init_scale=residual_init_scale(self.num_layers, reads_source=reads_source),
            norm_kind=self.norm_kind,
            epsilon=self.epsilon,
            bias=self.bias,
            head_dim=self.head_dim,
            num_kv_heads=self.num_kv_heads,
            rotary_base=base if self.positions == "rotary" else None,
            rotary_scaling=scaling,
            rotary_fraction=self.rotary_fraction,
            attention_bias=self.attention_bias,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            query_scale=None if scalar is None else scalar**-0.5,
            soft_cap=self.attention_soft_cap,
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
            positions = LearnedPositions(config.dim, config.max_positions, config.position_offset)
            fill_normal(positions.weight, _TABLE_STD)
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=config.num_heads,
            dropout=config.dropout,
            tied=config.tied,
            table=_table,
            positions=positions,
            scale=config.dim**0.5 if config.has_embedding_scale else 1.0,
        )
        self.config = config
        self.has_plain_logits = config.logit_soft_cap is None
        mixers = (
            config.block(reads_source=reads_source, has_window=size > 0).self_attention(pattern)
            for pattern, size in zip(config.patterns(attention), config.windows(), strict=True)
        )
        cross = attention.cross_patterns(config.num_layers) if reads_source else None
        self.add_blocks(config.block(reads_source=reads_source), mixers, cross)

    @property
    def num_positions(self) -> int | None:
        """Maximum number of tokens that there are positions for; None without a limit."""
        return self.config.position_limit

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``[batch, length, dim]`` (any leading axes) to ``[..., vocab]``."""
        logits, cap = super().logits(hidden), self.config.logit_soft_cap
        return logits if cap is None else cap * (logits / cap).tanh()

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = self.config.patterns(attention)
        return self.bytes_kept(patterns, length, num_heads=self.num_heads)


def _table(rows: int, dim: int) -> nn.Parameter:
    """Return a table of embeddings, ``[rows, dim]``, which are used without a factor."""
    return nn.Parameter(fill_normal(torch.empty(rows, dim), _TABLE_STD))
