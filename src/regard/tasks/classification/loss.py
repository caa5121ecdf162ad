"""What a classifier learns from, and how well it tells labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.data.labeled_inputs import InputBatch, InputBatches
from regard.data.labeled_text import LabeledTextBatch, LabeledTextBatches
from regard.metrics.classification import accuracy, macro_f1
from regard.training.train_step import Loss


class ClassificationLoss:
    """The training objective: label-smoothed cross-entropy of the label.

    Args:
        label_smoothing: Share of the probability spread over the labels.
    """

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: LabeledTextBatch | InputBatch) -> Loss:
        """Compute the loss of a batch."""
        return self.of_outputs(self.outputs(model, batch), batch)

    def outputs(self, model: nn.Module, batch: LabeledTextBatch | InputBatch) -> Tensor:
        """Compute the logits of the labels, ``[batch, labels]``."""
        if isinstance(batch, InputBatch):
            return model(batch.inputs, batch.lengths)
        return model(batch.ids)

    def of_outputs(self, outputs: Tensor, batch: LabeledTextBatch | InputBatch) -> Loss:
        """Compute the loss from logits, ``[batch, labels]``."""
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(wide, batch.labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(wide.detach(), batch.labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(batch.labels))


@torch.no_grad()
def label_measures(
    model: nn.Module, batches: LabeledTextBatches | InputBatches
) -> dict[str, float]:
    """Measure how well a model tells the labels of texts or other inputs.

    Args:
        model: In evaluation mode.
        batches: Of the inputs.

    Returns:
        ``loss`` in nats an input, ``accuracy`` and ``macro_f1`` in percent.
    """
    total, found, wanted = 0.0, [], []
    objective = ClassificationLoss(0.0)
    for rows in batches.in_sequence():
        batch = batches.batch(rows)
        logits = objective.outputs(model, batch).float()
        total += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        found += logits.argmax(-1).tolist()
        wanted += batch.labels.tolist()
    return {
        "loss": total / len(wanted),
        "accuracy": accuracy(found, wanted),
        "macro_f1": macro_f1(found, wanted),
    }
