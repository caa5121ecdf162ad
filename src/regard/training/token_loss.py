"""Cross-entropy of tokens: the loss of every model that writes text or fills gaps in it.

A model that copies (`regard.layers.pointer_generator`) is trained on the negative log-probability
of its mixture, and on its coverage (See, Liu & Manning 2017, equations 12 and 13).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.errors import ConfigError
from regard.layers.cross_entropy import linear_cross_entropy, mixture_cross_entropy
from regard.layers.pointer_generator import CopyDistribution
from regard.models.base.text_model import PAD_ID, TextModel
from regard.training.device import move_batch
from regard.training.train_step import Loss

M = TypeVar("M", bound=TextModel)


class TokenLoss(ABC, Generic[M]):
    """Label-smoothed cross-entropy, padding left out.

    A batch has ``labels``, ``[batch, length]``, equal to `nothing` where nothing is predicted.

    Args:
        label_smoothing: Fraction of the target probability spread over the vocabulary; what is
            copied has none.
        coverage: Weight of the coverage loss of a model that copies, 0 or more.
    """

    nothing = PAD_ID

    def __init__(self, label_smoothing: float, coverage: float = 0.0) -> None:
        self.label_smoothing, self.coverage = label_smoothing, coverage

    @abstractmethod
    def hidden_states(self, model: M, batch: Any) -> Tensor:
        """Compute the last states that predict the labels, ``[batch, length, dim]``."""

    def states_and_copies(self, model: M, batch: Any) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the last states, and what a model that copies mixes their logits with."""
        return self.hidden_states(model, batch), None

    def __call__(self, model: M, batch: Any) -> Loss:
        """Compute the loss of a batch."""
        batch = move_batch(batch, model)
        hidden, copies = self.states_and_copies(model, batch)
        is_label = batch.labels != self.nothing
        if copies is not None:
            return self._of_copies(model, hidden, copies, batch.labels, is_label)
        if not model.has_plain_logits:
            return self.of_outputs(model.logits(hidden[is_label]), batch)
        if bool(is_label.all()):
            rows, labels = hidden.flatten(0, 1), batch.labels.flatten()
        else:
            rows, labels = hidden[is_label], batch.labels[is_label]  # [tokens, dim], [tokens]
        loss, nll = linear_cross_entropy(
            rows, model.output_weight, labels, label_smoothing=self.label_smoothing
        )
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))

    def _of_copies(
        self,
        model: M,
        hidden: Tensor,
        copies: CopyDistribution,
        labels: Tensor,
        is_label: Tensor,
    ) -> Loss:
        """Compute the loss of a mixture; of its probabilities only that of each label is formed."""
        rows, weight = hidden[is_label], model.output_weight  # [tokens, dim], [vocab, dim]
        if (bias := getattr(model, "output_bias", None)) is not None:  # as a column more
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            weight = torch.cat([weight, bias.view(-1, 1).to(weight.dtype)], dim=1)
        loss, nll = mixture_cross_entropy(
            rows,
            weight,
            labels[is_label],
            copies.log_generate[is_label],
            copies.log_copied(labels)[is_label],
            label_smoothing=self.label_smoothing,
        )
        if self.coverage:
            loss = loss + self.coverage * copies.coverage_losses()[is_label].mean()
        return Loss(loss=loss, nll=nll, num_tokens=len(rows))

    def outputs(self, model: M, batch: Any) -> Tensor:
        """Compute the logits of all labels, ``[tokens, vocab]``.

        Raises:
            ConfigError: The model copies: its loss is not that of logits alone.
        """
        batch = move_batch(batch, model)
        hidden, copies = self.states_and_copies(model, batch)
        if copies is not None:
            raise ConfigError("a model that copies has no logits in which its loss is convex.")
        return model.logits(hidden[batch.labels != self.nothing])

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from logits, ``[tokens, vocab]``."""
        labels = batch.labels.to(outputs.device)
        labels = labels[labels != self.nothing]  # [tokens]
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(logits.detach(), labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))
