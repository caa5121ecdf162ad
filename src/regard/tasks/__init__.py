"""The tasks that a model can learn, one folder each: data, loss, task, predictor, evaluation.

A task is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from regard.errors import ConfigError, did_you_mean
from regard.lazy import Registry

if TYPE_CHECKING:
    from regard.data.readers.shape import DataShape
    from regard.data.readers.source import DataSource
    from regard.hub.hugging_face.published_folder import Published
    from regard.setup.base_task import Task
    from regard.setup.config import RunConfig
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.classification.predictor import TextClassifier
    from regard.tasks.forecasting.predictor import Forecaster
    from regard.tasks.generative_question_answering.predictor import AnswerWriter
    from regard.tasks.language_modeling.predictor import TextGenerator
    from regard.tasks.masked_language_modeling.predictor import TextEncoder
    from regard.tasks.question_answering.predictor import QuestionAnswerer
    from regard.tasks.summarization.predictor import Summarizer
    from regard.tasks.translation.predictor import Translator

TASKS: Registry[Task] = Registry(
    {
        "translation": "regard.tasks.translation.task.TRANSLATION",
        "question-answering": "regard.tasks.question_answering.task.QUESTION_ANSWERING",
        "summarization": "regard.tasks.summarization.task.SUMMARIZATION",
        "forecasting": "regard.tasks.forecasting.task.FORECASTING",
        "classification": "regard.tasks.classification.task.CLASSIFICATION",
        "language-modeling": "regard.tasks.language_modeling.task.LANGUAGE_MODELING",
        "masked-language-modeling": (
            "regard.tasks.masked_language_modeling.task.MASKED_LANGUAGE_MODELING"
        ),
        "image-classification": "regard.tasks.classification.input_task.IMAGE_CLASSIFICATION",
        "audio-classification": "regard.tasks.classification.input_task.AUDIO_CLASSIFICATION",
        "series-classification": "regard.tasks.classification.input_task.SERIES_CLASSIFICATION",
    }
)
"""The tasks by name."""
DEFAULT_TASK = next(iter(TASKS))
"""Takes data that no other claims, and the embedded corpus."""

Predictor: TypeAlias = """(
    Translator | Summarizer | QuestionAnswerer | AnswerWriter | TextGenerator
    | TextClassifier | InputClassifier | Forecaster | TextEncoder
)"""
"""A trained model, ready for inference; all have ``.model`` and ``.config``."""


def task_named(name: str) -> Task:
    """Return a task by its name in settings.

    Raises:
        ConfigError: No task has this name.
    """
    if name not in TASKS:
        hint = did_you_mean(name, list(TASKS))
        raise ConfigError(f"task={name}: one of {', '.join(TASKS)} was expected.{hint}")
    return TASKS[name]


def task_of(config: RunConfig) -> Task:
    """Return the task of settings.

    Raises:
        ConfigError: No task has this name.
    """
    return task_named(config.task).for_config(config)


def task_of_published(published: Published) -> Task:
    """Return the task of a published model, by its format and its head.

    Raises:
        ConfigError: No task has models of the format.
    """
    for task in TASKS.values():
        if task.claims_published(published):
            return task
    raise ConfigError(
        f"{published.folder}: no task takes models of model_type {published.model_type}."
    )


def guess_task(
    data: DataSource | str | Path,
    *,
    has_targets: bool = False,
    encoding: str = "utf-8",
    columns: Sequence[str] = (),
) -> str:
    """Return the task that data is for, guessed by the first lines of a file or a folder's files.

    Args:
        data: The file or folder.
        has_targets: Whether a second file holds translations.
        encoding: Encoding of the file.
        columns: Names of the columns that are read, where they are set.

    Raises:
        DataError: The data cannot be read, or is for no task.
    """
    from regard.data.readers.shape import DataShape, inspect_shape, name_labels, select_columns
    from regard.data.readers.source import as_source

    source = as_source(data)
    shape = DataShape(kind="table") if has_targets else inspect_shape(source, encoding)
    if not source.is_folder and not has_targets and name_labels(source, columns, encoding):
        return "classification"
    return claiming_task(select_columns(shape, columns)) or DEFAULT_TASK


def claiming_task(shape: DataShape) -> str | None:
    """Return the first task that claims data of a shape; None where none does."""
    return next((name for name, task in TASKS.items() if task.claims(shape)), None)


__all__ = [
    "DEFAULT_TASK",
    "TASKS",
    "Predictor",
    "claiming_task",
    "guess_task",
    "task_named",
    "task_of",
    "task_of_published",
]
