"""What every task needs on the way from a configuration to a run: sizes, model, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import torch

from regard.data.languages import has_spaces_between_words
from regard.errors import ConfigError, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.model_folder import ModelFolder, load_weights
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    INPUT_ENCODERS,
    Classifier,
    Encoder,
    Family,
    InputFamily,
    family_of,
)
from regard.models.base.model import Model as AnyModel
from regard.setup.base_task import Text
from regard.setup.config import RunConfig, TaskName
from regard.setup.pretrained import restrict, suit_start
from regard.setup.pretrained_encoder_decoder import begins_with_weights, suit_sides
from regard.setup.resolve import apply_preset, choose_preset, suit_full_batch
from regard.training.events import Model, Report, Tokens
from regard.training.precision import compute_dtype, resolve_precision

M = TypeVar("M", bound=AnyModel)
_ROLES: dict[str, tuple[Mapping[str, Family | InputFamily], str]] = {
    "translation": (ENCODER_DECODERS, "translate"),
    "language-modeling": (DECODERS, "continue a text"),
    "masked-language-modeling": (ENCODERS, "tell hidden tokens"),
    "classification": (ENCODERS, "classify"),
    "image-classification": (INPUT_ENCODERS, "classify images"),
    "audio-classification": (INPUT_ENCODERS, "classify recordings"),
    "series-classification": (INPUT_ENCODERS, "classify series"),
}
"""The families that each task may take, and what their models do."""


def resolve_sizes(config: RunConfig, text: Text) -> RunConfig:
    """Choose the preset by the data where the configuration says ``auto``, and fill it in.

    The sizes of weights that a run starts from stay.
    """
    if config.start_from is not None:
        return suit_full_batch(suit_start(config))
    preset = choose_preset(text.num_chars) if config.preset == "auto" else config.preset
    if begins_with_weights(config):
        return suit_sides(config, preset)
    return apply_preset(config, preset)


def settle_precision(config: RunConfig) -> RunConfig:
    """Replace ``auto`` by the type that this machine computes fast."""
    precision = resolve_precision(config.training.precision, torch.device("cpu"))
    training = msgspec.structs.replace(config.training, precision=precision)
    return msgspec.structs.replace(config, training=training)


def build_model(config: RunConfig, vocab_size: int) -> AnyModel:
    """Build the model with initial weights that follow from the seed, in training mode."""
    torch.manual_seed(config.training.seed)
    model = model_of(config, vocab_size)
    restrict(model, config)
    model.compute_dtype = compute_dtype(config.training.precision)
    return model.train()


def model_of(config: RunConfig, vocab_size: int) -> AnyModel:
    """Make the model of a configuration: its family, and what its task puts on top.

    Args:
        config: Of the run.
        vocab_size: Number of token ids; the table of tokens may have more rows
            (``tokenizer.table_rows``).

    Raises:
        ConfigError: The family is not for the task.
        WeightsError: The table of tokens has fewer rows.
    """
    family = family_for_task(config)
    if isinstance(family, InputFamily):
        return family.model(config.model, config.attention)
    model = family.model(config.model, _table_rows(config, vocab_size), config.attention)
    if config.task == "classification":
        assert isinstance(model, Encoder)
        model.drop_head()
        return Classifier(model, len(config.data.labels))
    return model


def family_for_task(config: RunConfig) -> Family | InputFamily:
    """Look up the family of a configuration in the role that its task wants.

    Raises:
        ConfigError: The family is not for the task.
    """
    families, purpose = _ROLES[config.task]
    name = family_of(config.model)
    if name not in families:
        raise ConfigError(
            f"model.family={name}: does not {purpose}.  Take one of {', '.join(families)}."
        )
    return families[name]


def _table_rows(config: RunConfig, vocab_size: int) -> int:
    rows = config.tokenizer.table_rows
    if rows is not None and rows < vocab_size:
        raise WeightsError(
            f"{config.start_from or 'tokenizer.table_rows'}: the weights have {rows:,} rows of "
            f"tokens, the vocabulary has {vocab_size:,} tokens, so some have no row.  "
            "Take the vocabulary that the weights were trained with."
        )
    return vocab_size if rows is None else rows


def open_trained(
    folder: str | Path, kind: type[M], purpose: str
) -> tuple[M, AnyTokenizer, RunConfig]:
    """Open a model folder.

    Args:
        folder: Its place.
        kind: Of the model that is wanted.
        purpose: What such a model does, for messages.

    Returns:
        The model in evaluation mode, its vocabulary and its settings.

    Raises:
        WeightsError: It is missing, incomplete, damaged, or of another kind.
    """
    place = ModelFolder(folder)
    model, config = _open(place, vocab_size_of(place), kind, purpose)
    return model, place.read_tokenizer(), config


def open_without_text(folder: str | Path, kind: type[M], purpose: str) -> tuple[M, RunConfig]:
    """Open a model folder that has no vocabulary; arguments and errors as `open_trained`.

    Returns:
        The model in evaluation mode, and its settings.
    """
    place = ModelFolder(folder)
    return _open(place, vocab_size_of(place), kind, purpose)


def vocab_size_of(place: ModelFolder) -> int:
    """Count the token ids of a model folder; 0 for a model that reads no text."""
    config = place.read_config(RunConfig)
    return 0 if family_of(config.model) in INPUT_ENCODERS else len(place.read_tokenizer())


def _open(place: ModelFolder, vocab_size: int, kind: type[M], purpose: str) -> tuple[M, RunConfig]:
    config = place.read_config(RunConfig)
    model = model_of(config, vocab_size)
    if not isinstance(model, kind):
        raise WeightsError(
            f"{place.path}: {a_model(config.task)}, which does not {purpose}.  "
            f"See: regard info {place.path}"
        )
    load_weights(model, place.read_weights(), name=str(place.weights_path))
    return model.eval(), config


def describe_tokens(
    config: RunConfig, vocab_size: int, texts: Sequence[str], num_tokens: int
) -> Tokens:
    """Tell how a vocabulary cuts the training texts.

    Args:
        config: Of the run.
        vocab_size: Number of token ids.
        texts: What the tokens were made of.
        num_tokens: How many there are.
    """
    spaced = has_spaces_between_words(texts[:1000])
    units = sum(len(text.split()) if spaced else len(text) for text in texts)
    return Tokens(
        kind=config.tokenizer.kind,
        vocab_size=vocab_size,
        pieces_per_word=num_tokens / max(1, units),
        unit="word" if spaced else "character",
        knows_all=config.tokenizer.kind != "published",
    )


def report_model(config: RunConfig, model: AnyModel, report: Report) -> None:
    """Tell the size of a model."""
    report(
        Model(
            summary=summarize(config),
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            precision=config.training.precision,
        )
    )


def a_model(task: TaskName) -> str:
    """Name a model by its task.

    >>> a_model("image-classification"), a_model("translation")
    ('an image-classification model', 'a translation model')
    """
    return f"{'an' if task[0] in 'aeiou' else 'a'} {task} model"


def summarize(config: RunConfig) -> str:
    """Describe the model in a line.

    >>> summarize(RunConfig(preset="base"))
    'transformer base   6+6 layers, d=512, 8 heads, ff 2048, pre-norm, attention full'
    """
    family = _ROLES[config.task][0].get(family_of(config.model))
    summary = type(config.model).summary if family is None else family.summary
    sizes = summary(config.model, config.attention)
    preset = "" if config.preset == "auto" else f" {config.preset}"
    return f"{family_of(config.model)}{preset}   {sizes}"


def drop_report(text: Text) -> str:
    """List every row left out, one a line: line number, reason, beginning of the text."""
    rows = [f"{text.path}:{drop.line}: {drop.reason}: {drop.text[:80]}\n" for drop in text.dropped]
    return "".join(rows) or "No row was left out.\n"
