"""Classification of images, recordings and series: inputs with labels -> batches -> a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.shape import DataShape
from regard.models import INPUT_ENCODERS, Vit
from regard.setup.base_task import Task
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.training_setup import RunParts
from regard.tasks.classification.classifier_setup import ClassificationSetup
from regard.tasks.classification.input_data import (
    InputClassificationData,
    read_input_classification_data,
)
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.modalities import MODALITIES
from regard.tasks.classification.modalities.base import Modality
from regard.training.events import Report, Warned
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published

_SMALLEST_IMAGE = 8  # pixels a side; smaller squares are more likely series


class InputClassificationTask(Task):
    """Classification of inputs of one kind, each with one of several labels.

    Args:
        modality: Images, recordings or series.
    """

    loss_unit = "nats per input"
    has_picture = True
    families = INPUT_ENCODERS
    preset_table = "INPUT_PRESETS"
    evaluation = "regard.tasks.classification.evaluation.evaluate_classifier"

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.sections = frozenset({"audio"} if modality.reads_frames else ())
        self.name, self.inputs = modality.task, modality.unit
        self.purpose = f"classify {modality.unit}"
        self.training_data = f"{modality.unit} with labels"
        self.example_data = "series.csv" if modality.unit == "series" else "FOLDER"
        self.verbs = (("classify", "FILE"), ("evaluate", self.example_data))

    @property
    def defaults(self) -> RunConfig:
        """A Vision Transformer."""
        return RunConfig(
            task=self.name,
            model=self.modality.model,
            data=self.modality.data,
            training=TrainingConfig(label_smoothing=0.0),
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds inputs of this kind."""
        return self.modality.claims(shape)

    def claims_published(self, published: Published) -> bool:
        """Whether it reads inputs of this kind; those that are published read images."""
        return self.has_format_of(published) and self.modality.model.input == "image"

    def published_config(self, published: Published) -> RunConfig:
        """Return its settings, with its labels and the mean of its pixels; see `Task`."""
        from regard.setup.published_config import image_config

        return image_config(published, self.name)

    def read(self, options: ReadOptions) -> InputClassificationData:
        """Read the inputs and split them."""
        return read_input_classification_data(options, self.modality)

    def set_up(
        self, parts: RunParts[InputClassificationData, None, Vit], report: Report
    ) -> ClassificationSetup:
        """Arrange the inputs in batches."""
        train = parts.dataset.train
        classifier = InputClassifier(parts.model, parts.config)
        collator = classifier.collator
        if num_cut := sum(count > 0 for count in collator.count_truncated(train.values)):
            report(
                Warned(
                    text=f"{num_cut:,} {self.modality.unit} are cut to their first "
                    f"{collator.longest:,} rows (data.max_length)."
                )
            )
        if not self.modality.reads_files and (width := _image_width(train)):
            report(
                Warned(
                    text=f"Rows of {width * width:,} whole numbers: images of {width} x {width} "
                    "pixels?  Read them so: `task=image-classification`"
                )
            )
        batches = classifier.batches(
            train, batch_tokens=parts.batch_tokens, seed=parts.config.training.seed
        )
        return ClassificationSetup(parts, batches, classifier)

    def predictor(
        self,
        model: Vit,
        tokenizer: None,  # noqa: ARG002 - for text
        config: RunConfig,
    ) -> InputClassifier:
        """Return the classifier of inputs of a trained model."""
        return InputClassifier(model, config)


def _image_width(train: LabeledInputs) -> int:
    """Return the width of the square images that series may be, in pixels; 0 if they are not."""
    sizes = {value.size for value in train.values}
    width = math.isqrt(max(sizes))
    if sizes != {width * width} or width < _SMALLEST_IMAGE:
        return 0
    are_pixels = all(((value >= 0) & (value % 1 == 0)).all() for value in train.values)
    return width if are_pixels else 0


IMAGE_CLASSIFICATION, AUDIO_CLASSIFICATION, SERIES_CLASSIFICATION = map(
    InputClassificationTask, MODALITIES
)
