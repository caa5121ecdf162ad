"""The decoder of the recurrent encoder-decoder alone, as a language model.

Layers of long short-term memory with dropout between them, not within (Zaremba, Sutskever & Vinyals
2014, "Recurrent Neural Network Regularization"), and the readout of the encoder-decoder, Luong et
al. 2015, equation 5, without a context. What is kept of a text is one state a layer, whatever its
length. Cost of a pass: O(length dim^2) a layer, one position after the other.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.recurrent import Lstm, LstmState
from regard.models.base.decoder import StackedDecoder
from regard.models.base.pattern_support import check_no_attention
from regard.models.lstm.model import LstmConfig


class StateCache:
    """The state of one recurrent layer, and the number of positions seen."""

    def __init__(self) -> None:
        self.state: LstmState | None = None
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.state is not None:
            self.state = self.state.select(rows)


class RecurrentBlock(nn.Module):
    """Dropout, then a recurrent layer.

    Args:
        dim: Size of input and output.
        dropout: On the input.
    """

    def __init__(self, dim: int, dropout: Dropout | nn.Identity) -> None:
        super().__init__()
        self.dropout = dropout
        self.lstm = Lstm(dim, dim)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """Read positions.

        Args:
            x: ``[batch, length, dim]``.
            cache: The state before `x`, brought up to date; None where nothing was before.

        Returns:
            Same shape as `x`.
        """
        outputs, state = self.lstm(self.dropout(x), None if cache is None else cache.state)
        if cache is not None:
            cache.state = state
            cache.length += x.shape[1]
        return outputs

    def make_cache(self) -> StateCache:
        """Make what it keeps of the positions seen, empty."""
        return StateCache()


class LstmDecoder(StackedDecoder):
    """The decoder.

    Args:
        config: Its dimensions; what tells of a source, such as num_encoder_layers or attention, is
            not used.
        vocab_size: Number of token ids.
        attention: Has no meaning here and must be left as it is.

    Raises:
        ConfigError: A pattern of attention is set.
    """

    def __init__(
        self,
        config: LstmConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_no_attention("lstm", attention, *AttentionConfig.__struct_fields__)
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_layers=config.num_decoder_layers,
            dropout=config.dropout,
            tied=config.tied != "none",
        )
        self.config = config
        self.dropout = Dropout(config.dropout, self.dropout_masks)
        # The embedding has dropout of its own.
        dropouts = [nn.Identity(), *[self.dropout] * (config.num_decoder_layers - 1)]
        self.blocks = nn.ModuleList(RecurrentBlock(config.dim, dropout) for dropout in dropouts)
        self.readout = Linear(config.dim, config.dim)

    def after_blocks(self, x: Tensor) -> Tensor:
        """Map what the last layer gives, ``[batch, length, dim]``, to the last states."""
        return self.dropout(self.readout(x).tanh())

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:  # noqa: ARG002
        """Tell that there is no attention to keep anything of."""
        return 0
