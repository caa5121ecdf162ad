"""The decoder of the recurrent encoder-decoder alone, as a language model.

Layers of long short-term memory with dropout between them, not within (Zaremba, Sutskever & Vinyals
2014, "Recurrent Neural Network Regularization"), and the readout of the encoder-decoder, Luong et
al. 2015, equation 5, without a context. Generation keeps one state a layer, whatever the length of
the text. Cost of a pass: O(length dim^2) a layer, one position after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.cache import PositionCounter
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.recurrent import Lstm, LstmState
from regard.models.base.decoder import Decoder
from regard.models.base.pattern_support import check_patterns
from regard.models.lstm.model import LstmConfig


@dataclass(eq=False)
class StateCache(PositionCounter):
    """The state of one recurrent layer, and the number of positions seen."""

    state: LstmState | None = None

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.state is not None:
            self.state = self.state.select(rows)


class RecurrentBlock(nn.Module):
    """Dropout, then a recurrent layer.

    Args:
        dim: Size of input and output.
        dropout: Dropout of the input.
    """

    def __init__(self, dim: int, dropout: Dropout | nn.Identity) -> None:
        super().__init__()
        self.dropout = dropout
        self.lstm = Lstm(dim, dim)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """Map a sequence.

        Args:
            x: New positions, ``[batch, length, dim]``.
            cache: The state after the positions before `x`, updated in place; None where there are
                none.

        Returns:
            Same shape as `x`.
        """
        outputs, state = self.lstm(self.dropout(x), None if cache is None else cache.state)
        if cache is not None:
            cache.state = state
            cache.length += x.shape[1]
        return outputs

    def make_cache(self) -> StateCache:
        """Return an empty cache."""
        return StateCache()


class LstmDecoder(Decoder):
    """The decoder.

    Args:
        config: Its dimensions; those of the encoder and of the attention to it are not used.
        vocab_size: Number of token ids.
        attention: Not used, and must be the default.

    Raises:
        ConfigError: A pattern of attention is set.
    """

    def __init__(
        self,
        config: LstmConfig,
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
        )
        self.config = config
        self.dropout = Dropout(config.dropout)
        # The embedding has dropout of its own.
        dropouts = [nn.Identity(), *[self.dropout] * (config.num_decoder_layers - 1)]
        self.blocks = nn.ModuleList(RecurrentBlock(config.dim, dropout) for dropout in dropouts)
        self.readout = Linear(config.dim, config.dim)

    def after_blocks(self, x: Tensor) -> Tensor:
        """Map the last layer's output, ``[batch, length, dim]``, to the last hidden states."""
        return self.dropout(self.readout(x).tanh())
