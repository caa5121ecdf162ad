"""The settings of a run that would have made a published model: to use it, or to start from it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig, Stopping
from regard.hub.export.hugging_face import BRIGHTEST
from regard.hub.file_names import GENERATION_CONFIG, HF_CONFIG, PREPROCESSOR_CONFIG
from regard.hub.hugging_face.checkpoint import Published
from regard.hub.hugging_face.generation_rules import (
    OWN_FIELD,
    GenerationRules,
    forbidden_ids,
    read_generation_rules,
)
from regard.hub.hugging_face.weight_files import read_json
from regard.layers.attention_config import AttentionConfig
from regard.models import ModelConfig, TransformerConfig, VitConfig
from regard.models.base.encoder import EncoderConfig
from regard.setup.config import DataConfig, RunConfig

_MIDDLE = [0.5, 0.5, 0.5]  # of the brightest


def published_config(
    published: Published,
    attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - immutable
) -> RunConfig:
    """Return the settings of a published model of texts or images.

    Args:
        published: What the folder holds.
        attention: The pattern of each layer of a model of texts.

    Raises:
        ConfigError: The folder asks for what no search here does.
    """
    model, task = published.config, _task_of(published)
    if isinstance(model, VitConfig):
        return RunConfig(task=task, model=model, data=_image_data(published.folder, model))
    data, search = DataConfig(labels=published.labels), BeamSearchConfig()
    if task == "translation":
        room = model.max_positions
        # The end of a text is not counted; nor is its begin, for which a table needs room.
        num_ends = 2 if model.positions == "learned" else 1
        data = msgspec.structs.replace(data, max_length=max(2, room - num_ends))
        rules = read_generation_rules(published.folder)
        search = _search(rules, forbidden_ids(published.folder), room)
        search = _with_own_settings(search, rules, published.folder)
    elif task == "classification":
        data = msgspec.structs.replace(data, max_length=max(2, model.max_positions))
    return RunConfig(
        task=task,
        model=model,
        attention=attention,
        tokenizer=TokenizerConfig(kind="published", table_rows=published.vocab_size),
        data=data,
        search=search,
    )


def _image_data(folder: Path, model: VitConfig) -> DataConfig:
    """Read labels from ``config.json``, and how pixels are prepared.

    Without ``preprocessor_config.json`` pixels are scaled to -1 to 1, the default of ViT.
    """
    names = read_json(folder / HF_CONFIG).get("id2label") or {}
    labels = tuple(str(names.get(str(n), f"LABEL_{n}")) for n in range(model.num_labels))
    path = folder / PREPROCESSOR_CONFIG
    fields = read_json(path) if path.is_file() else {}
    mean, std = (fields.get(name) or _MIDDLE for name in ("image_mean", "image_std"))
    if not fields.get("do_normalize", True):
        mean, std = [0.0] * model.channels, [1.0] * model.channels
    return DataConfig(
        labels=labels,
        mean=tuple(BRIGHTEST * float(value) for value in mean[: model.channels]),
        std=tuple(BRIGHTEST * float(value) for value in std[: model.channels]),
    )


def _search(rules: GenerationRules, forbidden: tuple[int, ...], room: int) -> BeamSearchConfig:
    """Return the search of `transformers` by a folder's rules; what they leave open is the default.

    Args:
        rules: Of the folder.
        forbidden: Tokens that are never generated.
        room: Most tokens of an output that the model has positions for.
    """
    stopping: dict[bool | str, Stopping] = {False: "likely", True: "first", "never": "certain"}
    default = BeamSearchConfig()
    return BeamSearchConfig(
        beam=rules.beam or default.beam,
        length_penalty=rules.length_penalty,
        ranking="transformers",
        stopping=stopping[rules.early_stopping],
        max_length_ratio=default.max_length_ratio if rules.max_length is None else None,
        max_length=min(room, rules.max_length or room),
        min_length=rules.min_length,
        no_repeat_size=rules.no_repeat_size,
        repetition_penalty=rules.repetition_penalty,
        forbidden=forbidden,
        forced_first=rules.first_id,
        forces_end=rules.has_end,
        is_renormalized=rules.is_renormalized,
    )


def _with_own_settings(
    search: BeamSearchConfig, rules: GenerationRules, folder: Path
) -> BeamSearchConfig:
    """Return the search of the model that regard wrote the folder from."""
    try:
        return msgspec.convert(
            {**msgspec.structs.asdict(search), **rules.own_settings}, BeamSearchConfig
        )
    except (msgspec.ValidationError, TypeError) as error:
        path = folder / GENERATION_CONFIG
        raise ConfigError(f"{path}: {OWN_FIELD}: {error}.  Take {OWN_FIELD} out.") from error


def _task_of(published: Published) -> str:
    config: ModelConfig = published.config
    if isinstance(config, VitConfig):
        return "image-classification"
    if isinstance(config, EncoderConfig):
        return "classification" if published.labels else "masked-language-modeling"
    return "translation" if isinstance(config, TransformerConfig) else "language-modeling"
