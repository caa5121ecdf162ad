"""Images, recordings and series with labels, as a run reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_inputs import (
    LabeledInputs,
    feature_statistics,
    label_names,
)
from regard.data.labeled_text import check_known_labels
from regard.data.listing import list_first
from regard.data.readers.source import DataSource, as_source
from regard.data.splits import overlap, split
from regard.errors import DataError, NextStep
from regard.setup.base_task import ReadOptions
from regard.setup.config import DataConfig
from regard.setup.facts import DataFacts
from regard.tasks.classification.modalities import InputFormat, Modality
from regard.tasks.classification.setup import without_repeated
from regard.training.events import DataSummary

_NAMED_INPUTS = 3  # of a batch in a message
_NUMBERS_OF_CHARACTER = 32  # pixels or numbers that weigh as much when sizes are chosen


class InputData(msgspec.Struct, kw_only=True):
    """The data of a run.

    Args:
        path: File or folder as named.
        modality: Images, recordings or series.
        inputs: How they were read.
        train: Inputs to learn from.
        valid: Inputs that choose the best weights.
        test: Inputs held out for the final figures; may be empty.
        dropped: Inputs left out, with the reason.
        labels: Names of the labels.
    """

    path: str
    modality: Modality
    inputs: InputFormat
    train: LabeledInputs
    valid: LabeledInputs
    test: LabeledInputs
    dropped: list[DroppedRow]
    labels: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What is counted."""
        return self.modality.unit

    def facts(self) -> DataFacts:
        """Return size, labels, sizes of inputs, and what brings them to mean 0 and variance 1."""
        num_numbers = sum(value.size for value in self.train.values)
        model: dict[str, Any] = {"num_labels": len(self.labels)}
        mean, std = (), ()
        if not self.inputs.has_sizes:
            model |= self.inputs.sizes
            if self.inputs.model.input == "features":
                longest = max(map(len, self.train.values))
                model["max_positions"] = min(self.inputs.data.max_length, longest)
            if not (self.modality.reads_frames and self.inputs.audio.is_standardized):
                mean, std = feature_statistics(self.train)
        return DataFacts(
            num_chars=num_numbers // _NUMBERS_OF_CHARACTER,
            num_tokens=num_numbers // self.inputs.numbers_of_token,
            labels=self.labels,
            mean=mean,
            std=std,
            model=model,
            audio=self.inputs.audio if self.modality.reads_frames else None,
        )

    def summary(self) -> DataSummary:
        """Describe the inputs in an event."""
        return DataSummary(
            path=self.path,
            unit=self.unit,
            languages=f"{len(self.labels)} labels",
            languages_are_guessed=False,
            num_train=len(self.train),
            num_valid=len(self.valid),
            num_test=len(self.test),
            dropped=count_reasons(self.dropped),
        )

    def texts(self) -> list[str]:
        """Return nothing: there is no vocabulary."""
        return []

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training inputs are in the data."""
        return list_first([self.train.locations[row] for row in rows], _NAMED_INPUTS)

    def label_counts(self) -> dict[str, int]:
        """Count the inputs of each label, in all parts."""
        counts = Counter(label for part in self._parts() for label in part.labels)
        return {label: counts[label] for label in self.labels}

    def sizes(self) -> str:
        """Describe sizes or lengths of the inputs in a line."""
        values = [value for part in self._parts() for value in part.values]
        return self.modality.describe(values, self.inputs)

    def _parts(self) -> tuple[LabeledInputs, LabeledInputs, LabeledInputs]:
        return self.train, self.valid, self.test


def read_inputs(options: ReadOptions, modality: Modality) -> InputData:
    """Read inputs with labels, and hold out what the options do not name.

    Raises:
        DataError: There are none, or they cannot be used.
    """
    data = options.data
    if data.path is None:
        raise DataError(
            "no data.",
            NextStep("Name a file or a folder", "train", ("FOLDER",), (("output", "MODEL"),)),
        )
    source = options.source("path")
    assert source is not None
    inputs = modality.fit(options, source)
    parts = modality.read(inputs, source)
    labels = label_names(parts["train"])
    held_out = {
        name: _read_held_out(held_out_source, modality, inputs, parts["train"], labels)
        for name in ("valid", "test")
        if (held_out_source := options.source(name)) is not None
    }
    held_out = {name: part for name, part in parts.items() if name != "train"} | held_out
    for part in held_out.values():
        check_known_labels(part, labels, "the training data")
    splits = split(
        parts["train"],
        seed=options.seed,
        valid_rows=0 if "valid" in held_out else None,
        test_rows=0 if "test" in held_out else None,
    )
    return InputData(
        path=source.path,
        modality=modality,
        inputs=inputs,
        train=splits.train,
        valid=held_out.get("valid", splits.valid),
        test=held_out.get("test", splits.test),
        dropped=splits.dropped,
        labels=labels,
    )


def read_test_inputs(
    source: DataSource | str, modality: Modality, inputs: InputFormat
) -> LabeledInputs:
    """Read inputs to test a trained model on: the test part of a folder that has one."""
    parts = modality.read(inputs, as_source(source))
    return parts.get("test", parts["train"])


def _read_held_out(
    source: DataSource,
    modality: Modality,
    inputs: InputFormat,
    train: LabeledInputs,
    labels: tuple[str, ...],
) -> LabeledInputs:
    data: DataConfig = inputs.data
    held_out = read_test_inputs(source, modality, inputs)
    check_known_labels(held_out, labels, "the training data")
    return without_repeated(
        held_out,
        [] if data.allow_overlap else list(overlap(train, held_out)),
        path=source.path,
        train_path=train.path,
        drop=data.drop_overlap,
    )
