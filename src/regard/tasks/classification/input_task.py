"""Classification of images, recordings and series: inputs with labels -> batches -> a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_inputs import (
    InputBatches,
    LabeledInputs,
    check_known_inputs,
    describe_locations,
    feature_statistics,
    label_names,
)
from regard.data.labeled_splits import inputs_in_training, split_inputs
from regard.errors import DataError
from regard.hub.model_folder import ModelFolder
from regard.models import Vit, VitConfig
from regard.setup.base_task import Task, Text
from regard.setup.build import build_model, report_model, settle_precision
from regard.setup.config import RunConfig
from regard.tasks.classification.input_predictor import (
    CLASSIFIED_TOKENS,
    InputClassifier,
    collator_of,
    kind_of,
    label_numbers,
)
from regard.tasks.classification.modalities import InputKind, is_fixed
from regard.tasks.classification.setup import PreparedLabels, without_repeated
from regard.training.events import Data, Report, Warned
from regard.training.training_config import TrainingConfig

_SMALLEST_SIDE = 8  # of images that rows of whole numbers are taken for, in pixels
_SIZE_OF_TOKEN = 32  # pixels or numbers that weigh as much as a character when sizes are chosen


class InputData(msgspec.Struct, kw_only=True):
    """The data of a run.

    Args:
        path: File or folder as named.
        unit: What is counted.
        config: Of the run, with the sizes of the data.
        train: Inputs to learn from.
        valid: Inputs that choose the best weights.
        test: Inputs held out for the final figures; may be empty.
        dropped: Inputs left out, with the reason.
        labels: Names of the labels.
    """

    path: str
    unit: str
    config: RunConfig
    train: LabeledInputs
    valid: LabeledInputs
    test: LabeledInputs
    dropped: list[DroppedRow]
    labels: tuple[str, ...]

    @property
    def num_chars(self) -> int:
        """What sizes are chosen by, in characters of text that would weigh as much."""
        return sum(value.size for value in self.train.values) // _SIZE_OF_TOKEN

    def place(self, rows: Sequence[int]) -> str:
        """Tell where training inputs stand in the data."""
        return describe_locations(self.train, rows)

    def label_counts(self) -> dict[str, int]:
        """Count the inputs of each label, in all parts."""
        counts = Counter(label for part in self._parts() for label in part.labels)
        return {label: counts[label] for label in self.labels}

    def sizes(self) -> str:
        """Tell sizes or lengths of the inputs in a line."""
        values = [value for part in self._parts() for value in part.values]
        return kind_of(self.config).facts(values, self.config)

    def facts(self) -> dict[str, Any]:
        """Return the two above by name."""
        return {"labels": self.label_counts(), "sizes": self.sizes()}

    def _parts(self) -> tuple[LabeledInputs, LabeledInputs, LabeledInputs]:
        return self.train, self.valid, self.test


class InputClassification(Task):
    """Inputs of one kind, each with one of several labels.

    Args:
        kind: Images, recordings or series.
    """

    def __init__(self, kind: InputKind) -> None:
        self.kind = kind

    @property
    def defaults(self) -> RunConfig:
        """A Vision Transformer."""
        model, data = self.kind.defaults()
        return RunConfig(
            task=self.kind.task,
            model=model,
            data=data,
            training=TrainingConfig(label_smoothing=0.0),
        )

    def read(self, config: RunConfig) -> InputData:
        """Read the inputs of a configuration, and hold out what it does not name."""
        data = config.data
        if data.path is None:
            raise DataError("no data.  Name a file or a folder: regard train FOLDER -o MODEL")
        config = self.kind.suit(config, data.path)
        parts = self.kind.read(config, data.path)
        labels = label_names(parts["train"])
        held_out = {
            name: self._read_held_out(path, config, parts["train"], labels)
            for name, path in (("valid", data.valid), ("test", data.test))
            if path
        }
        held_out = {name: part for name, part in parts.items() if name != "train"} | held_out
        for part in held_out.values():
            check_known_inputs(part, labels)
        train, valid, test, dropped = split_inputs(
            parts["train"],
            seed=config.training.seed,
            valid_rows=0 if "valid" in held_out else None,
            test_rows=0 if "test" in held_out else None,
        )
        config = self._with_length(config, train)
        return InputData(
            path=data.path,
            unit=self.kind.unit,
            config=config,
            train=train,
            valid=held_out.get("valid", valid),
            test=held_out.get("test", test),
            dropped=dropped,
            labels=labels,
        )

    def read_test(self, path: str, config: RunConfig) -> LabeledInputs:
        """Read inputs to test a trained model on: the test part of a folder that has one."""
        parts = self.kind.read(config, path)
        return parts.get("test", parts["train"])

    def describe(self, text: InputData) -> Data:
        """Tell what the data is."""
        return Data(
            path=text.path,
            unit=text.unit,
            languages=f"{len(text.labels)} labels",
            languages_are_guessed=False,
            num_train=len(text.train),
            num_valid=len(text.valid),
            num_test=len(text.test),
            dropped=count_reasons(text.dropped),
        )

    def note(self, config: RunConfig, text: Text) -> RunConfig:
        """Note labels, sizes, and what brings the inputs to mean 0 and variance 1."""
        assert isinstance(text, InputData)
        replace, sized = msgspec.structs.replace, text.config
        data = replace(config.data, labels=text.labels)
        is_standardized = self.kind.task == "audio-classification" and sized.audio.is_standardized
        if config.start_from is None and not is_standardized:
            mean, std = feature_statistics(text.train)
            data = replace(data, mean=mean, std=std)
        model = replace(sized.model, num_labels=len(text.labels))
        return replace(sized, data=data, model=model)

    def prepare(
        self,
        config: RunConfig,
        text: InputData,
        report: Report,
        *,
        stored: ModelFolder | None = None,  # noqa: ARG002 - there is no vocabulary
    ) -> PreparedInputs:
        """Build the model, and batches of the inputs."""
        report(self.describe(text))
        config = settle_precision(config)
        model = build_model(config, 0)
        assert isinstance(model, Vit)
        layout = collator_of(config, model)
        num_cut = sum(len(value) > layout.longest for value in text.train.values)
        if num_cut and not layout.num_patches:
            report(
                Warned(
                    text=f"{num_cut:,} {text.unit} are cut to their first {layout.longest:,} rows "
                    "(data.max_length)."
                )
            )
        if self.kind.task == "series-classification" and (side := _side_of_images(text.train)):
            report(
                Warned(
                    text=f"Rows of {side * side:,} whole numbers: images of {side} x {side} pixels?"
                    "  Read them so: --set task=image-classification"
                )
            )
        assert config.training.batch_tokens is not None
        batches = InputBatches(
            text.train.values,
            label_numbers(text.train, text.labels),
            layout,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
        )
        report_model(config, model, report)
        return PreparedInputs(
            config=config, text=text, tokenizer=None, batches=batches, model=model
        )

    def open(self, folder: str | Path) -> InputClassifier:
        """Open a model folder for classifying."""
        return InputClassifier.open(folder)

    def _with_length(self, config: RunConfig, train: LabeledInputs) -> RunConfig:
        """Make room for the longest series, up to the most rows that are read."""
        if is_fixed(config) or train.values[0].ndim == 3:
            return config
        assert isinstance(config.model, VitConfig)
        longest = min(config.data.max_length, max(map(len, train.values)))
        model = msgspec.structs.replace(config.model, max_positions=longest)
        return msgspec.structs.replace(config, model=model)

    def _read_held_out(
        self, path: str, config: RunConfig, train: LabeledInputs, labels: tuple[str, ...]
    ) -> LabeledInputs:
        inputs = self.read_test(path, config)
        check_known_inputs(inputs, labels)
        repeated = [] if config.data.allow_overlap else inputs_in_training(train, inputs)
        return without_repeated(
            inputs,
            repeated,
            path=path,
            train_path=train.path,
            drop=config.data.drop_overlap,
        )


class PreparedInputs(PreparedLabels):
    """A run over images, recordings or series."""

    text: InputData
    model: Vit

    def kind(self) -> str:
        """Tell what the model is."""
        return f"A classifier of {self.text.unit} into {len(self.text.labels)} labels"

    def example(self) -> str:
        """Name a file of a folder, or else the data itself."""
        path = Path(self.text.path) / self.text.valid.locations[0]
        return str(path if path.is_file() else self.text.path)

    def held_out(self, inputs: LabeledInputs) -> InputBatches:
        """Lay held-out inputs out in batches."""
        return InputBatches(
            inputs.values,
            label_numbers(inputs, self.text.labels),
            collator_of(self.config, self.model),
            batch_tokens=CLASSIFIED_TOKENS,
        )


def _side_of_images(train: LabeledInputs) -> int:
    """Tell the side of square images that series may be in truth; 0 where they are none."""
    sizes = {value.size for value in train.values}
    side = math.isqrt(max(sizes))
    is_square = len(sizes) == 1 and side >= _SMALLEST_SIDE and side * side in sizes
    looks = (((value >= 0) & (value % 1 == 0)).all() for value in train.values)
    return side if is_square and all(looks) else 0
