"""Evaluation of a classifier that gives any number of labels, next to baselines and another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import shorten_line
from regard.data.multi_labeled_text import MultiLabeledTexts, describe_labels
from regard.data.readers.source import DataSource
from regard.metrics import FLOORS
from regard.metrics.classification import reliability
from regard.metrics.multi_label import label_f1
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ExplainedInput,
    ScoredRow,
)
from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport, score_interval
from regard.setup.held_out import training_data
from regard.tasks import task_of
from regard.tasks.classification.evaluation import read_unseen
from regard.tasks.multi_label_classification.loss import (
    LabelDecisions,
    f1_measures,
    floor_measures,
    label_decisions,
)
from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier

_LONGEST_TEXT = 60  # characters of a text with wrong labels
_NOTE = (
    "The probability of every label of every text, and how often the text has it (Guo et al. "
    "2017).  Below the diagonal the model is too sure."
)


class LabelScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one label, in percent.

    Args:
        count: Texts that have it.
        precision: Texts that have it among those that are given it; None where none is.
        recall: Texts that are given it among those that have it; None where none has.
        f1: Their harmonic mean; None where no text has it or is given it.
    """

    count: int
    precision: float | None
    recall: float | None
    f1: float | None


class WorstLabels(msgspec.Struct, frozen=True, kw_only=True):
    """A text with wrong labels, of one of which the model was most certain.

    Args:
        where: File and line.
        text: The text.
        labels: Its labels in the data.
        predicted: The labels that the model gives it.
        certainty: How far the probability of its worst label is from the truth, 0 to 1.
    """

    where: str
    text: str
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    certainty: float


class MultiLabelReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a classifier that gives any number of labels, in percent.

    Args:
        num_inputs: Number of texts.
        threshold: Probability above which a label is given.
        loss: Loss in nats per label.
        micro_f1: F1 over all labels of all texts.
        micro_f1_low: Lower end of its 95 % bootstrap interval.
        micro_f1_high: Upper end.
        macro_f1: Mean of the F1 of the labels.
        exact_match: Fraction of texts all of whose labels are right.
        frequent_label_f1: Micro F1 of giving every text the most frequent label.
        no_labels: Fraction of texts without labels: what is right where none is ever given.
        labels: Scores of each label.
        worst: Texts with wrong labels, the most certain first.
        compared: Micro F1 of the other model; None without one.
        num_truncated: Texts whose end was cut off.
    """

    num_inputs: int
    threshold: float
    loss: float
    micro_f1: float
    micro_f1_low: float
    micro_f1_high: float
    macro_f1: float
    exact_match: float
    frequent_label_f1: float
    no_labels: float
    labels: dict[str, LabelScores]
    worst: list[WorstLabels]
    compared: float | None = None
    num_truncated: int = 0

    @property
    def num_rows(self) -> int:
        """Number of texts scored."""
        return self.num_inputs

    @property
    def intervals(self) -> dict[str, Any]:
        """Micro F1 with its interval, macro F1, and texts with all labels right."""
        return {
            "micro_f1": score_interval(self.micro_f1, self.micro_f1_low, self.micro_f1_high),
            "macro_f1": score_interval(self.macro_f1),
            "exact_match": score_interval(self.exact_match),
        }

    @property
    def floors(self) -> dict[str, float | None]:
        """Scores without a model."""
        return {"frequent_label_f1": self.frequent_label_f1, "no_labels": self.no_labels}

    @property
    def verdict(self) -> str:
        """Whether the interval of F1 is above always giving the most frequent label."""
        is_above = self.micro_f1_low > self.frequent_label_f1
        return f"{'above' if is_above else 'not above'} {FLOORS['frequent_label_f1'].phrase}"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the texts with wrong labels, scores, the floors and the comparison."""
        yield "Data", f"{self.path}   {self.num_inputs:,} texts   model {self.model}"
        for entry in self.worst:
            labels = f"{describe_labels(entry.labels)}; given {describe_labels(entry.predicted)}"
            text = shorten_line(entry.text, _LONGEST_TEXT)
            yield "Worst", f"{entry.where}   {labels} ({entry.certainty:.2f})   {text}"
        if self.num_truncated:
            yield "Cut", f"the end of {self.num_truncated:,} texts was not read"
        title = "Labels"
        for label, scores in self.labels.items():
            yield title, f"{label}   {_describe_scores(scores)}"
            title = ""
        yield (
            "F1",
            f"micro {self.micro_f1:.1f} [{self.micro_f1_low:.1f}, {self.micro_f1_high:.1f}]   "
            f"macro {self.macro_f1:.1f}   all labels right {self.exact_match:.1f} %   loss "
            f"{self.loss:.3f}   threshold {self.threshold:.3f}",
        )
        yield (
            "Floors",
            f"{self.floor_title('frequent_label_f1')} {self.frequent_label_f1:.1f}   "
            f"{self.floor_title('no_labels')} {self.no_labels:.1f} %",
        )
        yield "Verdict", self.verdict
        if self.compared is not None:
            difference = self.micro_f1 - self.compared
            yield "Compare", f"{self.model} against {self.other}: {difference:+.1f} points"


def evaluate_multi_label(
    classifier: MultiLabelClassifier,
    data: DataSource,
    options: EvaluationOptions,
    other: MultiLabelClassifier | None = None,
) -> MultiLabelReport:
    """Return the scores of a classifier on labeled texts, next to baselines and another model.

    Args:
        classifier: The model.
        data: The data.
        options: How it is evaluated.
        other: Another model to compare with, of the same kind.

    Raises:
        DataError: The data cannot be read, or has texts of the training data and `options` do not
            say what becomes of them.
    """
    train = None
    if not options.allow_overlap:
        train = training_data(task_of(classifier.config).read, classifier.config)
    labeled, other_rows = read_unseen(classifier, data, options, other, train)
    rows = cast("MultiLabeledTexts", labeled)
    compared = None
    if other is not None and other_rows is not None:
        decisions = label_decisions(other.model, other.batches(other_rows), other.world)
        compared = f1_measures(decisions, other.threshold)["micro_f1"]
    batches = classifier.batches(rows)
    decisions = label_decisions(classifier.model, batches, classifier.world)
    predicted = decisions.probabilities > classifier.threshold
    worst = _find_worst(decisions, predicted, rows, classifier.labels, options.num_worst)
    fields: dict[str, Any] = options.report_fields()
    fields |= f1_measures(decisions, classifier.threshold) | floor_measures(decisions.truth)
    return MultiLabelReport(
        **fields,
        path=data.path,
        num_inputs=len(rows),
        threshold=classifier.threshold,
        labels=_scores_of_labels(predicted, decisions.truth, classifier.labels),
        worst=worst,
        compared=compared,
        num_truncated=sum(count > 0 for count in batches.truncated),
        details=_details(decisions, worst) if options.has_details else None,
    )


def _scores_of_labels(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], labels: Sequence[str]
) -> dict[str, LabelScores]:
    """Return the scores of each label, from decisions and truth of shape ``[rows, labels]``."""
    hits = (predicted & truth).sum(0).tolist()
    num_given, num_true = predicted.sum(0).tolist(), truth.sum(0).tolist()
    each = label_f1(predicted, truth).tolist()
    return {
        label: LabelScores(
            count=num_true[index],
            precision=100 * hits[index] / num_given[index] if num_given[index] else None,
            recall=100 * hits[index] / num_true[index] if num_true[index] else None,
            f1=each[index] if num_true[index] + num_given[index] else None,
        )
        for index, label in enumerate(labels)
    }


def _describe_scores(scores: LabelScores) -> str:
    """Return the scores of a label in words; those that it has not are a dash."""
    values = {"F1": scores.f1, "precision": scores.precision, "recall": scores.recall}
    texts = [f"{name} {'-' if x is None else f'{x:.1f}'}" for name, x in values.items()]
    return f"{'   '.join(texts)}   {scores.count:,} texts"


def _find_worst(
    decisions: LabelDecisions,
    predicted: NDArray[np.bool_],
    rows: MultiLabeledTexts,
    labels: Sequence[str],
    count: int,
) -> list[WorstLabels]:
    """Return the texts with wrong labels of which a model is most certain.

    Args:
        decisions: Probabilities and truth.
        predicted: Whether a text is given a label, ``[rows, labels]``.
        rows: The texts.
        labels: Names of the labels.
        count: Texts to return at most.
    """
    is_wrong = predicted != decisions.truth
    distance = np.where(is_wrong, np.abs(decisions.probabilities - decisions.truth), 0.0).max(1)
    order = [row for row in np.argsort(-distance, kind="stable").tolist() if is_wrong[row].any()]
    return [
        WorstLabels(
            where=rows.locate(row),
            text=rows.texts[row],
            labels=rows.label_sets[row],
            predicted=tuple(name for name, x in zip(labels, predicted[row], strict=True) if x),
            certainty=float(distance[row]),
        )
        for row in order[:count]
    ]


def _details(decisions: LabelDecisions, worst: Sequence[WorstLabels]) -> EvaluationDetails:
    """Return what a page shows: the calibration of all decisions, and the worst texts."""
    bins = reliability(decisions.probabilities.ravel().tolist(), decisions.truth.ravel().tolist())
    return EvaluationDetails(
        calibrations=[CalibrationChart(title="Calibration", note=_NOTE, unit="label", bins=bins)],
        worst=[
            ScoredRow(
                where=entry.where,
                score=f"certainty {entry.certainty:.2f}",
                texts={
                    "text": entry.text,
                    "labels": describe_labels(entry.labels),
                    "predicted": describe_labels(entry.predicted),
                },
                explained=ExplainedInput(
                    text=entry.text, output=(entry.predicted or entry.labels)[0]
                ),
            )
            for entry in worst
        ],
    )
