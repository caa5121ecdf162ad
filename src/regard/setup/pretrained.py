"""Going on from trained weights: all of them, the last layers, or low-rank changes.

The weights come from a model folder of regard's own or from one in Hugging Face's layout; family,
sizes and vocabulary come with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.checkpoint import Published, is_hugging_face, read_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import (
    CHECKPOINT_FORMATS,
    INPUT_CHECKPOINT_FORMATS,
    INPUT_ENCODERS,
    Classifier,
    Model,
    Vit,
    family_of,
)
from regard.models.base.classifier_checkpoints import with_label_head
from regard.setup.config import RunConfig, TaskName
from regard.setup.published_config import published_config
from regard.setup.published_images import (
    images_config,
    read_published_images,
    reads_images,
)
from regard.setup.resolve import WITHOUT_RATE, recipes_of

_RATE = 1e-4  # of AdamW over weights that others have trained (Devlin et al. 2019: 2e-5 to 5e-5)
_LOW_RANK_RATE = 1e-3  # changes that begin at zero take larger steps (Hu et al. 2021, table 12)
_SHARE = 0.3  # of the preset's rate, over weights of one's own
_POOLER = "pooler."
_OF_ENCODERS = {"masked-language-modeling", "classification"}
_TO_LABELS = ("output_weight", "output_bias")  # of a classifier


def starting_config(folder: str, task: TaskName, defaults: RunConfig) -> RunConfig:
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
    if is_hugging_face(Path(folder)) and reads_images(folder):
        found = images_config(read_published_images(folder))
        if task != found.task:
            raise ConfigError(f"{folder}: made for {found.task}; the data is for {task}.")
        data = replace(defaults.data, mean=found.data.mean, std=found.data.std)
        tokenizer = replace(defaults.tokenizer, kind="published")
        return replace(
            defaults, start_from=folder, model=found.model, tokenizer=tokenizer, data=data
        )
    if is_hugging_face(Path(folder)):
        published = read_hugging_face(Path(folder), CHECKPOINT_FORMATS)
        found = published_config(published)
        if task != found.task and not {task, found.task} <= _OF_ENCODERS:
            raise ConfigError(
                f"{folder}: a model for {found.task} (model_type {published.model_type}); "
                f"the data is for {task}."
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


def suit_start(config: RunConfig) -> RunConfig:
    """Fill in batch size and rate of a run that goes on from trained weights."""
    recipes = recipes_of(config)
    recipe = recipes[config.preset if config.preset in recipes else "small"]
    replace = msgspec.structs.replace
    training, optimizer = config.training, config.optimizer
    is_published = config.tokenizer.kind == "published"
    chosen = {setting.partition("=")[0] for setting in config.settings}
    if "optimizer.name" not in chosen and (is_published or config.fine_tuning.method == "lora"):
        optimizer = replace(optimizer, name="adamw")
    if optimizer.learning_rate is None and optimizer.name not in WITHOUT_RATE:
        rate = _RATE if optimizer.name == "adamw" else _SHARE * recipe.learning_rate
        rate = _LOW_RANK_RATE if config.fine_tuning.method == "lora" else rate
        optimizer = replace(optimizer, learning_rate=rate)
    batch_tokens = training.batch_tokens or recipe.batch_tokens
    return replace(
        config, training=replace(training, batch_tokens=batch_tokens), optimizer=optimizer
    )


def load_start(model: Model, config: RunConfig) -> None:
    """Put the weights that a run starts from into its model.

    A classifier takes the map to the labels along where they are the same, in whatever order; else
    that map begins at zero, and the pooler at random where the weights have none.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    assert config.start_from is not None
    folder = Path(config.start_from)
    if is_hugging_face(folder):
        published = read_hugging_face(folder, CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS)
        tensors, labels = published.tensors(), published.labels
    else:
        place = ModelFolder(folder)
        tensors, labels = place.read_weights(), place.read_config(RunConfig).data.labels
    if isinstance(model, Classifier):
        _fill_classifier(model, tensors, folder, labels, config.data.labels)
    elif isinstance(model, Vit) and labels != config.data.labels:
        fill_weights(model, tensors, folder, but=("head.",))
    else:
        fill_weights(model, tensors, folder)


def _fill_classifier(
    model: Classifier,
    tensors: dict[str, Tensor],
    folder: Path,
    labels: tuple[str, ...],
    wanted: tuple[str, ...],
) -> None:
    """Fill a classifier from one of other or the same labels, or from an encoder alone."""
    names = {name for name, _ in model.named_parameters() if ADAPTED not in name}
    if sorted(labels) == sorted(wanted) and tensors.keys() == names:
        order = [labels.index(label) for label in wanted]
        tensors = tensors | {name: tensors[name][order] for name in _TO_LABELS}
        fill_weights(model, tensors, folder)
        return
    if "output_bias" in tensors:
        own = "encoder."
        tensors = {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
    has_pooler = any(name.startswith(_POOLER) for name in tensors)
    fill_weights(model.encoder, tensors, folder, but=() if has_pooler else (_POOLER,))


def fill_weights(
    model: nn.Module, tensors: dict[str, Tensor], folder: Path, *, but: tuple[str, ...] = ()
) -> None:
    """Put weights into a model, or a part of one.

    Args:
        model: Whose parameters are filled; low-rank changes stay as they are.
        tensors: By the names of its parameters; surplus ones are passed over.
        folder: Where they come from, for messages.
        but: Beginnings of names of parameters that stay as they are.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    for name, parameter in model.named_parameters():
        if ADAPTED in name or name.startswith(but):
            continue
        found = tensors.get(name)
        if found is None or found.shape != parameter.shape:
            seen = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise WeightsError(
                f"{folder}: tensor {name} {seen}, the model of this run wants "
                f"{list(parameter.shape)}.  Sizes come with the weights: leave model.* out."
            )
        parameter.data.copy_(found)


def restrict(model: Model, config: RunConfig) -> None:
    """Choose what of a model is trained, by ``fine_tuning.method``."""
    method, tuning = config.fine_tuning.method, config.fine_tuning
    if method == "all":
        return
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if method == "lora":
        add_low_rank(model, rank=tuning.rank, alpha=tuning.alpha)
        chosen: Iterable[nn.Parameter] = (
            p for name, p in model.named_parameters() if ADAPTED in name
        )
    else:
        chosen = [p for layer in model.layers()[-tuning.layers :] for p in layer.parameters()]
    for parameter in chosen:
        parameter.requires_grad_(True)
    if isinstance(model, Vit) and model.head is not None:
        model.head.requires_grad_(True)
    if isinstance(model, Classifier):
        model.output_weight.requires_grad_(True)
        model.output_bias.requires_grad_(True)
        if model.encoder.pooler is not None:
            model.encoder.pooler.requires_grad_(True)


def kept_weights(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """Return the weights that a model folder keeps: low-rank changes are merged."""
    tuning = config.fine_tuning
    if tuning.method != "lora":
        return tensors
    return merge_low_rank(tensors, alpha=tuning.alpha)
