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
from regard.training.train_step import Loss

M = TypeVar("M", bound=TextModel)


class _LabeledPositions:
    """The positions of a batch that have a label.

    Args:
        labels: ``[batch, length]``.
        ignore_index: Label where nothing is predicted.
        device: Of the tensors that they are taken from.
    """

    def __init__(self, labels: Tensor, ignore_index: int, device: torch.device) -> None:
        index = (labels != ignore_index).flatten().nonzero()[:, 0]
        self._device = device
        self._index = None
        if len(index) < labels.numel():
            self._index = index.to(device, non_blocking=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Return these positions of ``[batch, length, ...]``, ``[tokens, ...]``, on the device."""
        x = x.to(self._device, non_blocking=True).flatten(0, 1)
        return x if self._index is None else x.index_select(0, self._index)


class TokenLoss(ABC, Generic[M]):
    """Label-smoothed cross-entropy, padding left out.

    A batch has ``labels``, ``[batch, length]``, equal to `ignore_index` where nothing is predicted.

    Args:
        label_smoothing: Fraction of the target probability spread over the vocabulary; what is
            copied has none.
        coverage: Weight of the coverage loss of a model that copies, 0 or more.
    """

    ignore_index = PAD_ID

    def __init__(self, label_smoothing: float, coverage: float = 0.0) -> None:
        self.label_smoothing, self.coverage = label_smoothing, coverage

    @abstractmethod
    def hidden_states(self, model: M, batch: Any) -> Tensor:
        """Compute the last states that predict the labels, ``[batch, length, dim]``."""

    def states_and_copies(self, model: M, batch: Any) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the last states, and what a model that copies mixes their logits with."""
        return self.hidden_states(model, batch), None

    def __call__(self, model: M, batch: Any) -> Loss:
        """Compute the loss of a batch.

        Which labels count is read in main memory where the batch is there, without waiting for a
        device.

        Returns:
            The loss over the labels that count.
        """
        hidden, copies = self.states_and_copies(model, batch)
        labeled = _LabeledPositions(batch.labels, self.ignore_index, hidden.device)
        if copies is not None:
            return self._of_copies(model, hidden, copies, batch.labels, labeled)
        if not model.has_plain_logits:
            return self.of_outputs(model.logits(labeled(hidden)), batch)
        rows, labels = labeled(hidden), labeled(batch.labels)  # [tokens, dim], [tokens]
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
        labeled: _LabeledPositions,
    ) -> Loss:
        """Compute the loss of a mixture; of its probabilities only that of each label is formed."""
        rows, weight = labeled(hidden), model.output_weight  # [tokens, dim], [vocab, dim]
        if (bias := getattr(model, "output_bias", None)) is not None:  # as a column more
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            weight = torch.cat([weight, bias.view(-1, 1).to(weight.dtype)], dim=1)
        loss, nll = mixture_cross_entropy(
            rows,
            weight,
            labeled(labels),
            labeled(copies.log_generate),
            labeled(copies.log_copied(labels.to(hidden.device, non_blocking=True))),
            label_smoothing=self.label_smoothing,
        )
        if self.coverage:
            loss = loss + self.coverage * labeled(copies.coverage_losses()).mean()
        return Loss(loss=loss, nll=nll, num_tokens=len(rows))

    def logits(self, model: M, batch: Any) -> Tensor:
        """Compute the logits of all labels, those of the mixture where a model copies.

        Returns:
            ``[tokens, vocab]``; the loss without smoothing is the cross-entropy of their softmax.
        """
        hidden, copies = self.states_and_copies(model, batch)
        labeled = _LabeledPositions(batch.labels, self.ignore_index, hidden.device)
        if copies is None:
            return model.logits(labeled(hidden))
        return labeled(copies.mix(model.logits(hidden)))

    def row_losses(self, model: M, batch: Any) -> tuple[Tensor, int]:
        """Compute the loss of each row, summed over its labels, ``[batch]``, and their number."""
        hidden, copies = self.states_and_copies(model, batch)
        labeled = _LabeledPositions(batch.labels, self.ignore_index, hidden.device)
        labels, logits = labeled(batch.labels), model.logits(labeled(hidden))  # [tokens, vocab]
        exact = torch.promote_types(logits.dtype, torch.float32)
        log_probabilities = logits.to(exact).log_softmax(-1)
        at_label = log_probabilities.gather(1, labels[:, None])[:, 0]  # [tokens]
        if copies is not None:
            log_copied = copies.log_copied(batch.labels.to(hidden.device, non_blocking=True))
            at_label = torch.logaddexp(labeled(copies.log_generate) + at_label, labeled(log_copied))
        losses = -(1 - self.label_smoothing) * at_label
        if self.label_smoothing:
            losses = losses - self.label_smoothing * log_probabilities.mean(-1)
        if copies is not None and self.coverage:
            losses = losses + self.coverage * labeled(copies.coverage_losses())
        rows = (batch.labels != self.ignore_index).nonzero()[:, 0].to(losses.device)
        return losses.new_zeros(len(batch.labels)).index_add(0, rows, losses), len(losses)

    def outputs(self, model: M, batch: Any) -> Tensor:
        """Return the logits of all labels, ``[tokens, vocab]``.

        Raises:
            ConfigError: The model copies: its loss is not that of logits alone.
        """
        hidden, copies = self.states_and_copies(model, batch)
        if copies is not None:
            raise ConfigError("a model that copies has no logits in which its loss is convex.")
        labeled = _LabeledPositions(batch.labels, self.ignore_index, hidden.device)
        return model.logits(labeled(hidden))

    def of_outputs(self, outputs: Tensor, batch: Any) -> Loss:
        """Compute the loss from logits, ``[tokens, vocab]``."""
        labeled = _LabeledPositions(batch.labels, self.ignore_index, outputs.device)
        labels = labeled(batch.labels)  # [tokens]
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(logits.detach(), labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))
