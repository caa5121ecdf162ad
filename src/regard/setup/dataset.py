"""The data of a run: how it is read, and the rows that result, split into three parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.readers.audio import LogMelConfig
from regard.data.readers.read_as import ReadAs
from regard.data.readers.source import DataSource
from regard.data.rows import Rows
from regard.data.split_rules import SPLIT_RULE
from regard.data.splits import rows_to_hold_out
from regard.errors import DataError, NextStep
from regard.settings.binding import convert_fields
from regard.setup.config import HELD_OUT, DataConfig, ForecastConfig, RunConfig
from regard.setup.facts import DataDetails, DataFacts, LongSources
from regard.setup.inspect import open_part
from regard.training.events import DataSummary

if TYPE_CHECKING:
    from regard.setup.request import Request

R = TypeVar("R", bound=Rows)
"""Rows of data of one kind."""


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the data of a run is read.

    Args:
        data: The settings of the data.
        sources: Open files and folders by the name of their setting: ``path``, ``targets``,
            ``valid``, ``test``; others are opened when they are first read.
        seed: Seed of the split into training, validation and test data.
        has_sizes: Whether `model` and `audio` are complete, as those of trained weights are; else
            the data decides what is not set.
        model: Dimensions of the model that are set, by name.
        audio: Settings of the frames of recordings that are set, by name.
        forecast: The settings of a forecast.
    """

    data: DataConfig
    sources: dict[str, DataSource] = {}
    seed: int
    has_sizes: bool = False
    model: dict[str, Any] = {}
    audio: dict[str, Any] = {}
    forecast: ForecastConfig = ForecastConfig()

    def source(self, name: str) -> DataSource | None:
        """Return the open file or folder of a setting; None where it is not set."""
        path = getattr(self.data, name)
        is_fraction = name in HELD_OUT and self.data.held_out_fraction(name) is not None
        if path is not None and not is_fraction and name not in self.sources:
            self.sources[name] = open_part(path, name)
        return self.sources.get(name)

    def rows_to_hold_out(self, name: str, num_rows: int) -> int:
        """Return how many of some rows are held out as ``valid`` or ``test``.

        It is 0 where the part has data of its own.
        """
        fraction = self.data.held_out_fraction(name)
        if fraction is not None:
            return max(1, round(fraction * num_rows))
        if getattr(self.data, name) is not None or name in self.sources:
            return 0
        return rows_to_hold_out(num_rows, rule=self.data.split_rule)

    def training_source(self, example: str) -> DataSource:
        """Return the training data; `example` is a file name for the error.

        Raises:
            DataError: The settings name no data.
        """
        source = self.source("path")
        if source is None:
            step = NextStep("Name the data", "train", (example,), (("output", "FOLDER"),))
            raise DataError("no data.", step)
        return source

    @classmethod
    def from_config(
        cls, config: RunConfig, sources: Mapping[str, DataSource] | None = None
    ) -> ReadOptions:
        """Return the options of a run whose settings are decided."""
        return cls(
            data=config.data,
            sources=dict(sources or {}),
            seed=config.training.seed,
            has_sizes=True,
            model=msgspec.structs.asdict(config.model),
            audio=msgspec.structs.asdict(config.audio),
            forecast=config.forecast,
        )

    @classmethod
    def from_request(
        cls,
        request: Request,
        draft: RunConfig,
        sources: Mapping[str, DataSource],
        *,
        has_sizes: bool,
    ) -> ReadOptions:
        """Return the options of a run whose sizes the data still has to decide.

        Args:
            request: What the user set.
            draft: The request over its defaults, without the dimensions of the model.
            sources: Open files and folders by the name of their setting.
            has_sizes: Whether the dimensions of the draft are those of trained weights.
        """
        data = msgspec.structs.replace(draft.data, split_rule=SPLIT_RULE)
        options = cls.from_config(msgspec.structs.replace(draft, data=data), sources)
        if has_sizes:
            return options
        return msgspec.structs.replace(
            options,
            has_sizes=False,
            model=request.model_values(draft.model),
            audio=convert_fields(LogMelConfig, request.table.get("audio", {}), "audio"),
        )


class TrainingRow(NamedTuple):
    """A training row as people read it.

    Args:
        location: Where it is in the data, such as ``line 12``.
        text: What the model reads: a text, a question with its text, the name of an image.
        target: What it should say: a translation, a label, an answer; empty for running text.
    """

    location: str
    text: str
    target: str = ""


class Dataset(msgspec.Struct, Generic[R], kw_only=True):
    """The data of a run, read and split; each task has a subclass.

    Args:
        path: File or folder as named by the user.
        train: Training data.
        valid: Validation data, which chooses the best weights.
        test: Test data for the final figures; may be empty.
        dropped: Rows that were left out, with the reason.
        languages_are_guessed: Whether the languages of the text were detected, not set.
        read_as: What the file was read as.
    """

    path: str
    train: R
    valid: R
    test: R
    dropped: list[DroppedRow]
    languages_are_guessed: bool = False
    read_as: ReadAs = ReadAs()

    @property
    def unit(self) -> str:
        """What is counted, such as ``pairs``."""
        raise NotImplementedError

    @property
    def contents(self) -> str:
        """Languages or labels, in words; empty where there are none."""
        return ""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of units for training, validation and test."""
        return len(self.train), len(self.valid), len(self.test)

    def warnings(self) -> list[str]:
        """Return what looks wrong about the data; settings are written in backticks."""
        return []

    def facts(self) -> DataFacts:
        """Return the facts that settings depend on."""
        raise NotImplementedError

    def texts(self) -> Sequence[str]:
        """Return the training texts for the vocabulary; empty for data without texts."""
        raise NotImplementedError

    def long_sources(self) -> LongSources | None:
        """Return the training sources where they may be long, as documents are; else None."""
        return None

    @property
    def vocab_size(self) -> int | None:
        """Size of a vocabulary that suits the texts; None leaves it to their amount."""
        return None

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where rows of a training batch are in the data, such as ``lines 12-15``."""
        raise NotImplementedError

    @property
    def row_unit(self) -> str:
        """What a training row is, such as ``pairs``."""
        return self.unit

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the training rows that rows of batches belong to, ``[rows]``: mostly themselves.

        A long text may be several rows of batches.
        """
        return rows

    def training_row(self, row: int) -> TrainingRow:
        """Return a training row for people, by its index in batches."""
        raise NotImplementedError

    def reported_rows(self) -> list[DroppedRow]:
        """Return the rows for the report in the model folder: those that were left out."""
        return self.dropped

    def details(self) -> DataDetails:
        """Return what a report on the data says beyond its summary."""
        return DataDetails()

    def summary(self) -> DataSummary:
        """Describe the data in an event."""
        num_train, num_valid, num_test = self.sizes
        return DataSummary(
            path=self.path,
            unit=self.unit,
            contents=self.contents,
            languages_are_guessed=self.languages_are_guessed,
            num_train=num_train,
            num_valid=num_valid,
            num_test=num_test,
            dropped=count_reasons(self.dropped),
            read_as=self.read_as.text,
            columns=list(self.read_as.columns),
            unused_columns=list(self.read_as.unused),
            warnings=self.warnings(),
        )

    @property
    def rows_sha256(self) -> str:
        """Hash of the rows of the three parts: another one where data is read in another way."""
        return "-".join(part.sha256 for part in (self.train, self.valid, self.test))

    def describe_sizes(self) -> str:
        """Return the sizes of the three parts in words."""
        num_train, num_valid, num_test = self.sizes
        return f"{num_train:,} train / {num_valid:,} validation / {num_test:,} test"
