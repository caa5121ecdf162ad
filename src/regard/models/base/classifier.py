"""An encoder with a linear map from one vector of a text to its label (Devlin et al. 2019, 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.models.base.encoder import Encoder
from regard.models.base.model import PooledVector
from regard.models.base.text_model import TextModel
from regard.option_checks import require_whole


class Classifier(TextModel):
    """A classifier of texts.

    Args:
        encoder: Reads the text; it has no head for masked tokens.
        num_labels: Number of labels, 2 or more.
    """

    def __init__(self, encoder: Encoder, num_labels: int) -> None:
        super().__init__(encoder.vocab_size, dim=encoder.dim)
        require_whole("num_labels", num_labels, 2)
        self.encoder, self.num_labels = encoder, num_labels
        self.dropout = Dropout(encoder.config.dropout)
        self.output_weight = nn.Parameter(torch.zeros(num_labels, encoder.dim))
        self.output_bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, ids: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Compute the logits of the labels.

        Args:
            ids: ``[batch, length]``, padded on the right.
            lengths: Tokens of each row, ``[batch]``; None finds them by the encoder's `pad_id`.

        Returns:
            ``[batch, labels]``.
        """
        states = self.encoder.hidden_states(ids, lengths=lengths)  # [batch, length, dim]
        return self.logits(self.dropout(self.encoder.pooled(states, ids, lengths=lengths)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Map the vectors of texts, ``[batch, dim]``, to logits, ``[batch, labels]``."""
        weight, bias = self.output_weight, self.output_bias
        return F.linear(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype))

    @property
    def output_name(self) -> str:
        """Logits of labels."""
        return f"logits of {self.num_labels:,} labels"

    def pooling(self) -> PooledVector:
        """Return the vector of a text: of its first token, or the mean over all."""
        if self.encoder.config.pooling == "first":
            return PooledVector("first token", self.encoder.pooler)
        return PooledVector("mean over tokens", None)

    def vector_layers(self) -> list[nn.Module]:
        """Return the pooler."""
        return self.encoder.vector_layers()

    def unused_layers(self) -> list[nn.Module]:
        """Return the head of masked tokens, and the pooler where vectors are means."""
        pooler = [] if self.encoder.config.pooling == "first" else self.vector_layers()
        return pooler if self.encoder.head is None else [self.encoder.head, *pooler]

    def stacks(self) -> dict[str, list[nn.Module]]:
        """Return the layers of the encoder."""
        return self.encoder.stacks()

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embedding of the encoder."""
        return self.encoder.embedded_inputs()

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        return self.encoder.attention_bytes(attention, length)
