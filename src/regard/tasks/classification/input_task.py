"""Classification of images, recordings and series: inputs with labels -> batches -> a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from regard.data.labeled_inputs import InputBatches, LabeledInputs
from regard.data.readers.shape import DataShape
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import INPUT_ENCODERS, Model, Vit
from regard.setup.base_task import ReadOptions, Task
from regard.setup.config import RunConfig
from regard.setup.presets import INPUT_PRESETS
from regard.tasks.classification.input_data import InputData, read_inputs
from regard.tasks.classification.input_predictor import (
    CLASSIFIED_TOKENS,
    InputClassifier,
    collator_of,
    label_numbers,
)
from regard.tasks.classification.modalities import Modality
from regard.tasks.classification.setup import LabelSetup
from regard.training.events import Report, Warned
from regard.training.training_config import TrainingConfig

_SMALLEST_SIDE = 8  # of images that rows of whole numbers are taken for, in pixels


class InputClassificationTask(Task):
    """Inputs of one kind, each with one of several labels.

    Args:
        modality: Images, recordings or series.
    """

    families = INPUT_ENCODERS
    presets = INPUT_PRESETS

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.name, self.purpose = modality.task, f"classify {modality.unit}"

    @property
    def defaults(self) -> RunConfig:
        """A Vision Transformer."""
        model, data = self.modality.defaults()
        return RunConfig(
            task=self.name, model=model, data=data, training=TrainingConfig(label_smoothing=0.0)
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds inputs of this kind."""
        return self.modality.claims(shape)

    def read(self, options: ReadOptions) -> InputData:
        """Read the inputs, and hold out what the options do not name."""
        return read_inputs(options, self.modality)

    def set_up(
        self,
        config: RunConfig,
        dataset: InputData,
        tokenizer: AnyTokenizer | None,  # noqa: ARG002 - there is none
        model: Model,
        report: Report,
    ) -> InputClassificationSetup:
        """Lay the inputs out in batches."""
        assert isinstance(model, Vit)
        layout = collator_of(config, model)
        num_cut = sum(len(value) > layout.longest for value in dataset.train.values)
        if num_cut and not layout.num_patches:
            report(
                Warned(
                    text=f"{num_cut:,} {dataset.unit} are cut to their first {layout.longest:,} "
                    "rows (data.max_length)."
                )
            )
        if not self.modality.reads_files and (side := _side_of_images(dataset.train)):
            report(
                Warned(
                    text=f"Rows of {side * side:,} whole numbers: images of {side} x {side} pixels?"
                    "  Read them so: `task=image-classification`"
                )
            )
        assert config.training.batch_tokens is not None
        batches = InputBatches(
            dataset.train.values,
            label_numbers(dataset.train, dataset.labels),
            layout,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
        )
        return InputClassificationSetup(
            config=config, dataset=dataset, tokenizer=None, batches=batches, model=model
        )

    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> InputClassifier:  # noqa: ARG002
        """Return what classifies inputs with a trained model."""
        return InputClassifier(model, config)


class InputClassificationSetup(LabelSetup):
    """A run over images, recordings or series."""

    dataset: InputData
    model: Vit

    def kind(self) -> str:
        """Tell what the model is."""
        return f"A classifier of {self.dataset.unit} into {len(self.dataset.labels)} labels"

    def example(self) -> str:
        """Name a file of a folder, or else the data itself."""
        path = Path(self.dataset.path) / self.dataset.valid.locations[0]
        return str(path if path.is_file() else self.dataset.path)

    def held_out(self, inputs: LabeledInputs) -> InputBatches:
        """Lay held-out inputs out in batches."""
        return InputBatches(
            inputs.values,
            label_numbers(inputs, self.dataset.labels),
            collator_of(self.config, self.model),
            batch_tokens=CLASSIFIED_TOKENS,
        )


def _side_of_images(train: LabeledInputs) -> int:
    """Return the side of square images that series may really be; 0 where they are none."""
    sizes = {value.size for value in train.values}
    side = math.isqrt(max(sizes))
    is_square = len(sizes) == 1 and side >= _SMALLEST_SIDE and side * side in sizes
    looks = (((value >= 0) & (value % 1 == 0)).all() for value in train.values)
    return side if is_square and all(looks) else 0
