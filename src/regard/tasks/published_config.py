"""Under which settings a model in Hugging Face's layout is used, and gone on from."""

from __future__ import annotations

import msgspec

from regard.data.tokenizer import TokenizerConfig
from regard.generation.search import SearchConfig
from regard.interchange.hugging_face import Published, forbidden_ids
from regard.layers.patterns import AttentionConfig
from regard.models import ModelConfig, TransformerConfig
from regard.models.encoder import EncoderConfig
from regard.tasks.run_config import DataConfig, RunConfig, TaskName


def published_config(
    published: Published,
    attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - immutable
) -> RunConfig:
    """Make the settings of a published model: as of a run that nobody has made.

    Args:
        published: What the folder holds.
        attention: The pattern of each layer.

    Raises:
        ConfigError: The folder forbids what a search here cannot.
    """
    model, task = published.config, _task_of(published)
    data, search = DataConfig(labels=published.labels), SearchConfig()
    if task == "translation":
        room = model.max_positions
        data = msgspec.structs.replace(data, max_length=max(2, room - 1))  # and the end
        search = SearchConfig(max_length=room, forbidden=forbidden_ids(published.folder))
    elif task == "classification":
        data = msgspec.structs.replace(data, max_length=max(2, model.max_positions))
    return RunConfig(
        task=task,
        model=model,
        attention=attention,
        tokenizer=TokenizerConfig(kind="published"),
        data=data,
        search=search,
    )


def _task_of(published: Published) -> TaskName:
    config: ModelConfig = published.config
    if isinstance(config, EncoderConfig):
        return "classification" if published.labels else "masked-language-modeling"
    return "translation" if isinstance(config, TransformerConfig) else "language-modeling"
