"""The training of a classifier of texts or other inputs: loss, evaluation, and test."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from regard.errors import NextStep
from regard.models import Model
from regard.setup.base_task import FOLDER
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts, TrainingBatches, TrainingSetup
from regard.tasks.classification.data import ClassificationData
from regard.tasks.classification.loss import (
    ClassificationLoss,
    LabeledBatches,
    final_measures,
    label_measures,
)
from regard.tasks.classification.predictor import LabelPredictor
from regard.training.evaluation_loop import LossEvaluator, time_evaluation
from regard.training.events import OutputExample
from regard.training.output_examples import choose_examples, output_example


class ClassificationSetup(TrainingSetup[ClassificationData[Any], Any, Model]):
    """Model, batches, loss and evaluation of a classifier.

    Args:
        parts: Settings, data, vocabulary and model of the run.
        batches: Batches of the training data.
        classifier: The predictor; it arranges held-out data in batches.
    """

    def __init__(
        self,
        parts: RunParts[Any, Any, Any],
        batches: TrainingBatches,
        classifier: LabelPredictor[Any],
    ) -> None:
        super().__init__(parts, batches)
        self.classifier = classifier

    @property
    def final_evaluations(self) -> float:
        """Cost of the evaluation on the test data, in units of one on the validation data."""
        return 1.0 + len(self.dataset.test) / len(self.dataset.valid)

    def loss(self) -> ClassificationLoss:
        """Return the cross-entropy of the label."""
        return ClassificationLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Return the evaluator of loss and accuracy.

        The loss decides: accuracy changes in steps of one input, so with few inputs it would stop
        runs that still improve.
        """
        batches = self.classifier.batches(self.dataset.valid)
        return LossEvaluator(
            self.model,
            partial(label_measures, batches=batches, world=self.world),
            partial(self._show, batches=batches),
        )

    def _show(self, model: Model, batches: LabeledBatches) -> list[OutputExample]:
        """Return the labels that a model gives a few validation inputs, with their probability."""
        valid, names = self.dataset.valid, self.config.data.labels
        examples = []
        for row in choose_examples(len(valid)):
            logits = ClassificationLoss.outputs(model, batches.batch(np.array([row])))
            probabilities = logits.float().softmax(-1)[0]  # [labels]
            best = int(probabilities.argmax())
            output = f"{names[best]} ({100 * float(probabilities[best]):.0f} %)"
            examples.append(output_example(valid.describe(row), output, valid.labels[row]))
        return examples

    def evaluation_seconds(self, model: Model) -> float:
        """Time a few batches of the validation data, and scale up."""
        batches = self.classifier.batches(self.dataset.valid)
        return time_evaluation(self.loss(), model, batches, self.world)

    def evaluate_test(self, predictor: LabelPredictor[Any], valid: dict[str, float]) -> TestReport:
        """Compute the accuracy on the test data."""
        dataset, test = self.dataset, {}
        summary = f"valid accuracy {valid['accuracy']:.1f} %"
        if len(dataset.test):
            batches = self.classifier.batches(dataset.test)
            test = final_measures(predictor.model, batches, self.world)
            summary += (
                f"   test accuracy {test['accuracy']:.1f} % [{test['accuracy_low']:.1f}, "
                f"{test['accuracy_high']:.1f}], macro F1 {test['macro_f1']:.1f} (most frequent "
                f"label {test['majority']:.1f} %)"
            )
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "classify", (FOLDER, dataset.example()))],
            kind=dataset.title,
            rows=dataset.describe_sizes(),
            notes="`majority` is the accuracy of always answering the most frequent label of the "
            "test data; the interval of the test accuracy is Wilson's, 95 %.",
            limits="The model knows the kind of input it was trained on and nothing else: it gives "
            "one of its labels\nto any other, too, and may be sure of it. Check what matters.",
        )
