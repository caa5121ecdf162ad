"""Under which settings a model in Hugging Face's layout is used, and gone on from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.generation.search_config import SearchConfig, Stopping
from regard.hub.hugging_face.checkpoint import Published
from regard.hub.hugging_face.generation_rules import (
    OWN_FIELD,
    GenerationRules,
    forbidden_ids,
    read_generation_rules,
)
from regard.layers.attention_config import AttentionConfig
from regard.models import ModelConfig, TransformerConfig
from regard.models.base.encoder import EncoderConfig
from regard.setup.config import DataConfig, RunConfig


def published_config(
    published: Published,
    attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - immutable
) -> RunConfig:
    """Make the settings of a published model: as of a run that nobody has made.

    Args:
        published: What the folder holds.
        attention: The pattern of each layer.

    Raises:
        ConfigError: The folder asks for what no search here does.
    """
    model, task = published.config, _task_of(published)
    data, search = DataConfig(labels=published.labels), SearchConfig()
    if task == "translation":
        room = model.max_positions
        # The end of a text is not counted; nor is its begin, for which a table needs room.
        num_ends = 2 if model.positions == "learned" else 1
        data = msgspec.structs.replace(data, max_length=max(2, room - num_ends))
        rules = read_generation_rules(published.folder)
        search = _search(rules, forbidden_ids(published.folder), room)
        search = _with_ours(search, rules, published.folder)
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


def _search(rules: GenerationRules, forbidden: tuple[int, ...], room: int) -> SearchConfig:
    """Search as `transformers` does by a folder's rules; what it leaves open is as ever here.

    Args:
        rules: Of the folder.
        forbidden: Tokens that are never written.
        room: Most tokens of an output that the model has positions for.
    """
    stopping: dict[bool | str, Stopping] = {False: "likely", True: "first", "never": "certain"}
    usual = SearchConfig()
    return SearchConfig(
        beam=rules.beam or usual.beam,
        length_penalty=rules.length_penalty,
        ranking="transformers",
        stopping=stopping[rules.early_stopping],
        max_length_ratio=usual.max_length_ratio if rules.max_length is None else None,
        max_length=min(room, rules.max_length or room),
        min_length=rules.min_length,
        no_repeat_size=rules.no_repeat_size,
        repetition_penalty=rules.repetition_penalty,
        forbidden=forbidden,
        forced_first=rules.first_id,
        forces_end=rules.has_end,
        is_renormalized=rules.is_renormalized,
    )


def _with_ours(search: SearchConfig, rules: GenerationRules, folder: Path) -> SearchConfig:
    """Search as before where regard wrote the folder."""
    try:
        return msgspec.convert(
            {**msgspec.structs.asdict(search), **rules.own_settings}, SearchConfig
        )
    except (msgspec.ValidationError, TypeError) as error:
        place = folder / "generation_config.json"
        raise ConfigError(f"{place}: {OWN_FIELD}: {error}.  Take {OWN_FIELD} out.") from error


def _task_of(published: Published) -> str:
    config: ModelConfig = published.config
    if isinstance(config, EncoderConfig):
        return "classification" if published.labels else "masked-language-modeling"
    return "translation" if isinstance(config, TransformerConfig) else "language-modeling"
