"""Cross-entropy of tokens: the loss of every model that writes text or fills gaps in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.layers.cross_entropy import linear_cross_entropy
from regard.models.base.text_model import PAD_ID, TextModel
from regard.training.train_step import Loss

M = TypeVar("M", bound=TextModel)


class TokenLoss(ABC, Generic[M]):
    """Label-smoothed cross-entropy, padding left out.

    A batch has ``labels``, ``[batch, length]``, equal to `nothing` where nothing is predicted.

    Args:
        label_smoothing: Fraction of the target probability spread over the vocabulary.
    """

    nothing = PAD_ID

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    @abstractmethod
    def hidden_states(self, model: M, batch: Any) -> Tensor:
        """Compute the last states that predict the labels, ``[batch, length, dim]``."""

    def __call__(self, model: M, batch: Any) -> Loss:
        """Compute the loss of a batch."""
        if not model.has_plain_logits:
            return self.of_outputs(self.outputs(model, batch), batch)
        hidden, is_label = self.hidden_states(model, batch), batch.labels != self.nothing
        if bool(is_label.all()):
            rows, labels = hidden.flatten(0, 1), batch.labels.flatten()
        else:
            rows, labels = hidden[is_label], batch.labels[is_label]  # [tokens, dim], [tokens]
        loss, nll = linear_cross_entropy(
            rows, model.output_weight, labels, label_smoothing=self.label_smoothing
        )
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))

    def outputs(self, model: M, batch: Any) -> Tensor:
        """Compute the logits of all labels, ``[tokens, vocab]``."""
        return model.logits(self.hidden_states(model, batch)[batch.labels != self.nothing])

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from logits, ``[tokens, vocab]``."""
        labels = batch.labels[batch.labels != self.nothing]  # [tokens]
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(logits.detach(), labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))
