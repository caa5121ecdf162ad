"""Evaluation of a classifier on labeled data, next to a baseline and another model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts
from regard.data.splits import overlap
from regard.errors import DataError
from regard.tasks.classification.data import exclude_repeated
from regard.tasks.classification.loss import final_measures, label_measures
from regard.tasks.classification.predictor import LabelPredictor


class WorstClassification(msgspec.Struct, frozen=True, kw_only=True):
    """An input with a wrong label, of which the model was most certain.

    Args:
        where: File and line, or file.
        text: The text; empty for other inputs.
        label: Its label in the data.
        predicted: The label that the model gives it.
        probability: Of the label that the model gives.
    """

    where: str
    text: str
    label: str
    predicted: str
    probability: float


class ClassificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a classifier, in percent.

    Args:
        path: Path of the data.
        model: Name of the model.
        num_inputs: Number of texts, images, recordings or series.
        unit: What they are.
        loss: In nats per input.
        accuracy: Fraction of correct labels.
        accuracy_low: Lower end of Wilson's 95 % interval.
        accuracy_high: Upper end.
        macro_f1: Mean over the labels of the harmonic mean of precision and recall.
        majority: Accuracy of always predicting the most frequent label of this data.
        worst: Inputs with wrong labels, the most certain first.
        compared: Accuracy of the other model; None without one.
    """

    path: str
    model: str
    num_inputs: int
    unit: str
    loss: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    majority: float
    worst: list[WorstClassification] = []
    compared: float | None = None


def evaluate_classifier(
    classifier: LabelPredictor[Any],
    path: str,
    *,
    name: str,
    other: LabelPredictor[Any] | None = None,
    num_worst: int = 20,
    drop_overlap: bool = False,
    allow_overlap: bool = False,
) -> ClassificationReport:
    """Score a classifier on labeled data.

    Args:
        classifier: The model.
        path: Path of the data; of a folder in MNIST's layout, the test part is read.
        name: Name of the model for the report.
        other: Another model to compare with, of the same kind.
        num_worst: Number of inputs with wrong labels to list.
        drop_overlap: Leave out inputs that are also in the training data, where that is available.
        allow_overlap: Keep them.

    Returns:
        Accuracy, macro F1 and loss, and the accuracy of the baseline and of the other model.

    Raises:
        DataError: The data cannot be read, has unknown labels, or has inputs of the training data
            and neither option is set.
    """
    rows = classifier.read_test(path)
    repeated: list[int] = []
    if not allow_overlap:
        with suppress(DataError):  # where the training data is not available
            repeated = list(overlap(classifier.read_train(), rows))
    train_path = str(classifier.config.data.path)
    rows = exclude_repeated(rows, repeated, train_path, drop=drop_overlap)
    compared = None
    if other is not None:
        other_rows = exclude_repeated(other.read_test(path), repeated, train_path, drop=True)
        compared = label_measures(other.model, other.batches(other_rows))["accuracy"]
    return ClassificationReport(
        path=path,
        model=name,
        num_inputs=len(rows),
        unit=classifier.unit,
        **final_measures(classifier.model, classifier.batches(rows)),
        worst=_find_worst(classifier, rows, num_worst),
        compared=compared,
    )


def _find_worst(
    classifier: LabelPredictor[Any], rows: LabeledTexts | LabeledInputs, count: int
) -> list[WorstClassification]:
    """Return the wrong labels of which a model is most certain; a pass over the data."""
    results = classifier.predict(classifier.batches(rows)) if count else []
    wrong = [row for row, result in enumerate(results) if result.label != rows.labels[row]]
    wrong.sort(key=lambda row: -results[row].probability)
    return [
        WorstClassification(
            where=rows.locate(row),
            text=rows.texts[row] if isinstance(rows, LabeledTexts) else "",
            label=rows.labels[row],
            predicted=results[row].label,
            probability=results[row].probability,
        )
        for row in wrong[:count]
    ]
