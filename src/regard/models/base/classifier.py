"""An encoder with a linear map from one vector of a text to its label (Devlin et al. 2019, 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.models.base.encoder import Encoder
from regard.models.base.text_model import TextModel


class Classifier(TextModel):
    """Tells which of several labels a text has.

    Args:
        encoder: Reads the text; without a head for masked tokens.
        num_labels: Number of labels, 2 or more.
    """

    def __init__(self, encoder: Encoder, num_labels: int) -> None:
        super().__init__(encoder.vocab_size, dim=encoder.dim, num_blocks=encoder.num_blocks)
        self.encoder, self.num_labels = encoder, num_labels
        self.mask_pool = encoder.mask_pool
        self.dropout = Dropout(encoder.config.dropout, self.mask_pool)
        self.output_weight = nn.Parameter(torch.zeros(num_labels, encoder.dim))
        self.output_bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, ids: Tensor) -> Tensor:
        """Compute the logits of the labels.

        Args:
            ids: ``[batch, length]``, padded on the right.

        Returns:
            ``[batch, labels]``.
        """
        self.encoder.compute_dtype = self.compute_dtype
        hidden = self.encoder.hidden(ids)
        return self.logits(self.dropout(self.encoder.pooled(hidden, ids)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Map the vectors of texts, ``[batch, dim]``, to logits, ``[batch, labels]``."""
        weight, bias = self.output_weight, self.output_bias
        return F.linear(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype))

    def layers(self) -> list[nn.Module]:
        """List its layers; as `Model.layers`."""
        return self.encoder.layers()

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the bytes of scores and weights; as `TextModel.attention_bytes`."""
        return self.encoder.attention_bytes(attention, length)
