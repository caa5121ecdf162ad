"""The encoder of the Transformer alone, which reads a text in both directions.

Its blocks see the whole text; embeddings, norms and sizes are those of Vaswani et al. 2017. Cost of
a pass: O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern replaces
length^2 by its number of pairs.
"""

from __future__ import annotations

import sys

from torch import Tensor

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_no_decoder
from regard.models.transformer.model import TransformerConfig


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
        check_no_decoder("transformer", attention)
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
