"""Weights that a run starts from, with their settings and vocabulary.

They come from a model folder in regard's format or in Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import Published, read_hugging_face
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.hugging_face.task_prefixes import read_prefixes, read_question_words
from regard.hub.model_folder import ModelFolder
from regard.models import (
    CHECKPOINT_FORMATS,
    ENCODER_DECODERS,
    ENCODERS,
    FORECASTERS,
    INPUT_ENCODERS,
    EncoderDecoderConfig,
    Model,
    ModelConfig,
)
from regard.models.base.checkpoint_format import LabelHead
from regard.models.base.encoder import EncoderConfig
from regard.setup.config import FineTuningConfig, QuestionAnsweringConfig, RunConfig
from regard.setup.facts import Pretrained
from regard.setup.fine_tuning import load_pretrained
from regard.setup.pretrained_encoder_decoder import (
    TwoVocabularies,
    load_parts,
    part_folders,
    parts_config,
)

if TYPE_CHECKING:
    from regard.setup.base_task import Task
    from regard.setup.request import Request


def read_pretrained(
    request: Request,
    task: Task,
    task_of: Callable[[RunConfig], Task],
    task_of_published: Callable[[Published], Task],
) -> Pretrained | None:
    """Return the settings of the weights that a request starts from; None for random weights.

    Args:
        request: What the user set.
        task: The task of the data.
        task_of: Returns the task of settings, of those of the weights.
        task_of_published: Returns the task of a published model.

    Raises:
        ConfigError: The model of a folder is not for the task.
        WeightsError: A folder holds no model, or one that is for use alone.
    """
    folders = part_folders(request.table)
    if request.start_from is None:
        return Pretrained(config=parts_config(folders, task), parts=folders) if folders else None
    folder = request.start_from
    prefixes: dict[str, str] = {}
    if is_hugging_face(Path(folder)):
        config = _hugging_face_config(folder, task, task_of_published)
        if task.writes_targets:
            prefixes = read_prefixes(Path(folder))
    else:
        config = _own_config(folder, task, task_of)
    return Pretrained(config=replace(config, start_from=folder), prefixes=prefixes)


def stored_vocabulary(pretrained: Pretrained) -> ModelFolder:
    """Return the folder with the vocabulary of trained weights."""
    model, parts = pretrained.config.model, pretrained.parts
    if parts and isinstance(model, EncoderDecoderConfig) and model.source_rows is not None:
        return TwoVocabularies(parts)
    folder = next(iter(parts.values()), pretrained.config.start_from)
    assert folder is not None
    return ModelFolder(folder)


def load_initial_weights(model: Model, config: RunConfig, pretrained: Pretrained) -> str:
    """Copy the weights that a run starts from into its model.

    Returns:
        Which rows of an output layer are kept, in a sentence; empty where there is nothing to say.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    if pretrained.parts:
        load_parts(model, pretrained.parts)
        return ""
    return load_pretrained(model, config)


def _hugging_face_config(
    folder: str, task: Task, task_of_published: Callable[[Published], Task]
) -> RunConfig:
    """Return the defaults of the task with the settings of a folder in Hugging Face's format."""
    defaults = task.defaults
    checkpoint = read_hugging_face(Path(folder))
    source_task = task_of_published(checkpoint)
    config = source_task.published_config(checkpoint)
    if task.name != config.task and not _share_models(source_task, task):
        raise ConfigError(
            f"{folder}: a model for {config.task} (model_type {checkpoint.model_type}); "
            f"the data is for {task.name}."
            f"{_proposed_kind(source_task, task)}"
        )
    _require_same_kind(folder, source_task, task)
    model = config.model
    if task.reads_inputs:
        return replace(
            defaults,
            model=model,
            tokenizer=replace(defaults.tokenizer, kind="published"),
            data=replace(defaults.data, mean=config.data.mean, std=config.data.std),
        )
    head = CHECKPOINT_FORMATS[checkpoint.model_type].label_head
    max_length = min(defaults.data.max_length, config.data.max_length)
    is_limited = task.has_long_sources and config.data.max_source_length is None
    return replace(
        defaults,
        model=_model_for(task, model, head),
        tokenizer=config.tokenizer,
        search=config.search,
        sampling=config.sampling,
        data=replace(
            defaults.data,
            max_length=max_length,
            max_source_length=config.data.max_length if is_limited else None,
        ),
        qa=_with_question_words(folder, config.qa if config.task == task.name else defaults.qa),
        fine_tuning=config.fine_tuning,
    )


def _with_question_words(folder: str, qa: QuestionAnsweringConfig) -> QuestionAnsweringConfig:
    """Return how questions are answered, with the words that a folder has before their texts."""
    if qa.kind != "generative":
        return qa
    return replace(qa, context_prefix=read_question_words(Path(folder)).context)


def _own_config(folder: str, task: Task, task_of: Callable[[RunConfig], Task]) -> RunConfig:
    """Return the defaults of the task with the settings of a folder in regard's format."""
    source = ModelFolder(folder).read_config(RunConfig)
    ModelFolder(folder).require_trainable()
    source_task = task_of(source)
    reads_inputs = source.model.family in INPUT_ENCODERS | FORECASTERS
    is_other_kind = reads_inputs or _roles_differ(source_task, task)
    if source.task != task.name and is_other_kind:
        raise ConfigError(
            f"{folder}: made for {source.task}; the data is for {task.name}."
            f"{_proposed_kind(source_task, task)}"
        )
    _require_same_kind(folder, source_task, task)
    return replace(
        task.defaults,
        preset=source.preset,
        model=_model_for(task, source.model),
        attention=source.attention,
        tokenizer=source.tokenizer,
        search=source.search,
        sampling=source.sampling,
        qa=source.qa if source.task == task.name else task.defaults.qa,
        audio=source.audio,
        forecast=source.forecast,
        fine_tuning=FineTuningConfig(model_type=source.fine_tuning.model_type),
        data=replace(
            task.defaults.data,
            max_length=source.data.max_length,
            max_source_length=source.data.max_source_length if task.writes_targets else None,
            source_prefix=source.data.source_prefix if source.task == task.name else "",
            mean=source.data.mean,
            std=source.data.std,
        ),
    )


def _share_models(source: Task, task: Task) -> bool:
    """Return whether a task can start from the models of another."""
    return source.families is task.families and task.families in (ENCODERS, ENCODER_DECODERS)


def _roles_differ(source: Task, task: Task) -> bool:
    """Return whether one of two tasks has encoders, and the other writes targets."""
    roles = (source.families, task.families)
    return ENCODERS in roles and ENCODER_DECODERS in roles


def _model_for(task: Task, model: ModelConfig, head: LabelHead | None = None) -> ModelConfig:
    """Return a model as a task uses it, of which encoders read questions or single texts.

    Args:
        task: The task of the data.
        model: The trained model.
        head: Where its published format has the pooler of a classifier.
    """
    return task.start_encoder(model, head) if isinstance(model, EncoderConfig) else model


def _require_same_kind(folder: str, source: Task, task: Task) -> None:
    """Raise ConfigError where the models of a folder and of a run answer in different ways."""
    if source.name == task.name and source is not task:
        kind = source.defaults.qa.kind
        raise ConfigError(
            f"{folder}: a model of qa.kind={kind}; this run is of "
            f"qa.kind={task.defaults.qa.kind}.  Train a model of that kind: `qa.kind={kind}`"
        )


def _proposed_kind(source: Task, task: Task) -> str:
    """Return the kind of question answering that can start from a model, as advice.

    Args:
        source: The task of the model.
        task: That of the run; neither can start from the other's models.
    """
    answers = [one for one in (source, task) if "qa" in one.sections]
    if len(answers) != 1 or not _roles_differ(source, task):
        return ""
    if answers[0].families is ENCODERS:
        return "  A model that writes answers can start from it: `qa.kind=generative`"
    return "  A model that finds answers can start from it: `qa.kind=extractive`"
