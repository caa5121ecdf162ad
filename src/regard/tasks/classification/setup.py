"""A run that learns to tell labels, whatever it reads: loss, evaluation, and the final figures."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from regard.data.labeled_inputs import InputBatches
from regard.data.labeled_text import LabeledTextBatches
from regard.data.rows import Rows
from regard.errors import DataError, NextStep
from regard.metrics.classification import wilson_interval
from regard.models import Model
from regard.setup.base_task import FOLDER, TestReport, TrainingSetup
from regard.tasks.classification.loss import ClassificationLoss, label_measures
from regard.training.evaluation_loop import LossEvaluator

_SAMPLED_BATCHES = 2


class LabelSetup(TrainingSetup):
    """A run over inputs with labels; its data has `train`, `valid` and `test`."""

    dataset: Any

    @abstractmethod
    def held_out(self, inputs: Any) -> LabeledTextBatches | InputBatches:
        """Lay held-out inputs out in batches."""

    @abstractmethod
    def example(self) -> str:
        """Return something to classify, as it is typed."""

    def kind(self) -> str:
        """Tell what the model is."""
        return f"A classifier of {len(self.dataset.labels)} labels"

    @property
    def final_evaluations(self) -> float:
        """What the evaluation on the test data costs; makers may hold out much."""
        return 1.0 + len(self.dataset.test) / len(self.dataset.valid)

    def loss(self) -> ClassificationLoss:
        """Make the cross-entropy of the label."""
        return ClassificationLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Make what computes loss and accuracy.

        The loss decides: accuracy moves in steps of an input, and on few would end runs that still
        improve.
        """
        batches = self.held_out(self.dataset.valid)
        return LossEvaluator(self.model, partial(label_measures, batches=batches))

    @torch.no_grad()
    def evaluation_seconds(self, model: Model) -> float:
        """Time a few batches of the validation data, and scale up."""
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        batches, objective = self.held_out(self.dataset.valid), self.loss()
        all_rows = batches.in_sequence()
        sample = all_rows[:: max(1, len(all_rows) // _SAMPLED_BATCHES)]
        objective(evaluated, batches.batch(sample[0]))  # the first pass is slower
        begun = time.perf_counter()
        for rows in sample:
            objective(evaluated, batches.batch(rows))
        return (time.perf_counter() - begun) / len(sample) * len(all_rows)

    def evaluate_test(self, predictor: Any, valid: dict[str, float]) -> TestReport:
        """Measure the accuracy on the test data."""
        dataset, test = self.dataset, {}
        shown = f"valid accuracy {valid['accuracy']:.1f} %"
        if len(dataset.test):
            test = label_measures(predictor.model, self.held_out(dataset.test))
            low, high = wilson_interval(test["accuracy"], len(dataset.test))
            test |= {"accuracy_low": low, "accuracy_high": high}
            test["majority"] = 100 * majority_share(dataset.test.labels)
            shown += (
                f"   test accuracy {test['accuracy']:.1f} % [{low:.1f}, {high:.1f}], "
                f"macro F1 {test['macro_f1']:.1f} (most frequent label {test['majority']:.1f} %)"
            )
        return TestReport(
            test=test,
            summary=shown,
            suggested=[NextStep("Try", "classify", (FOLDER, self.example()))],
            kind=self.kind(),
            rows=f"{len(dataset.train):,} train / {len(dataset.valid):,} validation / "
            f"{len(dataset.test):,} test",
            notes="`majority` is the accuracy of always answering the most frequent label of the "
            "test data; the interval of the test accuracy is Wilson's, 95 %.",
        )


def majority_share(labels: Sequence[str]) -> float:
    """Return the accuracy of always answering the most frequent label, 0 to 1."""
    ((_, most),) = Counter(labels).most_common(1)
    return most / len(labels)


R = TypeVar("R", bound=Rows)


def without_repeated(
    inputs: R, repeated: Sequence[int], *, path: str, train_path: str, drop: bool
) -> R:
    """Refuse inputs that also stand in the training data, or leave them out.

    Args:
        inputs: To be tested on.
        repeated: Which of them do.
        path: Of the inputs.
        train_path: Of the training data.
        drop: Whether to leave them out.

    Raises:
        DataError: There are some and they are not to be left out, or nothing is left.
    """
    if not repeated:
        return inputs
    if not drop:
        raise DataError(
            f"{path}: {len(repeated):,} of {len(inputs):,} inputs also stand in {train_path}.  "
            "Scores would be too good.  Drop them: `data.drop_overlap=true`;  "
            "keep: `data.allow_overlap=true`"
        )
    kept = sorted(set(range(len(inputs))) - set(repeated))
    if not kept:
        raise DataError(
            f"{path}: every input also stands in {train_path}: none is left.  "
            "Name another, or keep them: `data.allow_overlap=true`"
        )
    return inputs.select(kept)
