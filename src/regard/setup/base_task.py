"""What makes a task: how text becomes batches, what is learned from them, and what comes out.

A run (`regard.runs.run`) goes through the same steps whatever the task; a `Task` reads and
prepares, and what it `Prepared` knows the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow
from regard.hub.model_folder import ModelFolder
from regard.models.base.model import Model
from regard.setup.config import RunConfig
from regard.training.ema import WeightAverage
from regard.training.events import Data, Evaluated, Report
from regard.training.loop import Evaluation

_FINAL_EVALUATIONS = 2.0  # with beam search, on about as many rows


class Text(Protocol):
    """The data of a run, read and split."""

    @property
    def path(self) -> str:
        """File as named."""
        ...

    @property
    def dropped(self) -> list[DroppedRow]:
        """What was left out, with the reason."""
        ...

    @property
    def num_chars(self) -> int:
        """Characters to learn from, by which sizes are chosen."""
        ...

    def place(self, rows: Sequence[int]) -> str:
        """Tell where rows of a training batch stand in the data."""
        ...


class TrainingBatches(Protocol):
    """Batches of the training data, with what planning wants to know of them."""

    @property
    def num_tokens(self) -> int:
        """Tokens to be predicted in one pass."""
        ...

    @property
    def longest(self) -> int:
        """Length of the longest row, in tokens."""
        ...

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch, the same for the same epoch."""
        ...

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the rows of batches that cover the data once, always the same."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of the given rows."""
        ...

    def size(self, rows: NDArray[np.int64]) -> int:
        """Count the tokens of some rows."""
        ...

    def padding_fraction(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """Measure which share of all places in batches is padding, 0 to 1."""
        ...


class Evaluator(Protocol):
    """Evaluates averaged weights."""

    def __call__(self, average: WeightAverage) -> Evaluation:
        """Evaluate them on the validation data."""
        ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run tells about its model.

    Args:
        test: Figures on the test data by name; empty without.
        summary: Validation and test figures in a line.
        tries: Commands to try next.
        kind: What the model is, such as ``A translation model (en-de)``.
        rows: Sizes of the parts of the data, in words.
        notes: What the figures mean.
    """

    test: dict[str, float]
    summary: str
    tries: list[str]
    kind: str
    rows: str
    notes: str


class Prepared(ABC):
    """What a run works on.

    Args:
        config: With every choice made.
        text: The data.
        tokenizer: Turns text into token ids and back; None where there is no text.
        batches: Of the training data.
        model: With initial weights, in training mode.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        text: Text,
        tokenizer: Any,
        batches: TrainingBatches,
        model: Model,
    ) -> None:
        self.config, self.text, self.tokenizer = config, text, tokenizer
        self.batches, self.model = batches, model

    @property
    def vocab_size(self) -> int:
        """Number of token ids; 0 where there is no text."""
        return 0 if self.tokenizer is None else len(self.tokenizer)

    @property
    def final_evaluations(self) -> float:
        """What the evaluation on the test data costs, in units of a regular one."""
        return _FINAL_EVALUATIONS

    @abstractmethod
    def objective(self) -> Any:
        """Make what computes the loss of a batch."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Make what evaluates averaged weights on the validation data."""

    @abstractmethod
    def evaluation_seconds(self, model: Any) -> float:
        """Measure on a sample how long an evaluation will take with a copy of the model."""

    @abstractmethod
    def finish(self, opened: Any, valid: dict[str, float]) -> Outcome:
        """Test a trained model.

        Args:
            opened: As `Task.open` returned it.
            valid: Validation figures of its weights.
        """

    def warning(self, event: Evaluated) -> str | None:  # noqa: ARG002 - for tasks that have one
        """Tell what an evaluation shows to be wrong with the data; None where nothing is."""
        return None


class Task(ABC):
    """One task, such as translation."""

    @property
    @abstractmethod
    def defaults(self) -> RunConfig:
        """Settings to start from, with the family that suits the task."""

    @abstractmethod
    def read(self, config: RunConfig) -> Text:
        """Read, clean and split the data that a configuration names.

        Raises:
            DataError: It cannot be used.
        """

    @abstractmethod
    def describe(self, text: Any) -> Data:
        """Tell what the data is."""

    def note(self, config: RunConfig, text: Text) -> RunConfig:  # noqa: ARG002 - likewise
        """Note in a configuration what the data has told."""
        return config

    @abstractmethod
    def prepare(
        self, config: RunConfig, text: Any, report: Report, *, stored: ModelFolder | None = None
    ) -> Prepared:
        """Train or read the vocabulary, encode the text, build the model.

        Args:
            config: With sizes resolved.
            text: From `read`.
            report: Told what happens.
            stored: A folder whose vocabulary is taken; None trains one.
        """

    @abstractmethod
    def open(self, folder: str | Path) -> Any:
        """Open a model folder for use."""
