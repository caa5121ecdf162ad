"""The interface of a task: how data becomes batches, what is learned, and what is evaluated.

A run (`regard.runs.run`) has the same steps for every task. A `Task` declares defaults, families
and presets, reads the data, and builds a `TrainingSetup`: batches, loss and evaluation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regard.errors import ConfigError, NextStep, WeightsError
from regard.generation.native import why_through_operators
from regard.hub.model_folder import ModelFolder, load_weights
from regard.lazy import load
from regard.models import ENCODER_DECODERS, Family, InputFamily, Model, ModelConfig
from regard.models.base.bounded_build import (
    TooLargeError,
    build_bounded,
    require_tensors_for_layers,
)
from regard.setup.config import RunConfig
from regard.setup.inspect import with_present_paths

if TYPE_CHECKING:
    from regard.data.readers.shape import DataShape
    from regard.data.readers.source import DataSource
    from regard.hub.any_tokenizer import AnyTokenizer
    from regard.hub.hugging_face.published_folder import Published
    from regard.models.base.checkpoint_format import LabelHead
    from regard.models.base.encoder import EncoderConfig
    from regard.setup.dataset import ReadOptions
    from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport
    from regard.setup.presets import FamilyPresets
    from regard.setup.training_setup import RunParts, TrainingSetup
    from regard.training.events import Report

LABEL_SETS = ("multi_label", "label_separator")
"""Settings of section data about texts with any number of labels."""
FOLDER = "FOLDER"
"""Placeholder of the model folder in suggested commands."""


class Task(ABC):
    """One task, such as translation.

    Args:
        name: Name in settings.
        purpose: What its models do, such as ``translate``.
        families: Model families that can learn it, by name.
        loss_unit: Unit of its losses; empty where they have none.
        has_picture: Whether its evaluations have a picture.
        sections: Sections of the settings that it reads, of those that some tasks do not.
        unread: Settings of section data that it does not read.
        most_columns: How many columns of a table it reads at most.
        inputs: What its models read, in words.
        verbs: Verbs that use its models, with the word for their argument.
        example_data: Name of a file that it could be trained on, for suggested commands.
        training_data: What its models are trained and evaluated on, in words.
        has_long_sources: Whether models write targets for sources that may be long: the end of one
            that is too long is cut off.
        begins_with_gist: Whether the beginning of a long source says most of what its target does.
        preset_table: Name of the sizes of its families in `regard.setup.presets`, which imports
            the families.
        computes_vectors: Whether models compute vectors of texts.
        predictor: Returns the object that applies a trained model to text or other inputs, from the
            model in evaluation mode, its vocabulary (None for data without text), and the settings
            of its run.
        evaluation: Dotted name of the function that scores its models on new data; empty where they
            have no scores.
    """

    name: str
    purpose: str
    loss_unit: str = "nats per token"
    has_picture: bool = False
    sections: frozenset[str] = frozenset({"tokenizer"})
    unread: frozenset[str] = frozenset({"languages", "targets", "source_prefix", *LABEL_SETS})
    most_columns: float = 3
    inputs: str = "texts"
    verbs: tuple[tuple[str, str], ...] = ()
    example_data: str = ""
    training_data: str = "running text"
    has_long_sources: bool = False
    begins_with_gist: bool = False
    computes_vectors: bool = False
    families: Mapping[str, Family] | Mapping[str, InputFamily]
    preset_table: str
    predictor: Callable[[Any, Any, RunConfig], Any]
    evaluation: str = ""

    @property
    def presets(self) -> FamilyPresets:
        """The sizes of each family, by their names."""
        return load(f"regard.setup.presets.{self.preset_table}")

    @property
    @abstractmethod
    def defaults(self) -> RunConfig:
        """Default settings, with the family that suits the task."""

    def for_config(self, config: RunConfig) -> Task:  # noqa: ARG002 - for tasks of several kinds
        """Return the task of the kind that settings choose; most tasks have one kind."""
        return self

    def for_data(self, config: RunConfig, source: DataSource) -> Task:  # noqa: ARG002 - as above
        """Return the task of the kind that settings choose, or else the data."""
        return self.for_config(config)

    def start_encoder(
        self,
        model: EncoderConfig,
        head: LabelHead | None,  # noqa: ARG002 - read by tasks whose head has a pooler
    ) -> EncoderConfig:
        """Return a trained encoder as this task uses it.

        Args:
            model: The trained model.
            head: Where its published format has the pooler of a classifier.
        """
        return model.for_single_texts()

    def claims(self, shape: DataShape) -> bool:  # noqa: ARG002 - translation claims nothing
        """Whether data of a shape is for this task, where the user names no task."""
        return False

    def claims_published(self, published: Published) -> bool:  # noqa: ARG002 - see `claims`
        """Whether a published model is for this task."""
        return False

    def has_format_of(self, published: Published) -> bool:
        """Whether a published model has a format of one of the families."""
        return any(published.model_type in family.format_names for family in self.families.values())

    def published_config(self, published: Published) -> RunConfig:
        """Return the settings of a published model, as if a run had trained it for this task.

        Args:
            published: The content of its folder.

        Raises:
            ConfigError: A setting of its folder is damaged, or is not implemented.
        """
        from regard.setup.published_config import text_config

        return text_config(published, self.name)

    def fit_vocabulary(self, tokenizer: AnyTokenizer, dataset: Any) -> AnyTokenizer:
        """Return the vocabulary of published weights for data: of a model of many, its languages.

        Args:
            tokenizer: The vocabulary.
            dataset: The data, as `read` returns it.

        Raises:
            ConfigError: The model is one of many languages, and the task says none.
        """
        del dataset  # read by the task that has languages
        if tokenizer.languages is not None and tokenizer.languages.target is None:
            raise ConfigError(
                f"the weights are of a translator of many languages, from which a model for "
                f"{self.name} cannot start: its data has no language.  Take other weights."
            )
        return tokenizer

    @abstractmethod
    def read(self, options: ReadOptions) -> Any:
        """Return the `Dataset`: the data read, cleaned and split.

        Raises:
            DataError: The data cannot be used.
        """

    @abstractmethod
    def set_up(self, parts: RunParts[Any, Any, Any], report: Report) -> TrainingSetup:
        """Return the data encoded and arranged in batches, with model, loss and evaluation.

        Args:
            parts: Settings, data, vocabulary and model of the run.
            report: Called with events.
        """

    def evaluate(
        self, predictor: Any, data: DataSource, options: EvaluationOptions, other: Any = None
    ) -> EvaluationReport:
        """Return the scores of a model on new data, next to floors and another model.

        Args:
            predictor: The model, as `open` returned it.
            data: The data, opened.
            options: How it is evaluated.
            other: Another model to compare with, for the same task.

        Raises:
            ConfigError: Models for this task have no scores on a file.
            DataError: The data cannot be read, or overlaps with the training data.
        """
        if not self.evaluation:
            start = (("start_from", options.model), ("output", "FOLDER"))
            raise ConfigError(
                f"{options.model}: a model for {self.name} has no scores on a file.",
                NextStep("One that starts from it has", "train", (self.example_data,), start),
            )
        return load(self.evaluation)(predictor, data, options, other)

    def open(self, folder: str | Path, config: RunConfig | None = None) -> Any:
        """Return the predictor of a model folder in regard's format.

        Args:
            folder: The folder.
            config: Its settings, where they have been read.

        Raises:
            WeightsError: It is missing, incomplete, damaged, or for another task.
        """
        model_folder = ModelFolder(folder)
        config = model_folder.read_config(RunConfig) if config is None else config
        data = with_present_paths(config.data, model_folder)
        config = msgspec.structs.replace(config, data=data)
        if config.task != self.name:
            raise WeightsError(
                f"{folder}: made for {config.task}, not for {self.name}.",
                NextStep("See", "info", (str(folder),)),
            )
        # The checksum of the weights is computed on another core while the model is built.
        with ThreadPoolExecutor(1) as executor:
            weights = executor.submit(model_folder.read_weights, takes_int8=True)
            tokenizer = None if self.reads_inputs else model_folder.read_tokenizer()
            vocab_size = 0 if tokenizer is None else len(tokenizer)
            name = str(model_folder.weights_path)
            shapes = model_folder.weight_shapes()
            model = self.build_for(config, vocab_size, shapes, name, draws=False)
            load_weights(model, weights.result(), name=name)
        predictor = self.predictor(model.eval(), tokenizer, config)
        predictor.folder = model_folder.path
        if model_folder.has_int8_weights:
            self._use_int8(predictor, str(folder))
        return predictor

    def _use_int8(self, predictor: Any, folder: str) -> None:
        """Let a model write with the int8 weights of its folder.

        Raises:
            WeightsError: It does not write, or not by the compiled decoder.
        """
        reason = (
            why_through_operators(predictor.model)
            if self.writes_targets
            else f"a model for {self.name} does not write with them"
        )
        if reason is not None:
            raise WeightsError(
                f"{folder}: holds int8 weights, which need the compiled decoder: {reason}.  Take "
                "the folder that it was made from."
            )
        predictor.precision = "int8"

    def build_for(
        self,
        config: RunConfig,
        vocab_size: int,
        shapes: Mapping[str, Sequence[int]],
        name: str,
        *,
        draws: bool = True,
    ) -> Model:
        """Build the model of a configuration for weights whose shapes are known.

        The configuration may be anybody's: no memory is allocated for more than the weights have.

        Args:
            config: The settings.
            vocab_size: Number of token ids.
            shapes: Shapes of the weights, by name; none where they are not known.
            name: File of the weights, for messages.
            draws: Whether initial weights are drawn; not needed where all of them are read.

        Returns:
            The model, with random weights, or with memory for them that is not filled.

        Raises:
            WeightsError: The settings have more layers, or larger ones, than the weights.
        """
        if not shapes:
            return self.build(config, vocab_size)
        require_tensors_for_layers(config.model, len(shapes), name)
        num_weights = sum(map(math.prod, shapes.values()))
        try:
            build = partial(self.build, config, vocab_size)
            return build_bounded(build, num_weights, draws=draws)
        except TooLargeError as error:
            raise WeightsError(
                f"{name}: {num_weights:,} numbers are too few for the sizes that the "
                f"configuration says ({self.summarize(config)}; {vocab_size:,} tokens)."
            ) from error

    @property
    def writes_targets(self) -> bool:
        """Whether models write a target for a source: they are encoder-decoders."""
        return self.families is ENCODER_DECODERS

    @property
    def reads_inputs(self) -> bool:
        """Whether models read images, recordings or series instead of text."""
        return any(isinstance(family, InputFamily) for family in self.families.values())

    def summarize(self, config: RunConfig) -> str:
        """Describe the model of a configuration in a line, such as ``gpt tiny   4 layers, ...``."""
        family = self.require_family(config.model)
        sizes = family.summary(config.model, config.attention)
        preset = "" if config.preset == "auto" else f" {config.preset}"
        return f"{config.model.family}{preset}   {sizes}"

    def build(self, config: RunConfig, vocab_size: int) -> Model:
        """Return the model of a configuration, with random weights.

        Args:
            config: The settings of the run.
            vocab_size: Number of token ids; 0 where no text is read. The embedding may have more
                rows (``tokenizer.table_rows``).

        Raises:
            ConfigError: The family is not for the task.
            WeightsError: The embedding has fewer rows than there are tokens.
        """
        family = self.require_family(config.model)
        if isinstance(family, InputFamily):
            return family.model(config.model, config.attention)
        return family.model(config.model, embedding_rows(config, vocab_size), config.attention)

    def require_family(self, model: ModelConfig) -> Family | InputFamily:
        """Return the family of a model in the role that the task gives it.

        Raises:
            ConfigError: The family is not for the task.
        """
        name = model.family
        if name not in self.families:
            raise ConfigError(
                f"model.family={name}: does not {self.purpose}.  "
                f"Take one of {', '.join(self.families)}."
            )
        return self.families[name]


def embedding_rows(config: RunConfig, vocab_size: int) -> int:
    """Return the rows of an embedding of tokens: those of the weights, or one a token.

    Raises:
        WeightsError: The weights have fewer rows than there are tokens.
    """
    rows = config.tokenizer.table_rows
    if rows is not None and rows < vocab_size:
        raise WeightsError(
            f"{config.start_from or 'tokenizer.table_rows'}: the weights have {rows:,} rows of "
            f"tokens, the vocabulary has {vocab_size:,} tokens, so some have no row.  "
            "Take the vocabulary that the weights were trained with."
        )
    return vocab_size if rows is None else rows
