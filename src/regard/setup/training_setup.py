"""A run as its task has arranged it: batches of the training data, loss and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.models import Model
from regard.setup.config import RunConfig
from regard.setup.dataset import Dataset, TrainingRow
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import SequentialBatches
from regard.training.loop import Batches, Evaluation

if TYPE_CHECKING:
    from regard.setup.evaluation_report import TestReport
    from regard.training.events import Evaluated, Warned
    from regard.training.train_step import Loss

D = TypeVar("D", bound=Dataset)
"""The data of a task."""
V = TypeVar("V")
"""A vocabulary, or None where no text is read."""
M = TypeVar("M", bound=Model)
"""A model of a task."""


class TrainingBatches(Batches, SequentialBatches, Protocol):
    """Batches of the training data."""

    @property
    def num_tokens(self) -> int:
        """Tokens to be predicted in one pass."""
        ...

    @property
    def longest(self) -> int:
        """Length of the longest row, in tokens."""
        ...

    def size(self, rows: NDArray[np.int64]) -> int:
        """Count the tokens of some rows, ``[batch]``."""
        ...

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """Return the fraction of all positions in batches that is padding, 0 to 1."""
        ...

    def padded_sizes(self, batches: Sequence[NDArray[np.int64]]) -> list[int]:
        """Return the positions of batches, padding counted."""
        ...


Evaluator = Callable[[ExponentialMovingAverage], Evaluation]
"""Evaluates averaged weights on the validation data."""


class RunParts(msgspec.Struct, Generic[D, V, M], frozen=True, kw_only=True):
    """The settings, data and model of a run, from which its task builds a `TrainingSetup`.

    Args:
        config: The settings of the run.
        dataset: The data.
        tokenizer: The vocabulary; None for data without texts.
        model: Model with initial weights, in training mode.
        world: The processes that train together.
    """

    config: RunConfig
    dataset: D
    tokenizer: V
    model: M
    world: World = ALONE

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens in a batch."""
        assert self.config.training.batch_tokens is not None  # resolved
        return self.config.training.batch_tokens


class TrainingSetup(ABC, Generic[D, V, M]):
    """Model, batches, loss and evaluation of a run.

    Args:
        parts: Settings, data, vocabulary and model of the run.
        batches: Batches of the training data.
    """

    def __init__(self, parts: RunParts[D, V, M], batches: TrainingBatches) -> None:
        self.config, self.dataset = parts.config, parts.dataset
        self.tokenizer, self.model = parts.tokenizer, parts.model
        self.world = parts.world
        self.device = parts.model.device
        self.batches = batches

    @property
    def final_evaluations(self) -> float:
        """Cost of the evaluation on the test data, in units of a regular one."""
        return 2.0  # beam search, on about as many rows

    @abstractmethod
    def loss(self) -> Callable[[Any, Any], Loss]:
        """Return the function that computes the loss of a model on a batch."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Return the function that evaluates averaged weights on the validation data."""

    @abstractmethod
    def evaluation_seconds(self, model: Any) -> float:
        """Measure on a sample how long an evaluation takes, with a copy of the model."""

    def training_row(self, row: int) -> TrainingRow:
        """Return a row of the training batches for people, by its index."""
        return self.dataset.training_row(row)

    def calibrate(self, predictor: Any) -> dict[str, float]:  # noqa: ARG002 - for tasks with one
        """Tune on the validation data what is not trained, such as a threshold.

        Args:
            predictor: The trained model, as `Task.open` returned it; it gets the values.

        Returns:
            The values for ``calibration.json`` by name; empty where there is nothing to tune.
        """
        return {}

    @abstractmethod
    def evaluate_test(self, predictor: Any, valid: dict[str, float]) -> TestReport:
        """Return the figures of a trained model on the test data, and what to do next.

        Args:
            predictor: The model, as `Task.open` returned it.
            valid: Validation figures of its weights.
        """

    def data_warning(self, event: Evaluated) -> Warned | None:  # noqa: ARG002 - for tasks with one
        """Return a warning about the data that an evaluation gives reason for, or None."""
        return None
