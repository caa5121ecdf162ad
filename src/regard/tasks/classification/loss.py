"""The loss of a classifier, and its accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.data.labeled_inputs import InputBatch, InputBatches
from regard.data.labeled_text import LabeledTextBatch, LabeledTextBatches
from regard.metrics.classification import accuracy, macro_f1, wilson_interval
from regard.models import Classifier
from regard.models.base.text_model import token_lengths
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World
from regard.training.train_step import Loss

LabeledBatch = LabeledTextBatch | InputBatch
LabeledBatches = LabeledTextBatches | InputBatches


@dataclass(frozen=True)
class ClassificationLoss:
    """Label-smoothed cross-entropy of the label.

    Args:
        label_smoothing: Fraction of the target probability spread over the labels.
    """

    label_smoothing: float

    def __call__(self, model: nn.Module, batch: LabeledBatch) -> Loss:
        """Compute the loss of a batch, from logits of shape ``[batch, labels]``."""
        return self.of_outputs(self.outputs(model, batch), batch)

    @staticmethod
    def outputs(model: nn.Module, batch: LabeledBatch) -> Tensor:
        """Compute the logits of the labels of texts or inputs, ``[batch, labels]``."""
        if isinstance(batch, InputBatch):
            batch = move_batch(batch, model)
            return model(batch.inputs, batch.lengths)
        if not isinstance(model, Classifier) or model.device.type == "cpu":
            return model(batch.ids)
        # Lengths are counted where they are known without waiting.
        lengths = token_lengths(batch.ids, pad_id=model.encoder.config.pad_id)
        return model(move_batch(batch, model).ids, lengths=lengths)

    def logits(self, model: nn.Module, batch: LabeledBatch) -> Tensor:
        """Compute the logits of the labels, ``[batch, labels]``."""
        return self.outputs(model, batch)

    def row_losses(self, model: nn.Module, batch: LabeledBatch) -> tuple[Tensor, int]:
        """Compute the loss of each row, ``[batch]``, and the number of rows."""
        wide = self.widen(self.outputs(model, batch))
        labels = batch.labels.to(wide.device, non_blocking=True)
        smoothing = self.label_smoothing
        losses = F.cross_entropy(wide, labels, label_smoothing=smoothing, reduction="none")
        return losses, len(labels)

    @staticmethod
    def widen(outputs: Tensor) -> Tensor:
        """Return logits, ``[batch, labels]``, in float32 at least."""
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))

    def of_outputs(self, outputs: Tensor, batch: LabeledBatch) -> Loss:
        """Compute the loss from logits, ``[batch, labels]``."""
        wide = self.widen(outputs)
        labels = batch.labels.to(wide.device, non_blocking=True)
        loss = F.cross_entropy(wide, labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(wide.detach(), labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(labels))


@torch.no_grad()
def label_measures(
    model: nn.Module, batches: LabeledBatches, world: World = ALONE
) -> dict[str, float]:
    """Compute how well a model predicts the labels of texts or other inputs.

    Args:
        model: Model in evaluation mode.
        batches: The inputs.
        world: The processes that share the batches.

    Returns:
        ``loss`` in nats per input, ``accuracy`` and ``macro_f1`` in percent.
    """

    def predict(rows: NDArray[np.int64]) -> tuple[float, list[int], list[int]]:
        batch = batches.batch(rows)
        logits = ClassificationLoss.outputs(model, batch).float()  # [batch, labels]
        loss = float(F.cross_entropy(logits, batch.labels.to(logits.device), reduction="sum"))
        return loss, logits.argmax(-1).tolist(), batch.labels.tolist()

    total, predicted, labels = 0.0, [], []
    for batch_total, batch_predicted, batch_labels in world.map(predict, batches.in_sequence()):
        total += batch_total
        predicted += batch_predicted
        labels += batch_labels
    return {
        "loss": total / len(labels),
        "accuracy": accuracy(predicted, labels),
        "macro_f1": macro_f1(predicted, labels),
    }


def final_measures(
    model: nn.Module, batches: LabeledBatches, world: World = ALONE
) -> dict[str, float]:
    """Compute the figures of `label_measures`, an interval of the accuracy, and a baseline.

    Args:
        model: Model in evaluation mode.
        batches: The inputs.
        world: The processes that share the batches.

    Returns:
        Also ``accuracy_low`` and ``accuracy_high``, Wilson's 95 % interval, and ``majority``, the
        accuracy of always predicting the most frequent label of these inputs, all in percent.
    """
    measures = label_measures(model, batches, world)
    num_inputs = len(batches.labels)
    low, high = wilson_interval(measures["accuracy"], num_inputs)
    most_frequent = int(batches.labels.bincount().max())
    return measures | {
        "accuracy_low": low,
        "accuracy_high": high,
        "majority": 100 * (most_frequent / num_inputs),
    }
