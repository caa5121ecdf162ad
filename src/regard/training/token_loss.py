"""Cross-entropy of tokens: what every model that writes text, or fills it in, learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.cross_entropy import linear_cross_entropy
from regard.models.base.text_model import PAD_ID, TextModel
from regard.training.train_step import Loss


class TokenLoss(ABC):
    """The training objective: label-smoothed cross-entropy, padding left out.

    A batch has ``labels``, ``[batch, length]``, `nothing` where nothing is to be predicted.

    Args:
        label_smoothing: Share of the target probability spread over the vocabulary.
    """

    nothing = PAD_ID

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    @abstractmethod
    def hidden_states(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute the last states that predict the labels, ``[batch, length, dim]``."""

    def __call__(self, model: nn.Module, batch: Any) -> Loss:
        """Compute the loss of a batch."""
        assert isinstance(model, TextModel)
        if not model.has_plain_logits:
            return self.of_outputs(self.outputs(model, batch), batch)
        hidden, wanted = self.hidden_states(model, batch), batch.labels != self.nothing
        if bool(wanted.all()):
            rows, labels = hidden.flatten(0, 1), batch.labels.flatten()
        else:
            rows, labels = hidden[wanted], batch.labels[wanted]
        loss, nll = linear_cross_entropy(
            rows, model.output_weight, labels, label_smoothing=self.label_smoothing
        )
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute the logits of all labels, ``[tokens, vocab]``."""
        assert isinstance(model, TextModel)
        return model.logits(self.hidden_states(model, batch)[batch.labels != self.nothing])

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from logits, ``[tokens, vocab]``."""
        labels = batch.labels[batch.labels != self.nothing]
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(wide, labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(wide.detach(), labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))
