"""Weights that a run starts from: the settings and the vocabulary that come with them.

They come from a model folder of regard's own or from one in Hugging Face's layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.hub.hugging_face.checkpoint import Published, is_hugging_face, read_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.models import (
    CHECKPOINT_FORMATS,
    INPUT_ENCODERS,
    EncoderDecoderConfig,
    Model,
    VitConfig,
    family_of,
)
from regard.models.base.classifier_checkpoints import with_label_head
from regard.setup.base_task import Task
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
from regard.setup.request import Request

_OF_ENCODERS = {"masked-language-modeling", "classification"}


def read_pretrained(request: Request, task: Task) -> Pretrained | None:
    """Read the settings that come with the weights that a request starts from.

    Args:
        request: What the user set.
        task: What the data is for.

    Returns:
        None where all weights are random.

    Raises:
        ConfigError: A folder's model is not for the task.
        WeightsError: A folder holds no model.
    """
    if request.start_from is not None:
        config = pretrained_config(request.start_from, task.name, task.defaults)
        part_folders(request.table)
        return Pretrained(config=config)
    folders = part_folders(request.table)
    if not folders:
        return None
    return Pretrained(config=parts_config(folders, task.name, task.defaults), parts=folders)


def stored_vocabulary(pretrained: Pretrained) -> ModelFolder:
    """Return the folder whose vocabulary comes with trained weights."""
    model, parts = pretrained.config.model, pretrained.parts
    if parts and isinstance(model, EncoderDecoderConfig) and model.source_rows is not None:
        return TwoVocabularies(parts)
    folder = next(iter(parts.values()), pretrained.config.start_from)
    assert folder is not None
    return ModelFolder(folder)


def load_weights_of_start(model: Model, config: RunConfig, pretrained: Pretrained) -> None:
    """Put the weights that a run starts from into its model.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    if pretrained.parts:
        load_parts(model, pretrained.parts)
    else:
        load_pretrained(model, config)


def pretrained_config(folder: str, task: str, defaults: RunConfig) -> RunConfig:
    """Make the settings of a run that goes on from a folder.

    Args:
        folder: Model folder, of either kind.
        task: What the data is for.
        defaults: Of the task.

    Raises:
        ConfigError: The folder's model is not for the task.
        WeightsError: It is no model folder.
    """
    replace = msgspec.structs.replace
    if is_hugging_face(Path(folder)):
        published = read_hugging_face(Path(folder))
        found = published_config(published)
        if task != found.task and not {task, found.task} <= _OF_ENCODERS:
            raise ConfigError(
                f"{folder}: a model for {found.task} (model_type {published.model_type}); "
                f"the data is for {task}."
            )
        if isinstance(found.model, VitConfig):
            return replace(
                defaults,
                start_from=folder,
                model=found.model,
                tokenizer=replace(defaults.tokenizer, kind="published"),
                data=replace(defaults.data, mean=found.data.mean, std=found.data.std),
            )
        room = min(defaults.data.max_length, found.data.max_length)
        return replace(
            defaults,
            start_from=folder,
            model=_for_labels(published) if task == "classification" else found.model,
            tokenizer=found.tokenizer,
            search=found.search,
            data=replace(defaults.data, max_length=room),
        )
    source = ModelFolder(folder).read_config(RunConfig)
    reads_inputs = family_of(source.model) in INPUT_ENCODERS
    is_other = reads_inputs or {source.task, task} == {"translation", "classification"}
    if source.task != task and is_other:
        raise ConfigError(f"{folder}: made for {source.task}; the data is for {task}.")
    return replace(
        defaults,
        start_from=folder,
        preset=source.preset,
        model=source.model,
        attention=source.attention,
        tokenizer=source.tokenizer,
        search=source.search,
        audio=source.audio,
        data=replace(
            defaults.data,
            max_length=source.data.max_length,
            mean=source.data.mean,
            std=source.data.std,
        ),
    )


def _for_labels(published: Published) -> Any:
    """Give an encoder what a published classifier of its checkpoint format has after it."""
    head = CHECKPOINT_FORMATS[published.model_type].label_head
    config = published.config
    if head is None or getattr(config, "has_pooler", True):
        return config
    return with_label_head(config, head)
