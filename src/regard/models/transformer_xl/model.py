"""Transformer-XL: a decoder that remembers its states, by relative positions (Dai et al. 2019).

A text is read in segments. With a memory of m positions every position of a segment sees itself,
those of its segment before it, and the m before the segment, in every layer: n layers reach back
n m positions, and the memory of a text is bounded. The first m + 1 positions have the same states
whether they are read in one piece, in segments or token by token. After them, token by token, every
position sees exactly the m before it, while in a segment read at once it also sees all earlier
positions of the segment. With the pattern ``local:m`` the two are the same for a text of any
length. The decoder of an encoder-decoder begins every target without memory; each position that it
writes sees the m before it.

Relative positions are those of section 3.3, with u and v shared by all layers, as there. The
adaptive softmax of the paper and dropout on attention weights are left out. Cost of a pass:
O(length (length + memory) dim + length dim^2) a layer with full attention.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from regard.attention import peak_saved_bytes
from regard.layers.attention_config import AttentionConfig
from regard.layers.feed_forward import Activation
from regard.layers.relative_attention import RelativeAttention, RelativePositions
from regard.layers.transformer_block import BlockConfig, NormPosition
from regard.models.base.decoder import Decoder, LayerCaches, residual_init_scale
from regard.models.base.model import FamilyConfig
from regard.settings.validation import require_at_least, require_even_heads, require_probability


class TransformerXlConfig(FamilyConfig, frozen=True, kw_only=True, tag="transformer_xl"):
    """The dimensions of a Transformer-XL.

    Args:
        num_layers: Blocks.
        dim: Size of the model, even and a multiple of `num_heads`.
        num_heads: Attention heads in every block.
        hidden_dim: Size inside the feed-forward networks.
        memory: Positions before a segment that every layer remembers, 1 or more.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1.
        norm: pre (default) or post (the paper's).
        activation: relu (the paper's), gelu, gelu_tanh, swiglu or geglu.
        tied: Whether the embedding and the output share one table.
    """

    num_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    hidden_dim: int = 2048
    memory: int = 256
    dropout: float = 0.1
    norm: NormPosition = "pre"
    activation: Activation = "relu"
    tied: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_layers", "num_heads", "hidden_dim", "memory")
        require_even_heads(self.dim, self.num_heads)
        require_probability(self, "dropout")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        return (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads, "
            f"ff {self.hidden_dim}, {self.norm}-norm, memory {self.memory}, "
            f"attention {attention.kind_summary('decoder')}"
        )


class TransformerXl(Decoder):
    """The decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The patterns, of which it uses those of the decoder.
        reads_source: Whether its blocks attend to the source of an encoder-decoder.
    """

    def __init__(
        self,
        config: TransformerXlConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
        *,
        reads_source: bool = False,
    ) -> None:
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=config.num_heads,
            dropout=config.dropout,
            tied=config.tied,
        )
        self.config = config
        self.memory_length = config.memory
        gain = residual_init_scale(config.num_layers, reads_source=reads_source)
        block = BlockConfig(
            dim=config.dim,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
            norm=config.norm,
            activation=config.activation,
            output_init_scale=gain if config.norm == "pre" else 1.0,
        )
        shared = RelativePositions(config.dim, config.num_heads)
        mixers = (
            RelativeAttention(
                config.dim,
                config.num_heads,
                pattern=pattern,
                memory=config.memory,
                shared=shared,
                output_init_scale=block.output_init_scale,
            )
            for pattern in attention.decoder_patterns(config.num_layers)
        )
        cross = attention.cross_patterns(config.num_layers) if reads_source else None
        self.add_blocks(block, mixers, cross)

    @property
    def mixers(self) -> list[RelativeAttention]:
        """The layers of attention, first to last."""
        return [module for module in self.modules() if isinstance(module, RelativeAttention)]

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the bytes a token of scores and weights, over a segment and the memory."""
        config, size = self.config, self.compute_dtype.itemsize
        keys = length + config.memory
        patterns = attention.decoder_patterns(config.num_layers)
        return config.num_heads * sum(
            peak_saved_bytes(pattern, keys, itemsize=size, is_plain=False) for pattern in patterns
        )

    def hidden_states_with_memory(
        self, ids: Tensor, memory: LayerCaches | None = None
    ) -> tuple[Tensor, LayerCaches]:
        """Read the next segment of every row, as in training (section 3.2).

        Args:
            ids: ``[batch, length]``, without padding; a row continues that of the segment before.
            memory: Memory of the segments before; None where there are none. It is not changed.

        Returns:
            The last hidden states, ``[batch, length, dim]``, and the memory for the next segment:
            at most ``config.memory`` states, through which no gradient flows.
        """
        if memory is None:
            caches = [mixer.make_memory() for mixer in self.mixers]
        else:
            caches = [copy(cache) for cache in memory.caches]
        return self.decode(ids, caches), LayerCaches(caches)

    def hidden_states_after(self, before: Tensor, ids: Tensor) -> Tensor:
        """Compute the last hidden states, ``[batch, length, dim]``, of `ids` after `before`."""
        with torch.no_grad():
            _, memory = self.hidden_states_with_memory(before)
        return self.hidden_states_with_memory(ids, memory)[0]
