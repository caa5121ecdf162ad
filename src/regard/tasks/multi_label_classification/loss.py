"""The loss of a classifier that gives any number of labels, and its F1.

Each label is a decision of its own: the loss is the binary cross-entropy, the mean over the labels,
as `BCEWithLogitsLoss` in PyTorch computes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.metrics.multi_label import best_threshold, label_f1, micro_f1
from regard.tasks.classification.loss import ClassificationLoss, LabeledBatch, LabeledBatches
from regard.training.distribution import ALONE, World
from regard.training.train_step import Loss


@dataclass(frozen=True)
class MultiLabelLoss(ClassificationLoss):
    """Binary cross-entropy of each label, the mean over the labels.

    Args:
        label_smoothing: Fraction of the target probability spread over both answers.
    """

    def logits(self, model: nn.Module, batch: LabeledBatch) -> Tensor:
        """Compute the logits of "no" and "yes" of each label, ``[batch * labels, 2]``."""
        # The binary cross-entropy is the cross-entropy of these two.
        outputs = self.outputs(model, batch).flatten()
        return torch.stack([torch.zeros_like(outputs), outputs], dim=-1)

    def row_losses(self, model: nn.Module, batch: LabeledBatch) -> tuple[Tensor, int]:
        """Compute the loss of each row, ``[batch]``, and the number of rows."""
        losses = self._losses(self.outputs(model, batch), batch, self.label_smoothing)
        return losses.mean(-1), len(losses)

    def of_outputs(self, outputs: Tensor, batch: LabeledBatch) -> Loss:
        """Compute the loss from logits, ``[batch, labels]``."""
        loss = self._losses(outputs, batch, self.label_smoothing).mean()
        nll = self._losses(outputs.detach(), batch, 0.0).mean()
        return Loss(loss=loss, nll=nll, num_tokens=len(outputs))

    def _losses(self, outputs: Tensor, batch: LabeledBatch, smoothing: float) -> Tensor:
        """Compute the loss of each label from logits, both of shape ``[batch, labels]``."""
        wide = self.widen(outputs)
        targets = batch.labels.to(wide.device, wide.dtype, non_blocking=True)
        targets = (1 - smoothing) * targets + smoothing / 2
        return F.binary_cross_entropy_with_logits(wide, targets, reduction="none")


class LabelDecisions(NamedTuple):
    """What a model says of every label of rows.

    Args:
        loss: In nats per label.
        probabilities: ``[rows, labels]``.
        truth: Whether a row has the label, ``[rows, labels]``.
    """

    loss: float
    probabilities: NDArray[np.float64]
    truth: NDArray[np.bool_]


@torch.no_grad()
def label_decisions(
    model: nn.Module, batches: LabeledBatches, world: World = ALONE
) -> LabelDecisions:
    """Compute the probabilities of all labels of texts.

    Args:
        model: Model in evaluation mode.
        batches: The texts.
        world: The processes that share the batches.

    Returns:
        The probabilities and the truth, in the order of the data.
    """
    loss_function = MultiLabelLoss(0.0)

    def predict(rows: NDArray[np.int64]) -> tuple[float, list[list[float]]]:
        batch = batches.batch(rows)
        logits = ClassificationLoss.outputs(model, batch).float()  # [batch, labels]
        loss = float(loss_function.of_outputs(logits, batch).nll)
        return loss * len(rows), logits.sigmoid().tolist()

    truth = batches.labels.numpy().astype(bool)
    probabilities, total = np.zeros(truth.shape), 0.0
    order = batches.in_sequence()
    for rows, (batch_total, values) in zip(order, world.map(predict, order), strict=True):
        total += batch_total
        probabilities[rows] = values
    return LabelDecisions(total / len(truth), probabilities, truth)


def f1_measures(decisions: LabelDecisions, threshold: float | None = None) -> dict[str, float]:
    """Compute the scores of decisions.

    Args:
        decisions: Probabilities and truth.
        threshold: Probability above which a label is given; None takes the best one for these rows.

    Returns:
        ``loss`` in nats per label; in percent ``micro_f1`` with ``micro_f1_low`` and
        ``micro_f1_high``, ``macro_f1`` (labels that no row has or is given are left out), and
        ``exact_match``, the rows all of whose labels are right.
    """
    loss, probabilities, truth = decisions
    if threshold is None:
        threshold, _ = best_threshold(probabilities, truth)
    predicted = probabilities > threshold
    micro, each = micro_f1(predicted, truth), label_f1(predicted, truth)
    return {
        "loss": loss,
        "micro_f1": micro.value,
        "micro_f1_low": micro.low,
        "micro_f1_high": micro.high,
        "macro_f1": 100.0 if np.isnan(each).all() else float(np.nanmean(each)),
        "exact_match": 100.0 * float((predicted == truth).all(1).mean()),
    }


def floor_measures(truth: NDArray[np.bool_]) -> dict[str, float]:
    """Compute scores that need no model, in percent.

    Args:
        truth: Whether a row has the label, ``[rows, labels]``.

    Returns:
        ``frequent_label_f1``, the micro F1 of giving every row the most frequent label, and
        ``no_labels``, the rows that have none.
    """
    predicted = np.zeros_like(truth)
    predicted[:, truth.sum(0).argmax()] = True
    return {
        "frequent_label_f1": micro_f1(predicted, truth).value,
        "no_labels": 100.0 * float((~truth).all(1).mean()),
    }
