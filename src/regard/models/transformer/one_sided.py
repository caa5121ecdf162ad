"""Each side of the Transformer alone: its decoder as a language model, its encoder as a reader.

The decoder (Liu et al. 2018, "Generating Wikipedia by Summarizing Long Sequences", section 4.2.3)
has blocks of causal self-attention, the encoder blocks that see the whole text; embeddings, norms
and sizes are those of Vaswani et al. 2017. Cost of a pass: O(length^2 dim + length dim^2) a layer
with full attention; a sparse pattern replaces length^2 by its number of pairs.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.base.decoder import StackedDecoder
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import require_encoder_only
from regard.models.transformer.model import TransformerConfig


class TransformerDecoder(StackedDecoder):
    """The decoder without a source.

    Args:
        config: Its dimensions; what tells of a source, such as num_encoder_layers, is not used.
        vocab_size: Number of token ids.
        attention: The pattern of each layer, as for a decoder.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_layers=config.num_decoder_layers,
            dropout=config.dropout,
            tied=config.tied != "none",
            positions=config.make_positions(),
            scale=config.embedding_scale,
            embedding_norm=config.make_embedding_norm(),
        )
        self.config = config
        has_bias = config.has_output_bias
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if has_bias else None
        self.has_plain_logits = not has_bias
        block = config.block(2 * config.num_decoder_layers)
        patterns = attention.decoder_patterns(config.num_decoder_layers)
        self.add_blocks(block, map(block.self_attention, patterns))

    def logits(self, hidden: Tensor) -> Tensor:
        """Map states ``[batch, length, dim]`` (any leading axes) to ``[batch, length, vocab]``."""
        logits = super().logits(hidden)
        return logits if self.output_bias is None else logits + self.output_bias.to(logits.dtype)

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the bytes of scores and weights; as `TextModel.attention_bytes`."""
        config = self.config
        patterns = attention.decoder_patterns(config.num_decoder_layers)
        return self.bytes_kept(patterns, length, num_heads=config.num_heads)


class TransformerEncoder(Encoder):
    """The encoder, with a head for masked tokens.

    Args:
        config: Its dimensions; what tells of a target, such as num_decoder_layers, is not used.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        require_encoder_only("transformer", attention)
        sizes = _encoder_config(config)
        block = config.block(2 * config.num_encoder_layers)
        super().__init__(
            sizes,
            vocab_size,
            map(block.self_attention, sizes.patterns(attention)),
            block=block,
            embedding=config.make_embedding,
            initial_std=None,
        )

    def embed(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """Embed ids ``[batch, length]`` as ``[batch, length, dim]``.

        Raises:
            ConfigError: Segments are given.
        """
        if segments is not None:
            raise ConfigError("segments: a Transformer tells none apart.  Leave them out.")
        return self.embedding(ids, dtype=self.compute_dtype)


def _encoder_config(config: TransformerConfig) -> EncoderConfig:
    """Tell the settings of an encoder; the mean over its tokens stands for a text."""
    return EncoderConfig(
        num_layers=config.num_encoder_layers,
        dim=config.dim,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        dropout=config.dropout,
        norm=config.norm,
        activation=config.activation,
        epsilon=1e-5,
        # Sinusoids know no end.
        max_positions=config.max_positions if config.positions == "learned" else sys.maxsize,
        num_segments=0,
        pad_id=config.pad_id,
        pooling="mean",
    )


def describe_encoder(config: TransformerConfig, attention: AttentionConfig) -> str:
    """Tell the dimensions of the encoder alone in a line."""
    return _encoder_config(config).summary(attention)


def describe_decoder(config: TransformerConfig, attention: AttentionConfig) -> str:
    """Tell the dimensions of the decoder alone in a line."""
    return (
        f"{config.num_decoder_layers} layers, d={config.dim}, {config.num_heads} heads, "
        f"ff {config.hidden_dim}, {config.norm}-norm, "
        f"attention {attention.side_summary('decoder')}"
    )
