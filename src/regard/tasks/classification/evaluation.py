"""How well a classifier tells the labels of data that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts, check_known_labels
from regard.data.readers.labeled import read_labeled_texts
from regard.data.splits import overlap
from regard.errors import DataError
from regard.metrics.classification import wilson_interval
from regard.setup.base_task import ReadOptions
from regard.tasks.classification.data import columns_of, read_classification_data
from regard.tasks.classification.input_data import read_inputs, read_test_inputs
from regard.tasks.classification.input_predictor import InputClassifier, label_numbers
from regard.tasks.classification.loss import label_measures
from regard.tasks.classification.modalities import InputFormat
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.classification.setup import majority_share, without_repeated

AnyClassifier = TextClassifier | InputClassifier
AnyLabeledTexts = LabeledTexts | LabeledInputs


class ClassificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a classifier; shares are in percent.

    Args:
        path: Of the data.
        model: The model's name.
        num_inputs: Number of texts, images, recordings or series.
        unit: What they are.
        loss: In nats an input.
        accuracy: Share of right answers.
        accuracy_low: Lower end of Wilson's interval, 95 %.
        accuracy_high: Upper end.
        macro_f1: Mean over the labels of the harmonic mean of precision and recall.
        majority: Accuracy of always answering the most frequent label of this data.
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
    compared: float | None = None


def evaluate_classifier(
    classifier: AnyClassifier,
    path: str,
    *,
    name: str,
    other: AnyClassifier | None = None,
    drop_overlap: bool = False,
    allow_overlap: bool = False,
) -> ClassificationReport:
    """Score a classifier on labeled data.

    Args:
        classifier: The model.
        path: Of the data; of a folder in MNIST's layout its test part.
        name: Of the model, for the report.
        other: Another model to compare with, of the same kind.
        drop_overlap: Leave out what also stands in the training data, where that is at hand.
        allow_overlap: Keep it.

    Raises:
        DataError: The data cannot be read, has unknown labels, or overlaps and neither was chosen.
    """
    given = _read(classifier, path)
    repeats = [] if allow_overlap else _repeats(classifier, given)
    leave_out = partial(
        without_repeated,
        repeated=repeats,
        path=path,
        train_path=str(classifier.config.data.path),
        drop=drop_overlap,
    )
    given = leave_out(given)
    measures = _measure(classifier, given)
    low, high = wilson_interval(measures["accuracy"], len(given))
    compared = None
    if other is not None:
        compared = _measure(other, leave_out(_read(other, path)))["accuracy"]
    return ClassificationReport(
        path=path,
        model=name,
        num_inputs=len(given),
        unit="texts" if isinstance(classifier, TextClassifier) else classifier.modality.unit,
        loss=measures["loss"],
        accuracy=measures["accuracy"],
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=measures["macro_f1"],
        majority=100 * majority_share(given.labels),
        compared=compared,
    )


def _read(classifier: AnyClassifier, path: str) -> AnyLabeledTexts:
    """Read labeled data as a classifier's training data was read."""
    config, known = classifier.config, classifier.labels
    if isinstance(classifier, InputClassifier):
        inputs = read_test_inputs(path, classifier.modality, InputFormat.of(config))
        check_known_labels(inputs, known, "the training data")
        return inputs
    rows, _ = read_labeled_texts(
        path, encoding=config.data.encoding, columns=columns_of(config.data)
    )
    check_known_labels(rows, known, config.data.path or "the training data")
    return rows


def _measure(classifier: AnyClassifier, given: AnyLabeledTexts) -> dict[str, float]:
    numbers: Sequence[int]
    if isinstance(classifier, InputClassifier):
        assert isinstance(given, LabeledInputs)
        numbers = label_numbers(given, classifier.labels)
        batches = classifier.batches(given.values, numbers)
    else:
        assert isinstance(given, LabeledTexts)
        numbers = [classifier.labels.index(label) for label in given.labels]
        batches = classifier.batches(given.texts, numbers)
    return label_measures(classifier.model, batches)


def _repeats(classifier: AnyClassifier, given: AnyLabeledTexts) -> list[int]:
    """Find the rows that also stand in the training data; none where it is not at hand."""
    config = classifier.config
    try:
        if isinstance(given, LabeledInputs):
            assert isinstance(classifier, InputClassifier)
            train = read_inputs(ReadOptions.from_config(config), classifier.modality).train
            return list(overlap(train, given))
        return list(overlap(read_classification_data(ReadOptions.from_config(config)).train, given))
    except DataError:
        return []
