"""Images, recordings and series with labels: read, split, and described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.labeled_inputs import LabeledInputs, feature_statistics, label_names
from regard.data.labeled_text import join_labels
from regard.data.labels import describe_spellings, distinct_labels
from regard.data.listing import list_first, pluralize
from regard.data.readers.idx import find_idx
from regard.data.readers.images import describe_frames
from regard.data.readers.labeled_folders import describe_unread, part_folders
from regard.data.readers.media_tables import count_rows, has_media, media_columns
from regard.data.readers.read_as import ReadAs
from regard.data.readers.series import inspect_number_table
from regard.data.readers.source import DataSource
from regard.data.readers.table_inspection import inspect_records
from regard.data.splits import overlap, split
from regard.errors import DataError
from regard.setup.config import HELD_OUT, DataConfig
from regard.setup.dataset import ReadOptions, TrainingRow
from regard.setup.facts import DataDetails, DataFacts
from regard.tasks.classification.data import ClassificationData, exclude_repeated, with_spelling
from regard.tasks.classification.modalities.base import InputFormat, Modality

_PART_NAMES = {"valid": "validation", "test": "test"}
_NAMED_INPUTS = 3  # of a batch in a message
_NUMBERS_PER_CHARACTER = 32  # pixels or numbers that count as one character of text
_ROWS_OF_NUMBERS = "rows of numbers with a label"


class InputClassificationData(ClassificationData[LabeledInputs], kw_only=True):
    """Images, recordings or series with labels.

    Args:
        modality: What the inputs are.
        input_format: How they were read.
    """

    modality: Modality
    input_format: InputFormat

    @property
    def unit(self) -> str:
        """What is counted."""
        return self.modality.unit

    @property
    def title(self) -> str:
        """What a model of this data is, in words."""
        return f"A classifier of {self.unit} into {len(self.labels)} labels"

    def warnings(self) -> list[str]:
        """Name rare labels, what is not read, and files of which only the first frame is read."""
        return [*super().warnings(), *describe_frames(self.several_frames())]

    def several_frames(self) -> dict[str, int]:
        """Return the number of frames of each file that has several, by its location."""
        parts = (self.train, self.valid, self.test)
        frames = [item for part in parts for item in part.several_frames().items()]
        return dict(sorted(frames))

    def facts(self) -> DataFacts:
        """Return labels, amount and sizes of the inputs, and the statistics of their features."""
        num_numbers = sum(map(np.size, self.train.values))
        reads_frames, audio = self.modality.reads_frames, self.input_format.audio
        model: dict[str, Any] = {"num_labels": len(self.labels)}
        mean, std = (), ()
        if not self.input_format.has_sizes:
            model |= self.input_format.sizes
            if self.input_format.model.input == "features":
                longest = max(map(len, self.train.values))
                model["max_positions"] = min(self.input_format.data.max_length, longest)
            if not (reads_frames and audio.is_standardized):
                mean, std = feature_statistics(self.train)
        return DataFacts(
            num_chars=num_numbers // _NUMBERS_PER_CHARACTER,
            num_tokens=num_numbers // self.input_format.numbers_per_token,
            labels=self.labels,
            mean=mean,
            std=std,
            model=model,
            audio=audio if reads_frames else None,
        )

    def texts(self) -> list[str]:
        """Return no texts: the model has no vocabulary."""
        return []

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training inputs are in the data."""
        return list_first([self.train.locations[row] for row in rows], _NAMED_INPUTS)

    def training_row(self, row: int) -> TrainingRow:
        """Return the place of a training input, which is what can be said of it, and its label."""
        location = self.train.locations[row]
        return TrainingRow(location, location, self.train.labels[row])

    def example(self) -> str:
        """Return the path of a validation file, or of the data where inputs are rows."""
        path = Path(self.valid.path) / self.valid.locations[0]
        return str(path if path.is_file() else self.path)

    def details(self) -> DataDetails:
        """Return the inputs of each label, and their sizes or lengths, in all parts."""
        parts = (self.train, self.valid, self.test)
        counts = Counter(label for part in parts for label in part.labels)
        counts = {label: counts[label] for label in self.labels}
        sizes = self.modality.describe(
            [value for part in parts for value in part.values], self.input_format
        )
        labels = ", ".join(f"{label} {count:,}" for label, count in counts.items())
        return DataDetails(
            fields={"labels": counts, "sizes": sizes, "frames": self.several_frames()},
            lines=[("Labels", labels), ("Sizes", sizes)],
        )


def read_input_classification_data(
    options: ReadOptions, modality: Modality
) -> InputClassificationData:
    """Return the inputs with labels of a run, read and split; named data stays whole.

    Raises:
        DataError: No inputs are in the data, or they cannot be used.
    """
    source = options.training_source("recordings")
    input_format = (
        InputFormat.from_options(options) if options.has_sizes else modality.fit(options, source)
    )
    parts = modality.read(input_format, source)
    labeled = parts.pop("train")
    notes = describe_spellings(labeled.labels)
    names = options.data.labels or distinct_labels(labeled.labels)
    labeled = with_spelling(labeled, names)
    labels = label_names(labeled)
    notes += _describe_unread(source, modality, len(labeled))
    folders = part_folders(source, modality.suffixes) if _has_label_folders(source) else {}
    for name in HELD_OUT:
        if name in parts and options.data.held_out_fraction(name) is not None:
            setting = f"data.{name}={getattr(options.data, name)}"
            raise DataError(
                f"{source.path}: has {_PART_NAMES[name]} data of its own, {len(parts[name]):,} "
                f"{modality.unit}.  Leave `{setting}` out, or name data without this part."
            )
        held_out = parts.get(name) if name in folders.values() else None
        if (file := options.source(name)) is not None:
            held_out = modality.read_test(input_format, file)
        if held_out is not None:
            repeated = [] if options.data.allow_overlap else list(overlap(labeled, held_out))
            parts[name] = exclude_repeated(
                held_out, repeated, labeled.path, drop=options.data.drop_overlap
            )
    parts = {name: with_spelling(part, labels) for name, part in parts.items()}
    labels = join_labels(labels, parts.values(), "the training data")
    splits = split(
        labeled,
        seed=options.seed,
        valid_rows=0 if "valid" in parts else options.rows_to_hold_out("valid", len(labeled)),
        test_rows=0 if "test" in parts else options.rows_to_hold_out("test", len(labeled)),
    )
    return InputClassificationData(
        path=source.path,
        train=splits.train,
        valid=parts.get("valid", splits.valid),
        test=parts.get("test", splits.test),
        dropped=splits.dropped,
        labels=labels,
        modality=modality,
        input_format=input_format,
        read_as=_describe_reading(source, options.data, modality, sorted(folders)),
        notes=tuple(notes),
    )


def _has_label_folders(source: DataSource) -> bool:
    """Return whether a source is a folder with a folder of files for each label."""
    return source.is_folder and not find_idx(source.path)


def _describe_unread(source: DataSource, modality: Modality, num_labeled: int) -> list[str]:
    """Return what is not read: files of a folder of labels, rows of a table without a label."""
    if _has_label_folders(source):
        return describe_unread(source, modality.suffixes, modality.unit)
    num_left_out = count_rows(source) - num_labeled if has_media(source) else 0
    if not num_left_out:
        return []
    thing = modality.unit.removesuffix("s")
    return [f"{pluralize(num_left_out, 'row has', 'rows have')} no label, or no {thing}: left out."]


def _describe_reading(
    source: DataSource, data: DataConfig, modality: Modality, folders: Sequence[str]
) -> ReadAs:
    """Return what a folder, with folders of parts, or a file of rows of numbers, was read as."""
    if source.is_folder:
        if find_idx(source.path):
            return ReadAs.of("images, in files of MNIST's format")
        within = f" in {', '.join(folders)}" if folders else ""
        return ReadAs.of(f"{modality.contents}{within}")
    if has_media(source):
        assert source.table is not None
        columns = media_columns(source, data.columns)
        contents = f"{modality.unit} with a label each"
        read = [columns.media, columns.label]
        return ReadAs.of(contents, read, columns.unused, source.table.notes)
    names = data.columns[-1:] or ("label",)
    read_as = inspect_records(source, names, _ROWS_OF_NUMBERS, encoding=data.encoding)
    table = inspect_number_table(source, label=names[0], encoding=data.encoding)
    left_out = [name for name in table.left_out if name.strip() not in read_as.columns]
    notes = [] if source.table is None else list(source.table.notes)
    notes += ["decimal commas"] * table.has_decimal_commas
    return ReadAs.of(_ROWS_OF_NUMBERS, read_as.columns, left_out, notes)
