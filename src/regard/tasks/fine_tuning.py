"""Going on from trained weights: all of them, the last layers, or low-rank changes.

The weights come from a model folder of regard's own or from one in Hugging Face's layout; family,
sizes and vocabulary come with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from torch import Tensor, nn

from regard.errors import ConfigError, WeightsError
from regard.interchange.folder import ModelFolder
from regard.interchange.hugging_face import is_hugging_face, read_hugging_face
from regard.layers.block import Block, DecoderBlock
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import LAYOUTS, Classifier, family_of
from regard.models.text_model import TextModel
from regard.tasks.presets import RECIPES, WITHOUT_RATE
from regard.tasks.run_config import RunConfig, TaskName

_RATE = 1e-4  # of AdamW over weights that others have trained (Devlin et al. 2019: 2e-5 to 5e-5)
_LOW_RANK_RATE = 1e-3  # changes that begin at zero take larger steps (Hu et al. 2021, table 12)
_SHARE = 0.3  # of the preset's rate, over weights of one's own


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
    if is_hugging_face(Path(folder)):
        config = read_hugging_face(Path(folder), LAYOUTS).config
        tokenizer = replace(defaults.tokenizer, kind="published")
        return replace(defaults, start_from=folder, model=config, tokenizer=tokenizer)
    source = ModelFolder(folder).read_config(RunConfig)
    if source.task != task and {source.task, task} == {"translation", "classification"}:
        raise ConfigError(f"{folder}: a {source.task} model; the data is for {task}.")
    return replace(
        defaults,
        start_from=folder,
        preset=source.preset,
        model=source.model,
        attention=source.attention,
        tokenizer=source.tokenizer,
        search=source.search,
        data=replace(defaults.data, max_length=source.data.max_length),
    )


def suit_start(config: RunConfig) -> RunConfig:
    """Fill in batch size and rate of a run that goes on from trained weights."""
    recipes = RECIPES[family_of(config.model)]
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


def load_start(model: TextModel, config: RunConfig) -> None:
    """Put the weights that a run starts from into its model; a classifier's own map stays random.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    assert config.start_from is not None
    folder = Path(config.start_from)
    if is_hugging_face(folder):
        tensors = read_hugging_face(folder, LAYOUTS).tensors()
    else:
        tensors = ModelFolder(folder).read_weights()
    if not isinstance(model, Classifier):
        _fill(model, tensors, folder)
    elif "output_bias" not in tensors:  # an encoder alone
        _fill(model.encoder, tensors, folder)
    elif _has_same_labels(config):
        _fill(model, tensors, folder)
    else:
        own = "encoder."
        inner = {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
        _fill(model.encoder, inner, folder)


def _has_same_labels(config: RunConfig) -> bool:
    assert config.start_from is not None
    return ModelFolder(config.start_from).read_config(RunConfig).data.labels == config.data.labels


def _fill(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    for name, parameter in model.named_parameters():
        if ADAPTED in name:
            continue
        found = tensors.get(name)
        if found is None or found.shape != parameter.shape:
            seen = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise WeightsError(
                f"{folder}: tensor {name} {seen}, the model of this run wants "
                f"{list(parameter.shape)}.  Sizes come with the weights: leave model.* out."
            )
        parameter.data.copy_(found)


def restrict(model: TextModel, config: RunConfig) -> None:
    """Choose what of a model is trained, by ``fine_tuning.method``.

    Raises:
        ConfigError: The model has no layers that could be chosen from.
    """
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
        blocks = [m for m in model.modules() if isinstance(m, Block | DecoderBlock)]
        if not blocks:
            raise ConfigError(
                "fine_tuning.method=last: this family has no blocks to choose from.  Take all."
            )
        chosen = [p for block in blocks[len(blocks) - tuning.layers :] for p in block.parameters()]
    for parameter in chosen:
        parameter.requires_grad_(True)
    if isinstance(model, Classifier):
        model.output_weight.requires_grad_(True)
        model.output_bias.requires_grad_(True)


def kept_weights(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """Return the weights that a model folder keeps: low-rank changes are merged."""
    tuning = config.fine_tuning
    if tuning.method != "lora":
        return tensors
    return merge_low_rank(tensors, alpha=tuning.alpha)
