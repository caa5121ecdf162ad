"""Classification of texts: texts with labels -> batches -> a model that predicts every label."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.data.multi_labeled_text import describe_labels
from regard.errors import NextStep
from regard.hub.model_folder import ModelFolder
from regard.metrics.multi_label import best_threshold
from regard.models import Model
from regard.models.base.checkpoint_format import USUAL_THRESHOLD
from regard.setup.base_task import FOLDER
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import TestReport
from regard.tasks.classification.classifier_setup import ClassificationSetup
from regard.tasks.classification.loss import LabeledBatches
from regard.tasks.classification.task import TextClassificationTask
from regard.tasks.multi_label_classification.data import MultiLabelData, read_multi_label_data
from regard.tasks.multi_label_classification.loss import (
    MultiLabelLoss,
    f1_measures,
    floor_measures,
    label_decisions,
)
from regard.tasks.multi_label_classification.predictor import (
    THRESHOLD,
    MultiLabelClassifier,
)
from regard.training.evaluation_loop import LossEvaluator
from regard.training.events import OutputExample
from regard.training.output_examples import choose_examples, output_example


class MultiLabelSetup(ClassificationSetup):
    """Model, batches, loss and evaluation of a classifier that gives any number of labels."""

    classifier: MultiLabelClassifier

    @property
    def final_evaluations(self) -> float:
        """Cost of choosing the threshold and of the test, in units of an evaluation."""
        return 1.0 + super().final_evaluations

    def loss(self) -> MultiLabelLoss:
        """Return the binary cross-entropy of each label."""
        return MultiLabelLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Return the evaluator of loss and F1, with the threshold that is best at the time."""
        batches = self.classifier.batches(self.dataset.valid)

        def measure(model: Model) -> dict[str, float]:
            measures = f1_measures(label_decisions(model, batches, self.world))
            return {name: measures[name] for name in ("loss", "micro_f1", "macro_f1")}

        return LossEvaluator(self.model, measure, partial(self._show, batches=batches))

    def _show(self, model: Model, batches: LabeledBatches) -> list[OutputExample]:
        """Return the labels that a model gives a few validation texts above one half."""
        valid, names = self.dataset.valid, self.config.data.labels
        examples = []
        for row in choose_examples(len(valid)):
            logits = MultiLabelLoss.outputs(model, batches.batch(np.array([row])))
            values = torch.sigmoid(logits.float())[0].tolist()  # [labels]
            likely = [
                f"{name} ({100 * value:.0f} %)"
                for name, value in zip(names, values, strict=True)
                if value > USUAL_THRESHOLD
            ]
            output = describe_labels(likely)
            examples.append(output_example(valid.describe(row), output, valid.labels[row]))
        return examples

    def calibrate(self, predictor: MultiLabelClassifier) -> dict[str, float]:
        """Choose the threshold of a label on the validation data."""
        batches = self.classifier.batches(self.dataset.valid)
        decisions = label_decisions(predictor.model, batches, self.world)
        predictor.threshold, _ = best_threshold(decisions.probabilities, decisions.truth)
        return {THRESHOLD: predictor.threshold}

    def evaluate_test(self, predictor: Any, valid: dict[str, float]) -> TestReport:
        """Compute F1 on the test data."""
        dataset, test = self.dataset, {}
        summary = f"valid micro F1 {valid['micro_f1']:.1f}"
        if len(dataset.test):
            batches = self.classifier.batches(dataset.test)
            decisions = label_decisions(predictor.model, batches, self.world)
            test = f1_measures(decisions, predictor.threshold) | floor_measures(decisions.truth)
            summary += (
                f"   test micro F1 {test['micro_f1']:.1f} [{test['micro_f1_low']:.1f}, "
                f"{test['micro_f1_high']:.1f}], macro F1 {test['macro_f1']:.1f} (always the most "
                f"frequent label {test['frequent_label_f1']:.1f})"
            )
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "classify", (FOLDER, dataset.example()))],
            kind=dataset.title,
            rows=dataset.describe_sizes(),
            notes="A text has the labels whose probability is above "
            f"{predictor.threshold:.3f}, the threshold with the best micro F1 on the validation "
            "data. `exact_match` is the fraction of texts all of whose labels are right, "
            "`no_labels` of those that have none; the interval is a bootstrap's, 95 %.",
            limits="The model knows the kind of text it was trained on and nothing else: it gives "
            "its labels to any\nother, too, and may be sure of them. Check what matters.",
        )


class MultiLabelTask(TextClassificationTask):
    """Classification of texts that have any number of labels, a column of 0 and 1 for each."""

    verbs = (("classify", "TEXT"), ("evaluate", "comments.csv"))
    example_data = "comments.csv"
    loss_unit = "nats per label"
    has_picture = False
    most_columns = float("inf")
    predictor = MultiLabelClassifier
    setup = MultiLabelSetup
    evaluation = "regard.tasks.multi_label_classification.evaluation.evaluate_multi_label"

    def read(self, options: ReadOptions) -> MultiLabelData:
        """Read the texts and split them."""
        return read_multi_label_data(options)

    def open(self, folder: str | Path, config: RunConfig | None = None) -> Any:
        """Return the predictor of a model folder, with its threshold."""
        classifier: MultiLabelClassifier = super().open(folder, config)
        calibration = ModelFolder(folder).read_calibration()
        classifier.threshold = calibration.get(THRESHOLD, USUAL_THRESHOLD)
        return classifier


MULTI_LABEL_CLASSIFICATION = MultiLabelTask()
