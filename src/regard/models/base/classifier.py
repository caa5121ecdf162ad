"""An encoder with a linear map from one vector of a text to its label (Devlin et al. 2019, 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from regard.models.base.encoder import Encoder
from regard.models.base.encoder_outputs import EncoderOutputs
from regard.models.base.model import PooledVector
from regard.option_checks import require_whole


class Classifier(EncoderOutputs):
    """A classifier of texts.

    Args:
        encoder: Reads the text; it has no head for masked tokens.
        num_labels: Number of labels, 2 or more.
    """

    def __init__(self, encoder: Encoder, num_labels: int) -> None:
        require_whole("num_labels", num_labels, 2)
        super().__init__(encoder, num_labels)
        self.num_labels = num_labels

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

    @property
    def output_name(self) -> str:
        """Logits of labels."""
        return f"logits of {self.num_labels:,} labels"

    def pooling(self) -> PooledVector:
        """Return the vector of a text: of its first token, or the mean over all."""
        label = "first token" if self.encoder.config.pooling == "first" else "mean over tokens"
        return PooledVector(label, self.encoder.pooler if self.encoder.maps_pooled else None)

    def unused_layers(self) -> list[nn.Module]:
        """Return the head of masked tokens, and a pooler that maps no vector of a text."""
        pooler = [] if self.encoder.maps_pooled else self.vector_layers()
        return pooler if self.encoder.head is None else [self.encoder.head, *pooler]
