"""Evaluation of a classifier on labeled data, next to a baseline and another model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts
from regard.data.listing import shorten_line
from regard.data.readers.source import DataSource
from regard.data.splits import overlap
from regard.metrics import FLOORS
from regard.metrics.classification import Reliability, confusion_matrix, reliability
from regard.metrics.words import split_words
from regard.plots.confusion_matrix import ClassificationPicture
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ExplainedInput,
    ScoreChart,
    ScoredRow,
    chart_by_length,
    chart_by_rarity,
)
from regard.setup.evaluation_report import (
    EvaluationOptions,
    EvaluationReport,
    score_interval,
)
from regard.setup.held_out import training_data
from regard.tasks import task_of
from regard.tasks.classification.data import ClassificationData, L, exclude_repeated
from regard.tasks.classification.loss import final_measures, label_measures
from regard.tasks.classification.predictor import (
    Classification,
    LabelPredictor,
    TextClassifier,
)

_LONGEST_TEXT = 60  # characters of a text with a wrong label


class WorstClassification(msgspec.Struct, frozen=True, kw_only=True):
    """An input with a wrong label, of which the model was most certain.

    Args:
        where: File and line, or file.
        text: The text; empty for other inputs.
        label: Its label in the data.
        predicted: The label that the model gives it.
        probability: Probability of the label that the model gives.
    """

    where: str
    text: str
    label: str
    predicted: str
    probability: float


class ClassificationReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a classifier, in percent.

    Args:
        num_inputs: Number of texts, images, recordings or series.
        unit: What they are.
        loss: Loss in nats per input.
        accuracy: Fraction of correct labels.
        accuracy_low: Lower end of Wilson's 95 % interval.
        accuracy_high: Upper end.
        macro_f1: Mean over the labels of the harmonic mean of precision and recall.
        majority: Accuracy of always predicting the most frequent label of this data.
        calibration_error: Expected difference of the probability of the predicted label from how
            often it is correct.
        worst: Inputs with wrong labels, the most certain first.
        compared: Accuracy of the other model; None without one.
        num_truncated: Inputs whose end was cut off.
    """

    num_inputs: int
    unit: str
    loss: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    majority: float
    calibration_error: float
    worst: list[WorstClassification]
    compared: float | None = None
    num_truncated: int = 0

    @property
    def num_rows(self) -> int:
        """Number of inputs scored."""
        return self.num_inputs

    @property
    def intervals(self) -> dict[str, Any]:
        """Accuracy with its interval, and macro F1."""
        accuracy = score_interval(self.accuracy, self.accuracy_low, self.accuracy_high)
        return {"accuracy": accuracy, "macro_f1": score_interval(self.macro_f1)}

    @property
    def floors(self) -> dict[str, float | None]:
        """Accuracy without a model."""
        return {"majority": self.majority}

    @property
    def verdict(self) -> str:
        """Whether the interval of the accuracy is above the most frequent label."""
        name = FLOORS["majority"].phrase
        return f"above {name}" if self.accuracy_low > self.majority else f"not above {name}"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the wrong labels, scores, the floor and the comparison."""
        yield "Data", f"{self.path}   {self.num_inputs:,} {self.unit}   model {self.model}"
        for entry in self.worst:
            labels = f"{entry.label}, taken for {entry.predicted} ({entry.probability:.2f})"
            text = f"   {shorten_line(entry.text, _LONGEST_TEXT)}" if entry.text else ""
            yield "Worst", f"{entry.where}   {labels}{text}"
        if self.num_truncated:
            yield "Cut", f"the end of {self.num_truncated:,} {self.unit} was not read"
        yield (
            "Right",
            f"{self.accuracy:.1f} % [{self.accuracy_low:.1f}, {self.accuracy_high:.1f}]   "
            f"macro F1 {self.macro_f1:.1f}   loss {self.loss:.3f}",
        )
        yield "Floors", f"{self.floor_title('majority')} {self.majority:.1f} %"
        yield "Verdict", self.verdict
        if self.compared is not None:
            difference = self.accuracy - self.compared
            yield "Compare", f"{self.model} against {self.other}: {difference:+.1f} points"


def evaluate_classifier(
    classifier: LabelPredictor[Any],
    data: DataSource,
    options: EvaluationOptions,
    other: LabelPredictor[Any] | None = None,
) -> ClassificationReport:
    """Return the scores of a classifier on labeled data, next to a baseline and another model.

    Args:
        classifier: The model.
        data: The data; of a folder in MNIST's layout, the test part is read.
        options: How it is evaluated.
        other: Another model to compare with, of the same kind.

    Raises:
        DataError: The data cannot be read, has unknown labels, or has inputs of the training data
            and `options` do not say what becomes of them.
    """
    train = None
    if options.has_details or not options.allow_overlap:
        train = training_data(task_of(classifier.config).read, classifier.config)
    rows, other_rows = read_unseen(classifier, data, options, other, train)
    compared = None
    if other is not None and other_rows is not None:
        measures = label_measures(other.model, other.batches(other_rows), other.world)
        compared = measures["accuracy"]
    batches = classifier.batches(rows)
    results = classifier.predict(batches)
    fields: dict[str, Any] = options.report_fields()
    fields |= final_measures(classifier.model, batches, classifier.world)
    picture = _picture(classifier.labels, results, rows.labels)
    worst = _find_worst(results, rows, options.num_worst)
    details = None
    if options.has_details:
        details = EvaluationDetails(
            charts=_charts(classifier, rows, results, train),
            calibrations=[_calibration(picture)],
            confusion=picture,
            worst=[_scored_row(entry, rows) for entry in worst],
        )
    return ClassificationReport(
        **fields,
        path=data.path,
        num_inputs=len(rows),
        unit=classifier.unit,
        calibration_error=picture.calibration_error,
        worst=worst,
        compared=compared,
        num_truncated=sum(result.truncated > 0 for result in results),
        picture=picture,
        details=details,
    )


def read_unseen(
    classifier: LabelPredictor[L],
    data: DataSource,
    options: EvaluationOptions,
    other: LabelPredictor[L] | None,
    train: ClassificationData[Any] | None,
) -> tuple[L, L | None]:
    """Read test data for a model and for one to compare with, as `options` say of known rows.

    Args:
        classifier: The model.
        data: The data.
        options: Whether rows of the training data are dropped or kept.
        other: The other model; None without one.
        train: The training data of the model; None where it is not known.

    Returns:
        The rows of the model, and the same ones read for the other.

    Raises:
        DataError: The data cannot be read, or has rows of the training data and `options` do not
            say what becomes of them.
    """
    rows, repeated = classifier.read_test(data), []
    if train is not None and not options.allow_overlap:
        repeated = list(overlap(train.train, rows))
    train_path = str(classifier.config.data.path)
    rows = exclude_repeated(rows, repeated, train_path, drop=options.drop_overlap)
    if other is None:
        return rows, None
    return rows, exclude_repeated(other.read_test(data), repeated, train_path, drop=True)


def _charts(
    classifier: LabelPredictor[Any],
    rows: LabeledTexts | LabeledInputs,
    results: Sequence[Classification],
    train: ClassificationData[Any] | None,
) -> list[ScoreChart]:
    """Return the accuracy of texts by length and by rare words; none of other inputs."""
    if not isinstance(rows, LabeledTexts) or not isinstance(classifier, TextClassifier):
        return []
    is_correct = [
        100.0 * (result.label == label) for result, label in zip(results, rows.labels, strict=True)
    ]
    names = ["accuracy"]
    lengths = [len(split_words(text)) for text in rows.texts]
    picture = ScoreByLengthPicture.from_rows(
        lengths, [is_correct], unit="words of the text", row="text", names=names
    )
    by_rarity = chart_by_rarity(
        rows.texts,
        [is_correct],
        training_texts=None if train is None else train.train.texts,
        count_tokens=lambda texts: list(map(len, classifier.tokenizer.encode(texts))),
        row="text",
        names=names,
    )
    return [chart_by_length(picture), by_rarity]


def _calibration(picture: ClassificationPicture) -> CalibrationChart:
    """Return the reliability of the probabilities of the predicted labels."""
    bins = Reliability(
        counts=picture.bin_counts,
        confidence=picture.bin_confidence,
        accuracy=picture.bin_accuracy,
    )
    note = (
        "The probability of the predicted label, and how often it is correct (Guo et al. 2017).  "
        "Below the diagonal the model is too sure."
    )
    return CalibrationChart(title="Calibration", note=note, unit="input", bins=bins)


def _scored_row(entry: WorstClassification, rows: LabeledTexts | LabeledInputs) -> ScoredRow:
    texts = {"text": entry.text} if isinstance(rows, LabeledTexts) else {}
    texts |= {"label": entry.label, "predicted": entry.predicted}
    explained = None
    file = Path(rows.path) / entry.where.removeprefix(f"{rows.path}: ")
    if entry.text.strip():
        explained = ExplainedInput(text=entry.text, output=entry.predicted)
    elif isinstance(rows, LabeledInputs) and file.is_file():  # an input of a folder of files
        explained = ExplainedInput(text=str(file), output=entry.predicted, is_file=True)
    return ScoredRow(
        where=entry.where,
        score=f"probability {entry.probability:.2f}",
        texts=texts,
        explained=explained,
    )


def _picture(
    labels: Sequence[str], results: Sequence[Classification], true_labels: Sequence[str]
) -> ClassificationPicture:
    """Count what a classifier gets wrong, and how often by its probability."""
    index_of = {label: index for index, label in enumerate(labels)}
    predictions = [index_of[result.label] for result in results]
    truth = [index_of[label] for label in true_labels]
    is_correct = [prediction == label for prediction, label in zip(predictions, truth, strict=True)]
    bins = reliability([result.probability for result in results], is_correct)
    return ClassificationPicture(
        labels=list(labels),
        counts=confusion_matrix(predictions, truth, len(labels)),
        bin_counts=bins.counts,
        bin_confidence=bins.confidence,
        bin_accuracy=bins.accuracy,
        calibration_error=bins.calibration_error,
    )


def _find_worst(
    results: Sequence[Classification], rows: LabeledTexts | LabeledInputs, count: int
) -> list[WorstClassification]:
    """Return the wrong labels of which a model is most certain."""
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
