"""Weights that a run starts from, with their settings and vocabulary.

They come from a model folder in regard's format or in Hugging Face's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.models import (
    CHECKPOINT_FORMATS,
    FORECASTERS,
    INPUT_ENCODERS,
    EncoderDecoderConfig,
    Model,
    ModelConfig,
    VitConfig,
    family_of,
)
from regard.models.base.checkpoint_format import LabelHead
from regard.models.base.classifier_checkpoints import with_label_head
from regard.models.base.encoder import EncoderConfig
from regard.models.base.span_checkpoints import with_span_head
from regard.setup.config import RunConfig
from regard.setup.facts import Pretrained
from regard.setup.fine_tuning import load_pretrained
from regard.setup.pretrained_encoder_decoder import (
    TwoVocabularies,
    load_parts,
    part_folders,
    parts_config,
)
from regard.setup.published_config import published_config

if TYPE_CHECKING:
    from regard.setup.base_task import Task
    from regard.setup.request import Request

_ENCODER_TASKS = {"masked-language-modeling", "classification", "extractive"}
_TARGET_TASKS = {"translation", "summarization", "generative"}
"""Tasks that can start from each other's models; of question answering, its two kinds."""


def read_pretrained(request: Request, task: Task) -> Pretrained | None:
    """Return the settings of the weights that a request starts from; None for random weights.

    Args:
        request: What the user set.
        task: The task of the data.

    Raises:
        ConfigError: The model of a folder is not for the task.
        WeightsError: A folder holds no model, or one that is for use alone.
    """
    folders = part_folders(request.table)
    if request.start_from is None:
        return Pretrained(config=parts_config(folders, task), parts=folders) if folders else None
    folder = request.start_from
    is_published = is_hugging_face(Path(folder))
    config = _hugging_face_config(folder, task) if is_published else _own_config(folder, task)
    return Pretrained(config=replace(config, start_from=folder))


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


def _hugging_face_config(folder: str, task: Task) -> RunConfig:
    """Return the defaults of the task with the settings of a folder in Hugging Face's format."""
    defaults = task.defaults
    checkpoint = read_hugging_face(Path(folder))
    config = published_config(checkpoint)
    kinds = {_kind(task.defaults), _kind(config)}
    if task.name != config.task and not _share_models(kinds):
        raise ConfigError(
            f"{folder}: a model for {config.task} (model_type {checkpoint.model_type}); "
            f"the data is for {task.name}."
            f"{_proposed_kind(kinds)}"
        )
    _require_same_kind(folder, config, defaults)
    model = config.model
    if isinstance(model, VitConfig):
        return replace(
            defaults,
            model=model,
            tokenizer=replace(defaults.tokenizer, kind="published"),
            data=replace(defaults.data, mean=config.data.mean, std=config.data.std),
        )
    head = CHECKPOINT_FORMATS[checkpoint.model_type].label_head
    max_length = min(defaults.data.max_length, config.data.max_length)
    return replace(
        defaults,
        model=_model_for(task, model, head),
        tokenizer=config.tokenizer,
        search=config.search,
        sampling=config.sampling,
        data=replace(
            defaults.data,
            max_length=max_length,
            max_source_length=config.data.max_length if task.has_long_sources else None,
        ),
        qa=config.qa if config.task == task.name else defaults.qa,
    )


def _own_config(folder: str, task: Task) -> RunConfig:
    """Return the defaults of the task with the settings of a folder in regard's format."""
    source = ModelFolder(folder).read_config(RunConfig)
    ModelFolder(folder).require_trainable()
    reads_inputs = family_of(source.model) in INPUT_ENCODERS | FORECASTERS
    kinds = {_kind(source), _kind(task.defaults)}
    is_other_kind = reads_inputs or (kinds & _ENCODER_TASKS and kinds & _TARGET_TASKS)
    if source.task != task.name and is_other_kind:
        raise ConfigError(
            f"{folder}: made for {source.task}; the data is for {task.name}.{_proposed_kind(kinds)}"
        )
    _require_same_kind(folder, source, task.defaults)
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
        data=replace(
            task.defaults.data,
            max_length=source.data.max_length,
            max_source_length=source.data.max_source_length if task.writes_targets else None,
            mean=source.data.mean,
            std=source.data.std,
        ),
    )


def _share_models(kinds: set[str]) -> bool:
    return kinds <= _ENCODER_TASKS or kinds <= _TARGET_TASKS


def _model_for(task: Task, model: ModelConfig, head: LabelHead | None = None) -> ModelConfig:
    """Return a model as a task uses it, of which encoders read questions or single texts.

    Args:
        task: The task of the data.
        model: The trained model.
        head: Where its published format has the pooler of a classifier.
    """
    if not isinstance(model, EncoderConfig):
        return model
    if task.name == "question-answering":
        return with_span_head(model)
    if task.name == "classification" and head is not None and not model.has_pooler:
        model = with_label_head(model, head)
    return model.for_single_texts()


def _kind(config: RunConfig) -> str:
    """Return the task of settings, or the kind of question answering."""
    return config.qa.kind if config.task == "question-answering" else config.task


def _require_same_kind(folder: str, config: RunConfig, defaults: RunConfig) -> None:
    """Raise ConfigError where the models of a folder and of a run answer in different ways."""
    if config.task == defaults.task and _kind(config) != _kind(defaults):
        kind = _kind(config)
        raise ConfigError(
            f"{folder}: a model of qa.kind={kind}; this run is of qa.kind={_kind(defaults)}.  "
            f"Train a model of that kind: `qa.kind={kind}`"
        )


def _proposed_kind(kinds: set[str]) -> str:
    """Return the kind of question answering that can start from a model, as advice.

    Args:
        kinds: The kinds of the model and of the run, two tasks that cannot start from each other.
    """
    if "extractive" in kinds and kinds & _TARGET_TASKS:
        return "  A model that writes answers can start from it: `qa.kind=generative`"
    if "generative" in kinds and kinds & _ENCODER_TASKS:
        return "  A model that finds answers can start from it: `qa.kind=extractive`"
    return ""
