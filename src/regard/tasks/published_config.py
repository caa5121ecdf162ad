"""Under which settings a model in Hugging Face's layout is used, and gone on from."""

from __future__ import annotations

import msgspec

from regard.data.tokenizer import TokenizerConfig
from regard.generation.search import SearchConfig
from regard.interchange.hugging_face import Published, forbidden_ids, output_rules
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
        # The end of a text is not counted; nor is its begin, for which a table needs room.
        num_ends = 2 if model.positions == "learned" else 1
        data = msgspec.structs.replace(data, max_length=max(2, room - num_ends))
        rules = output_rules(published.folder)
        search = SearchConfig(
            max_length=min(room, rules.max_length or room),
            forbidden=forbidden_ids(published.folder),
            forced_first=rules.first_id,
            forces_end=rules.has_end,
            min_length=rules.min_length,
            no_repeat_size=rules.no_repeat_size,
        )
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


def _task_of(published: Published) -> TaskName:
    config: ModelConfig = published.config
    if isinstance(config, EncoderConfig):
        return "classification" if published.labels else "masked-language-modeling"
    return "translation" if isinstance(config, TransformerConfig) else "language-modeling"
