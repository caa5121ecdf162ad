"""The encoder of the Transformer alone, which reads a text in both directions.

Its blocks see the whole text; embeddings, norms and sizes are those of Vaswani et al. 2017. Cost of
a pass: O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern replaces
length^2 by its number of pairs.
"""

from __future__ import annotations

from torch import Tensor

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_patterns
from regard.models.transformer.model import TransformerConfig
from regard.settings.validation import LARGEST


class TransformerEncoder(Encoder):
    """The encoder, with a head for masked tokens.

    Args:
        config: Its dimensions; those of the decoder, such as num_decoder_layers, are not used.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_patterns(config, attention, lacks="decoder")
        config.require_no_source("an encoder")
        sizes = EncoderConfig(
            num_layers=config.num_encoder_layers,
            dim=config.dim,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
            norm=config.norm,
            activation=config.activation,
            epsilon=1e-5,
            # Sinusoids have no last position.
            max_positions=config.max_positions if config.positions == "learned" else LARGEST,
            num_segments=0,
            pad_id=config.pad_id,
            pooling="mean",
        )
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
        """Embed tokens.

        Args:
            ids: ``[batch, length]``.
            segments: None: the encoder has no table of them.

        Returns:
            ``[batch, length, dim]``.

        Raises:
            ConfigError: Segments are passed.
        """
        if segments is not None:
            raise ConfigError("segments: a Transformer has no table of them.  Leave them out.")
        return self.embedding(ids, dtype=self.compute_dtype)
