"""What makes a task: how text becomes batches, what is learned from them, and what comes out.

A run (`regard.runs.run`) goes through the same steps whatever the task; a `Task` declares defaults,
families and presets, reads the data, and sets a `TrainingSetup` up, which knows the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow
from regard.data.readers.audio import LogMelConfig
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource, open_source
from regard.errors import ConfigError, NextStep, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.model_folder import ModelFolder, load_weights
from regard.models import Family, InputFamily, Model, ModelConfig, family_of
from regard.settings.binding import convert_fields
from regard.setup.config import DataConfig, RunConfig
from regard.setup.facts import DataFacts
from regard.setup.presets import FamilyPresets
from regard.setup.request import Request
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import DataSummary, Evaluated, Report, Warned
from regard.training.loop import Evaluation
from regard.training.train_step import Loss

FOLDER = "FOLDER"
"""Stands for the model folder in what a run suggests."""
_FINAL_EVALUATIONS = 2.0  # with beam search, on about as many rows


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the data of a run is read.

    Args:
        data: Where it is.
        sources: The files and folders that are open, by the name of their setting: ``path``,
            ``targets``, ``valid``, ``test``.
        seed: Of the parts that are held out.
        has_sizes: Whether the sizes of inputs are known, as those of trained weights are; else the
            data decides what is not set.
        model: Dimensions of the model that are set or known, by name.
        audio: How recordings become frames: what is set or known, by name.
    """

    data: DataConfig
    sources: Mapping[str, DataSource] = {}
    seed: int
    has_sizes: bool = False
    model: dict[str, Any] = {}
    audio: dict[str, Any] = {}

    def source(self, name: str) -> DataSource | None:
        """Return a file or folder, opened once; None where the settings name none."""
        path = getattr(self.data, name)
        if path is None or name in self.sources:
            return self.sources.get(name)
        return open_source(path)

    @classmethod
    def of(cls, config: RunConfig, sources: Mapping[str, DataSource] | None = None) -> ReadOptions:
        """Read as a run did whose settings are decided."""
        return cls(
            data=config.data,
            sources=sources or {},
            seed=config.training.seed,
            has_sizes=True,
            model=msgspec.structs.asdict(config.model),
            audio=msgspec.structs.asdict(config.audio),
        )

    @classmethod
    def of_request(
        cls,
        request: Request,
        draft: RunConfig,
        sources: Mapping[str, DataSource],
        *,
        has_sizes: bool,
    ) -> ReadOptions:
        """Read what a request names.

        Args:
            request: What the user set.
            draft: The request over its defaults, but for the model's dimensions.
            sources: The files and folders that are open.
            has_sizes: Whether the model's are those of the draft.
        """
        known = cls.of(draft, sources)
        if has_sizes:
            return known
        return msgspec.structs.replace(
            known,
            has_sizes=False,
            model=request.model_values(draft.model),
            audio=convert_fields(LogMelConfig, request.table.get("audio", {}), "audio"),
        )


class Dataset(Protocol):
    """The data of a run, read and split."""

    @property
    def path(self) -> str:
        """File as named."""
        ...

    @property
    def dropped(self) -> list[DroppedRow]:
        """What was left out, with the reason."""
        ...

    def facts(self) -> DataFacts:
        """Return what settings are decided by."""
        ...

    def summary(self) -> DataSummary:
        """Describe the data in an event."""
        ...

    def texts(self) -> Sequence[str]:
        """Return the training texts that a vocabulary is made of; none where there is no text."""
        ...

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where rows of a training batch are in the data, such as ``lines 12-15``."""
        ...


class TrainingBatches(Protocol):
    """Batches of the training data, with what planning needs to know of them."""

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
        """Measure the fraction of all positions in batches that is padding, 0 to 1."""
        ...


Evaluator = Callable[[ExponentialMovingAverage], Evaluation]
"""Evaluates averaged weights on the validation data."""


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run says about its model.

    Args:
        test: Figures on the test data by name; empty without.
        summary: Validation and test figures in a line.
        suggested: What to try next, with `FOLDER` for the model folder.
        kind: What the model is, such as ``A translation model (en-de)``.
        rows: Sizes of the parts of the data, in words.
        notes: What the figures mean.
    """

    __test__ = False  # no test, though its name begins with one

    test: dict[str, float]
    summary: str
    suggested: list[NextStep]
    kind: str
    rows: str
    notes: str


class TrainingSetup(ABC):
    """What a run works on.

    Args:
        config: Of the run.
        dataset: The data.
        tokenizer: Turns text into token ids and back; None where there is no text.
        batches: Of the training data.
        model: With initial weights, in training mode.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        dataset: Any,
        tokenizer: AnyTokenizer | None,
        batches: TrainingBatches,
        model: Model,
    ) -> None:
        self.config, self.dataset, self.tokenizer = config, dataset, tokenizer
        self.batches, self.model = batches, model

    @property
    def final_evaluations(self) -> float:
        """What the evaluation on the test data costs, in units of a regular one."""
        return _FINAL_EVALUATIONS

    @abstractmethod
    def loss(self) -> Callable[[Any, Any], Loss]:
        """Make what computes the loss of a model on a batch."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Make what evaluates averaged weights on the validation data."""

    @abstractmethod
    def evaluation_seconds(self, model: Any) -> float:
        """Measure on a sample how long an evaluation will take with a copy of the model."""

    @abstractmethod
    def evaluate_test(self, predictor: Any, valid: dict[str, float]) -> TestReport:
        """Test a trained model.

        Args:
            predictor: As `Task.open` returned it.
            valid: Validation figures of its weights.
        """

    def data_warning(self, event: Evaluated) -> Warned | None:  # noqa: ARG002 - for tasks with one
        """Return what an evaluation shows to be wrong with the data; None where nothing is."""
        return None


class Task(ABC):
    """One task, such as translation: a declared record, and how it reads and learns.

    Args:
        name: As in settings.
        purpose: What its models do, such as ``translate``.
        families: Families of models that it may take.
        presets: Their sizes.
    """

    name: str
    purpose: str
    families: Mapping[str, Family] | Mapping[str, InputFamily]
    presets: FamilyPresets

    @property
    @abstractmethod
    def defaults(self) -> RunConfig:
        """Settings to start from, with the family that suits the task."""

    def claims(self, shape: DataShape) -> bool:  # noqa: ARG002 - the task of pairs claims nothing
        """Whether data of a shape is for this task, where the user names none."""
        return False

    @abstractmethod
    def read(self, options: ReadOptions) -> Any:
        """Read, clean and split the data.

        Returns:
            A `Dataset`.

        Raises:
            DataError: It cannot be used.
        """

    @abstractmethod
    def set_up(
        self,
        config: RunConfig,
        dataset: Any,
        tokenizer: AnyTokenizer | None,
        model: Model,
        report: Report,
    ) -> TrainingSetup:
        """Encode the data, and lay it out in batches.

        Args:
            config: Of the run.
            dataset: From `read`.
            tokenizer: The vocabulary; None where there is no text.
            model: With initial weights.
            report: Told what happens.
        """

    @abstractmethod
    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> Any:
        """Return what uses a trained model: text goes in, text or labels come out.

        Args:
            model: In evaluation mode.
            tokenizer: Its vocabulary; None where there is no text.
            config: The settings it was made with.
        """

    def open(self, folder: str | Path) -> Any:
        """Open a model folder of regard's own for use.

        Raises:
            WeightsError: It is missing, incomplete, damaged, or for another task.
        """
        model_folder = ModelFolder(folder)
        config = model_folder.read_config(RunConfig)
        if config.task != self.name:
            raise WeightsError(
                f"{folder}: made for {config.task}, not for {self.name}.",
                NextStep("See", "info", (str(folder),)),
            )
        tokenizer = None if self.reads_inputs else model_folder.read_tokenizer()
        model = self.build(config, 0 if tokenizer is None else len(tokenizer))
        load_weights(model, model_folder.read_weights(), name=str(model_folder.weights_path))
        return self.predictor(model.eval(), tokenizer, config)

    @property
    def reads_inputs(self) -> bool:
        """Whether models read images, recordings or series instead of text."""
        return any(isinstance(family, InputFamily) for family in self.families.values())

    def summarize(self, config: RunConfig) -> str:
        """Describe the model of a configuration in a line, such as ``gpt tiny   4 layers, ...``."""
        family = self.require_family(config.model)
        sizes = family.summary(config.model, config.attention)
        preset = "" if config.preset == "auto" else f" {config.preset}"
        return f"{family_of(config.model)}{preset}   {sizes}"

    def build(self, config: RunConfig, vocab_size: int) -> Model:
        """Build the model of a configuration, with random weights.

        Args:
            config: Of the run.
            vocab_size: Number of token ids; 0 where no text is read. The table of tokens may have
                more rows (``tokenizer.table_rows``).

        Raises:
            ConfigError: The family is not for the task.
            WeightsError: The table of tokens has fewer rows than there are tokens.
        """
        family = self.require_family(config.model)
        if isinstance(family, InputFamily):
            return family.model(config.model, config.attention)
        rows = config.tokenizer.table_rows
        if rows is not None and rows < vocab_size:
            raise WeightsError(
                f"{config.start_from or 'tokenizer.table_rows'}: the weights have {rows:,} rows of "
                f"tokens, the vocabulary has {vocab_size:,} tokens, so some have no row.  "
                "Take the vocabulary that the weights were trained with."
            )
        return family.model(config.model, vocab_size if rows is None else rows, config.attention)

    def require_family(self, model: ModelConfig) -> Family | InputFamily:
        """Return the family of a model in the role that the task gives it.

        Raises:
            ConfigError: The family is not for the task.
        """
        name = family_of(model)
        if name not in self.families:
            raise ConfigError(
                f"model.family={name}: does not {self.purpose}.  "
                f"Take one of {', '.join(self.families)}."
            )
        return self.families[name]
