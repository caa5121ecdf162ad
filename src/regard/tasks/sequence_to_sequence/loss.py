"""The loss of models that write a target for a source."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from regard.data.batching import Batch
from regard.layers.pointer_generator import CopyDistribution
from regard.models import EncoderDecoder
from regard.models.base.text_model import PAD_ID, token_lengths
from regard.training.device import move_batch
from regard.training.token_loss import TokenLoss


class TargetLoss(TokenLoss[EncoderDecoder[Any]]):
    """Label-smoothed cross-entropy of the next target token.

    Args:
        label_smoothing: Fraction of the target probability spread over the vocabulary.
        ignore_index: Label of padding.
        coverage: Weight of the coverage loss of a model that copies, 0 or more.
    """

    def __init__(
        self, label_smoothing: float, ignore_index: int = PAD_ID, coverage: float = 0.0
    ) -> None:
        super().__init__(label_smoothing, coverage)
        self.ignore_index = ignore_index

    def hidden_states(self, model: EncoderDecoder[Any], batch: Batch) -> Tensor:
        """Compute the last hidden states of the decoder, ``[batch, target_length, dim]``."""
        return self.states_and_copies(model, batch)[0]

    def states_and_copies(
        self, model: EncoderDecoder[Any], batch: Batch
    ) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the last hidden states, and what a model that copies mixes their logits with."""
        lengths = None
        if model.device.type != "cpu":  # they are counted where they are known without waiting
            lengths = token_lengths(batch.source_ids, pad_id=model.pad_id)
        batch = move_batch(batch, model)
        return model.states_and_copies(batch.source_ids, batch.target_ids, lengths=lengths)
