"""The tasks by name, and which one a file is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import DataSource, as_source
from regard.errors import DataError
from regard.hub.hugging_face.checkpoint import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.runs.published_models import open_published
from regard.setup.base_task import Task
from regard.setup.config import RunConfig, TaskName
from regard.setup.published_images import reads_images
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.input_task import InputClassification
from regard.tasks.classification.modalities import KINDS
from regard.tasks.classification.task import TextClassification
from regard.tasks.language_modeling.task import LanguageModeling
from regard.tasks.masked_language_modeling.task import MaskedLanguageModeling
from regard.tasks.translation.task import Translation

TASKS: dict[TaskName, Task] = {
    "translation": Translation(),
    "language-modeling": LanguageModeling(),
    "masked-language-modeling": MaskedLanguageModeling(),
    "classification": TextClassification(),
    **{kind.task: InputClassification(kind) for kind in KINDS},
}


def guess_task(
    data: DataSource | str | Path, *, has_targets: bool = False, encoding: str = "utf-8"
) -> TaskName:
    """Tell which task a file is for, by its first line, or a folder, by the files in it.

    Args:
        data: The file or folder; one that cannot be read is left to the task to complain about.
        has_targets: Whether a second file holds translations.
        encoding: Of the file.

    Raises:
        DataError: It is a folder of none of the known layouts, or one image or recording.
    """
    if has_targets:
        return "translation"
    try:
        source = as_source(data)
    except DataError:
        return "translation"
    shape = inspect_shape(source, encoding)
    if shape.kind == "recordings":
        return "audio-classification"
    if shape.kind in ("images", "idx"):
        return "image-classification"
    if {"text", "label"} <= set(shape.names):
        return "classification"
    if shape.kind == "records" and "text" in shape.names:
        return "language-modeling"
    if shape.has_numbers_beside_label:
        return "series-classification"
    if shape.kind == "text":
        return "language-modeling"
    return "series-classification" if shape.has_row_of_numbers else "translation"


def open_model(folder: str | Path) -> Any:
    """Open a model folder by the task it was trained for, or one in Hugging Face's layout."""
    if is_hugging_face(Path(folder)) and reads_images(folder):
        return InputClassifier.open_published(folder)
    if is_hugging_face(Path(folder)):
        return open_published(folder)
    config = ModelFolder(folder).read_config(RunConfig)
    return TASKS[config.task].open(folder)
