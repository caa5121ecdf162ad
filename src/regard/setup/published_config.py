"""The settings of a published model, as if a run of regard had trained it."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig, Stopping
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
from regard.hub.hugging_face.task_prefixes import (
    languages_of_use,
    read_prefixes,
    read_question_words,
    read_uses,
)
from regard.hub.hugging_face.tokenizer_overrides import max_length_of
from regard.hub.hugging_face.weight_files import read_optional_json
from regard.models import TransformerConfig, VitConfig
from regard.settings.validation import LARGEST
from regard.setup.config import (
    DataConfig,
    FineTuningConfig,
    QuestionAnsweringConfig,
    RunConfig,
)
from regard.setup.facts import SOURCE_LIMITS

_LONGEST = DataConfig().max_length
_QUESTIONS = "question-answering"
_ANSWER_TOKENS = 30  # Devlin et al. 2019, in the released code for SQuAD
_HALF = [0.5, 0.5, 0.5]  # of the largest pixel value


def text_config(published: Published, task: str, *, max_length: int = _LONGEST) -> RunConfig:
    """Return the settings of a published model of texts.

    Args:
        published: The content of the folder.
        task: Name of its task.
        max_length: Tokens of the longest text.
    """
    return RunConfig(
        task=task,
        model=published.config,
        tokenizer=TokenizerConfig(kind="published", table_rows=published.vocab_size),
        data=DataConfig(
            labels=published.labels,
            multi_label=published.label_threshold is not None,
            max_length=max(2, max_length),
        ),
        qa=QuestionAnsweringConfig(max_answer_tokens=_ANSWER_TOKENS, match_words=False),
        fine_tuning=FineTuningConfig(model_type=published.model_type),
    )


def encoder_decoder_config(published: Published, task: str, use: str = "") -> RunConfig:
    """Return the settings of a published encoder-decoder; see `text_config`.

    Args:
        published: The content of the folder.
        task: Name of its task.
        use: One of the folder's own names of tasks, such as translation_en_to_de, see `read_uses`;
            empty takes the one of the task, where there is one alone.

    Raises:
        ConfigError: The settings of the search that regard wrote have been damaged, or the folder
            has no such task.
    """
    folder = published.folder
    uses = read_uses(folder)
    if use and use not in uses:
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: task_specific_params: has no {use}.  "
            f"It has {', '.join(uses) or 'no tasks'}."
        )
    use = use or _only_use(uses, task)
    config = _encoder_decoder_config(published, task, uses.get(use, {}))
    if uses and not use:  # what is read may be anything, which has no parts
        most = max(config.data.max_length, SOURCE_LIMITS[-1])
        config = replace(config, data=replace(config.data, max_length=most))
    prefixes = read_prefixes(folder)
    data = replace(
        config.data,
        source_prefix=prefixes.get(use or task, prefixes.get("", "")),
        languages="-".join(languages_of_use(use) or ()).replace("_", "-"),
    )
    qa = config.qa
    if task == _QUESTIONS:
        words = read_question_words(folder)
        qa = QuestionAnsweringConfig(kind="generative", context_prefix=words.context)
    return replace(config, data=data, qa=qa)


def _only_use(uses: Collection[str], task: str) -> str:
    """Return the folder's own name of a task, of translation with languages; empty for several."""
    names = [name for name in uses if name == task or name.startswith(f"{task}_")]
    return task if task in names else names[0] if len(names) == 1 else ""


def _encoder_decoder_config(
    published: Published, task: str, fields: Mapping[str, Any]
) -> RunConfig:
    """Return the settings without a prefix, by fields that count before those of generation."""
    folder, model = published.folder, published.config
    if isinstance(model, TransformerConfig):
        # The start and the end of a text are not counted, in a table of positions.
        num_ends = 1 + (model.positions == "learned")
        longest = min(model.max_positions, _longest_text(folder)) - num_ends
        search = _search(folder, published.vocab_size, fields, model.max_positions)
        return replace(text_config(published, task, max_length=longest), search=search)
    # Relative positions have no limit: longer texts are translated in parts, others read whole.
    longest = min(_longest_text(folder) - 1, SOURCE_LIMITS[-1])
    config = text_config(published, task, max_length=longest)
    data = replace(config.data, max_source_length=LARGEST)
    return replace(config, data=data, search=_search(folder, published.vocab_size, fields))


def decoder_config(published: Published, task: str) -> RunConfig:
    """Return the settings of a published decoder; see `text_config`."""
    model = published.config
    limit = model.position_limit
    sampling = read_sampling(published.folder, published.vocab_size, max_positions=limit)
    longest = min(filter(None, (_LONGEST, limit)))
    return replace(text_config(published, task, max_length=longest), sampling=sampling)


def encoder_config(published: Published, task: str, *, most: int = LARGEST) -> RunConfig:
    """Return the settings of a published encoder with a head; see `text_config`.

    Args:
        published: The content of the folder.
        task: Name of its task.
        most: Tokens of a text, at most.
    """
    longest = min(most, published.config.max_positions, _longest_text(published.folder))
    return text_config(published, task, max_length=longest)


def image_config(published: Published, task: str) -> RunConfig:
    """Return the settings of a published model of images.

    Raises:
        ConfigError: Pixels are scaled by values of another type, or images are cropped.
    """
    data = replace(_image_data(published.folder, published.config), labels=published.labels)
    return RunConfig(task=task, model=published.config, data=data)


def _longest_text(folder: Path) -> int:
    """Return the maximum number of tokens of a text by the settings of the vocabulary."""
    limit = max_length_of(read_optional_json(folder / TOKENIZER_CONFIG))
    return LARGEST if limit is None else limit


def _image_data(folder: Path, model: VitConfig) -> DataConfig:
    """Return the mean and standard deviation of pixels.

    Without ``preprocessor_config.json`` pixels are scaled to -1 to 1, the default of ViT.

    Raises:
        ConfigError: A value is of another type, or images are cropped.
    """
    path = folder / PREPROCESSOR_CONFIG
    fields = read_optional_json(path)
    if fields.get("do_center_crop"):
        raise ConfigError(
            f"{path}: do_center_crop=true: images are not cropped here, so the labels would not be "
            "those of this model.  To have whole images classified, take do_center_crop out."
        )
    mean = _channel_values(path, fields, "image_mean")
    std = _channel_values(path, fields, "image_std")
    if not fields.get("do_normalize", True):
        mean, std = [0.0] * model.channels, [1.0] * model.channels
    brightest = _brightest(path, fields)
    mean, std = (
        [brightest * value for value in values[: model.channels]] for values in (mean, std)
    )
    return DataConfig(mean=tuple(mean), std=tuple(std))


def _channel_values(path: Path, fields: Mapping[str, Any], name: str) -> list[float]:
    """Return the value of each channel of images in a field; the default of ViT without one."""
    try:
        return msgspec.convert(fields.get(name) or _HALF, list[float])
    except msgspec.ValidationError as error:
        text = json.dumps(fields[name])[:80]
        raise ConfigError(f"{path}: {name}={text}: a list of numbers was expected.") from error


def _brightest(path: Path, fields: Mapping[str, Any]) -> float:
    """Return the value of a pixel that is 1 before mean and standard deviation are applied."""
    if not fields.get("do_rescale", True):
        return 1.0
    factor = fields.get("rescale_factor", 1 / BRIGHTEST)
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ConfigError(
            f"{path}: rescale_factor={json.dumps(factor)[:80]}: a number above 0 was expected."
        )
    return 1 / factor


def _search(
    folder: Path, num_rows: int, fields: Mapping[str, Any], num_positions: int | None = None
) -> BeamSearchConfig:
    """Return the search of `transformers` by a folder's rules, with defaults for the rest.

    A folder that regard wrote holds the search of its model, too.

    Args:
        folder: The folder.
        num_rows: Number of token ids.
        fields: Fields that count before those of the folder.
        num_positions: Number of output tokens that the model has positions for; None is unlimited.

    Raises:
        ConfigError: A forced token is none of the model, or the settings that regard wrote have
            been damaged.
    """
    rules = read_generation_rules(folder, fields)
    for name, token in (("bos", rules.first_id), ("eos", rules.last_id)):
        if token is not None and token >= num_rows:
            raise ConfigError(
                f"{folder}: forced_{name}_token_id={token}: the model has {num_rows:,} tokens, "
                f"0 to {num_rows - 1:,}.  Correct it in {GENERATION_CONFIG}."
            )
    stopping: dict[bool | str, Stopping] = {False: "likely", True: "first", "never": "certain"}
    default = BeamSearchConfig()
    search = BeamSearchConfig(
        beam=rules.beam or default.beam,
        length_penalty=rules.length_penalty,
        ranking="transformers",
        stopping=stopping[rules.early_stopping],
        max_length_ratio=default.max_length_ratio if rules.max_length is None else None,
        max_length=min(filter(None, (num_positions, rules.max_length)), default=None),
        min_length=rules.min_length,
        no_repeat_size=rules.no_repeat_size,
        repetition_penalty=rules.repetition_penalty,
        forbidden=forbidden_ids(folder, num_rows),
        forced_first=rules.first_id,
        forces_end=rules.has_end,
        forced_last=rules.last_id,
        is_renormalized=rules.is_renormalized,
    )
    try:
        return msgspec.convert(
            {**msgspec.structs.asdict(search), **rules.own_settings}, BeamSearchConfig
        )
    except (msgspec.ValidationError, TypeError) as error:
        path = folder / GENERATION_CONFIG
        raise ConfigError(f"{path}: {OWN_FIELD}: {error}.  Take {OWN_FIELD} out.") from error
