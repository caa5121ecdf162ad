"""The decoder of the Transformer alone, as a language model.

Liu et al. 2018, "Generating Wikipedia by Summarizing Long Sequences", section 4.2.3: blocks of
causal self-attention; embeddings, norms and sizes are those of Vaswani et al. 2017. Cost of a pass:
O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern replaces length^2 by
its number of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.models.base.decoder import Decoder
from regard.models.transformer.model import TransformerConfig


class TransformerDecoder(Decoder):
    """The decoder, without attention to a source.

    Args:
        config: Its dimensions; those of the encoder, such as num_encoder_layers, are not used.
        vocab_size: Number of token ids.
        attention: The patterns, of which it uses those of the decoder.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        config.require_no_source("a decoder")
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=config.num_heads,
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
