"""An encoder whose states a new linear map turns into logits, in place of its own head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.models.base.encoder import Encoder
from regard.models.base.text_model import TextModel


class EncoderOutputs(TextModel):
    """The base of models that read a text in both directions and predict no tokens.

    Args:
        encoder: Reads the text; it has no head for masked tokens.
        num_outputs: Logits of a state, 1 or more.
        has_trained_bias: Whether their biases are trained.
    """

    def __init__(
        self, encoder: Encoder, num_outputs: int, *, has_trained_bias: bool = True
    ) -> None:
        super().__init__(encoder.vocab_size, dim=encoder.dim)
        self.encoder = encoder
        self.dropout = Dropout(encoder.config.dropout)
        self.output_weight = nn.Parameter(torch.zeros(num_outputs, encoder.dim))
        self.output_bias = nn.Parameter(torch.zeros(num_outputs), requires_grad=has_trained_bias)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map states, ``[batch, (length,) dim]``, to logits, ``[batch, (length,) outputs]``."""
        weight, bias = self.output_weight, self.output_bias
        return F.linear(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype))

    def vector_layers(self) -> list[nn.Module]:
        """Return the pooler of the encoder."""
        return self.encoder.vector_layers()

    def stacks(self) -> dict[str, list[nn.Module]]:
        """Return the layers of the encoder."""
        return self.encoder.stacks()

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embedding of the encoder."""
        return self.encoder.embedded_inputs()

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        return self.encoder.attention_bytes(attention, length)
