"""The two callables that training a classifier receives: its loss and its evaluator."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.data.labelled import LabelledBatch, LabelledBatches
from regard.metrics.classification import accuracy, macro_f1
from regard.models import Classifier
from regard.training.averaging import WeightAverage
from regard.training.loop import Evaluation
from regard.training.stepping import Loss


class ClassificationLoss:
    """The training objective: label-smoothed cross-entropy of the label.

    Args:
        label_smoothing: Share of the probability spread over the labels.
    """

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: LabelledBatch) -> Loss:
        """Compute the loss of a batch."""
        return self.of_outputs(self.outputs(model, batch), batch)

    def outputs(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        """Compute the logits of the labels, ``[batch, labels]``."""
        assert isinstance(model, Classifier)
        return model(batch.ids)

    def of_outputs(self, outputs: Tensor, batch: LabelledBatch) -> Loss:
        """Compute the loss from logits, ``[batch, labels]``."""
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = F.cross_entropy(wide, batch.labels, label_smoothing=self.label_smoothing)
        nll = F.cross_entropy(wide.detach(), batch.labels)
        return Loss(loss=loss, nll=nll, num_tokens=len(batch.labels))


class ClassificationEvaluator:
    """Evaluates averaged weights by the loss on held-out texts.

    Args:
        model: Whose copy is evaluated, in its compute type throughout.
        batches: Of the texts.
    """

    def __init__(self, model: Classifier, batches: LabelledBatches) -> None:
        self._copy = copy.deepcopy(model).to(model.compute_dtype).eval()
        self._batches = batches

    def __call__(self, average: WeightAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                parameter.copy_(average.tensors[name])
        measures = label_measures(self._copy, self._batches)
        # Accuracy moves in steps of a row; on few rows it would end runs that still improve.
        return Evaluation(measures=measures, score_name="loss", is_loss=True)


@torch.no_grad()
def label_measures(model: Classifier, batches: LabelledBatches) -> dict[str, float]:
    """Measure how well a model tells the labels of texts.

    Args:
        model: In evaluation mode.
        batches: Of the texts.

    Returns:
        ``loss`` in nats a text, ``accuracy`` and ``macro_f1`` in percent.
    """
    total, found, wanted = 0.0, [], []
    for rows in batches.in_sequence():
        batch = batches.batch(rows)
        logits = model(batch.ids).float()
        total += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        found += logits.argmax(-1).tolist()
        wanted += batch.labels.tolist()
    return {
        "loss": total / len(wanted),
        "accuracy": accuracy(found, wanted),
        "macro_f1": macro_f1(found, wanted),
    }
