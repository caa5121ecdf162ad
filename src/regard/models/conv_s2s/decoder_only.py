"""The decoder of convolutional sequence to sequence learning alone, as a language model.

Dauphin, Fan, Auli & Grangier 2017, "Language modeling with gated convolutional networks": gated
causal convolutions with residual connections, no recurrence and no attention. A position sees the
``1 + n (kernel_width - 1)`` last tokens, and generation keeps no more. Cost of a pass:
O(length width dim^2) a layer.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.convolution import ConvBlock
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.models.base.decoder import Decoder
from regard.models.base.pattern_support import check_patterns
from regard.models.conv_s2s.model import EMBEDDED, ConvS2SConfig


class ConvDecoder(Decoder):
    """The decoder.

    Args:
        config: Its dimensions; num_encoder_layers is not used.
        vocab_size: Number of token ids.
        attention: Not used, and must be the default.

    Raises:
        ConfigError: A pattern of attention is set.
    """

    def __init__(
        self,
        config: ConvS2SConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_patterns(config, attention, lacks="attention")
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=0,
            dropout=config.dropout,
            tied=config.tied != "none",
            positions=config.make_positions(),
        )
        self.config = config
        self.decoder_input = Linear(config.dim, config.dim)
        self.blocks = nn.ModuleList(
            ConvBlock(config.dim, config.kernel_width, self._dropout(), is_causal=True)
            for _ in range(config.num_decoder_layers)
        )
        self.decoder_output = Linear(config.dim, config.dim)
        self.dropout = self._dropout()

    def _dropout(self) -> Dropout:
        return Dropout(self.config.dropout)

    def before_blocks(self, x: Tensor) -> Tensor:
        """Map embeddings, ``[batch, length, dim]``, to inputs that begin with half-open gates."""
        return self.decoder_input(EMBEDDED * x)

    def after_blocks(self, x: Tensor) -> Tensor:
        """Map the last block's output, ``[batch, length, dim]``, to the last hidden states."""
        return self.dropout(self.decoder_output(x))
