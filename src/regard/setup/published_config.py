"""The settings of a published model, as if a run of regard had trained it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig, Stopping
from regard.generation.sampling import SamplingConfig
from regard.hub.export.hugging_face import BRIGHTEST
from regard.hub.file_names import (
    GENERATION_CONFIG,
    HF_CONFIG,
    PREPROCESSOR_CONFIG,
    TOKENIZER_CONFIG,
)
from regard.hub.hugging_face.generation_rules import (
    OWN_FIELD,
    forbidden_ids,
    read_generation_rules,
    read_sampling,
)
from regard.hub.hugging_face.published_folder import Published
from regard.hub.hugging_face.tokenizer_overrides import max_length_of
from regard.hub.hugging_face.weight_files import read_json
from regard.layers.attention_config import AttentionConfig
from regard.models import GptConfig, ModelConfig, TransformerConfig, VitConfig
from regard.models.base.encoder import EncoderConfig
from regard.settings.validation import LARGEST
from regard.setup.config import DataConfig, QuestionAnsweringConfig, RunConfig

_WINDOW, _ANSWER_TOKENS = 384, 30  # Devlin et al. 2019, in the released code for SQuAD
_HALF = [0.5, 0.5, 0.5]  # of the largest pixel value


def published_config(
    published: Published,
    attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - immutable
) -> RunConfig:
    """Return the settings of a published model of texts or images.

    Args:
        published: The content of the folder.
        attention: The pattern of each layer of a model of texts.

    Raises:
        ConfigError: The folder needs a search that is not implemented.
    """
    model: ModelConfig = published.config
    if isinstance(model, VitConfig):
        data = _image_data(published.folder, model)
        return RunConfig(task="image-classification", model=model, data=data)
    data, search, task = (
        DataConfig(labels=published.labels),
        BeamSearchConfig(),
        "language-modeling",
    )
    sampling = SamplingConfig()
    if isinstance(model, TransformerConfig):
        task = "translation"
        # The start and the end of a text are not counted, in a table of positions.
        num_ends = 2 if model.positions == "learned" else 1
        longest = min(model.max_positions - num_ends, _longest_text(published.folder) - 1)
        data = replace(data, max_length=max(2, longest))
        search = _search(published.folder, model.max_positions, published.vocab_size)
    elif isinstance(model, EncoderConfig) and published.labels:
        task = "classification"
        longest = min(model.max_positions, _longest_text(published.folder))
        data = replace(data, max_length=max(2, longest))
    elif isinstance(model, EncoderConfig) and published.finds_spans:
        task = "question-answering"
        longest = min(_WINDOW, model.max_positions, _longest_text(published.folder))
        data = replace(data, max_length=max(2, longest))
    elif isinstance(model, EncoderConfig):
        task = "masked-language-modeling"
    elif isinstance(model, GptConfig):
        has_table = model.positions == "learned"
        limit = model.max_positions if has_table else None
        sampling = read_sampling(published.folder, published.vocab_size, max_positions=limit)
        data = replace(data, max_length=max(2, min(data.max_length, limit or LARGEST)))
    return RunConfig(
        task=task,
        model=model,
        attention=attention,
        tokenizer=TokenizerConfig(kind="published", table_rows=published.vocab_size),
        data=data,
        search=search,
        sampling=sampling,
        qa=QuestionAnsweringConfig(max_answer_tokens=_ANSWER_TOKENS, match_words=False),
    )


def _longest_text(folder: Path) -> int:
    """Return the maximum number of tokens of a text by the settings of the vocabulary."""
    path = folder / TOKENIZER_CONFIG
    limit = max_length_of(read_json(path)) if path.is_file() else None
    return LARGEST if limit is None else limit


def _image_data(folder: Path, model: VitConfig) -> DataConfig:
    """Return the labels, and the mean and standard deviation of pixels.

    Without ``preprocessor_config.json`` pixels are scaled to -1 to 1, the default of ViT.
    """
    names = read_json(folder / HF_CONFIG).get("id2label") or {}
    labels = tuple(str(names.get(str(n), f"LABEL_{n}")) for n in range(model.num_labels))
    path = folder / PREPROCESSOR_CONFIG
    fields = read_json(path) if path.is_file() else {}
    mean, std = (fields.get(name) or _HALF for name in ("image_mean", "image_std"))
    if not fields.get("do_normalize", True):
        mean, std = [0.0] * model.channels, [1.0] * model.channels
    return DataConfig(
        labels=labels,
        mean=tuple(BRIGHTEST * float(value) for value in mean[: model.channels]),
        std=tuple(BRIGHTEST * float(value) for value in std[: model.channels]),
    )


def _search(folder: Path, max_length: int, num_rows: int) -> BeamSearchConfig:
    """Return the search of `transformers` by a folder's rules, with defaults for the rest.

    A folder that regard wrote holds the search of its model, too.

    Args:
        folder: The folder.
        max_length: Number of output tokens that the model has positions for.
        num_rows: Number of token ids.

    Raises:
        ConfigError: The settings that regard wrote have been damaged.
    """
    rules = read_generation_rules(folder)
    stopping: dict[bool | str, Stopping] = {False: "likely", True: "first", "never": "certain"}
    default = BeamSearchConfig()
    search = BeamSearchConfig(
        beam=rules.beam or default.beam,
        length_penalty=rules.length_penalty,
        ranking="transformers",
        stopping=stopping[rules.early_stopping],
        max_length_ratio=default.max_length_ratio if rules.max_length is None else None,
        max_length=min(max_length, rules.max_length or max_length),
        min_length=rules.min_length,
        no_repeat_size=rules.no_repeat_size,
        repetition_penalty=rules.repetition_penalty,
        forbidden=forbidden_ids(folder, num_rows),
        forced_first=rules.first_id,
        forces_end=rules.has_end,
        is_renormalized=rules.is_renormalized,
    )
    try:
        return msgspec.convert(
            {**msgspec.structs.asdict(search), **rules.own_settings}, BeamSearchConfig
        )
    except (msgspec.ValidationError, TypeError) as error:
        path = folder / GENERATION_CONFIG
        raise ConfigError(f"{path}: {OWN_FIELD}: {error}.  Take {OWN_FIELD} out.") from error
