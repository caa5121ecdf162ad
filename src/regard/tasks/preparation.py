"""What every task needs on the way from a configuration to a run: sizes, model, reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import torch

from regard.data.languages import has_spaces_between_words
from regard.errors import ConfigError, WeightsError
from regard.interchange.folder import AnyTokenizer, ModelFolder, load_weights
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    Classifier,
    Decoder,
    Encoder,
    EncoderDecoder,
    family_of,
    make_model,
)
from regard.models.encoder import EncoderConfig
from regard.models.text_model import TextModel
from regard.tasks.fine_tuning import restrict, suit_start
from regard.tasks.presets import apply_preset, choose_preset, suit_full_batch
from regard.tasks.run_config import RunConfig
from regard.tasks.task import Text
from regard.training.events import Model, Report, Tokens
from regard.training.precision import compute_dtype, resolve_precision

M = TypeVar("M", bound=TextModel)
_ROLES = {
    "translation": (EncoderDecoder, ENCODER_DECODERS, "translate"),
    "language-modeling": (Decoder, DECODERS, "continue a text"),
    "masked-language-modeling": (Encoder, ENCODERS, "tell hidden tokens"),
    "classification": (Encoder, ENCODERS, "classify"),
}
"""What the model of each task is, the families that are, and what they do."""


def resolve_sizes(config: RunConfig, text: Text) -> RunConfig:
    """Choose the preset by the data where the configuration says ``auto``, and fill it in.

    The sizes of weights that a run starts from stay.
    """
    if config.start_from is not None:
        return suit_full_batch(suit_start(config))
    preset = choose_preset(text.num_chars) if config.preset == "auto" else config.preset
    return apply_preset(config, preset)


def settle_precision(config: RunConfig) -> RunConfig:
    """Replace ``auto`` by the type that this machine computes fast."""
    precision = resolve_precision(config.training.precision, torch.device("cpu"))
    training = msgspec.structs.replace(config.training, precision=precision)
    return msgspec.structs.replace(config, training=training)


def build_model(config: RunConfig, vocab_size: int) -> TextModel:
    """Build the model with initial weights that follow from the seed, in training mode."""
    torch.manual_seed(config.training.seed)
    model = model_of(config, vocab_size)
    restrict(model, config)
    model.compute_dtype = compute_dtype(config.training.precision)
    return model.train()


def model_of(config: RunConfig, vocab_size: int) -> TextModel:
    """Make the model of a configuration: its family, and what its task puts on top.

    Raises:
        ConfigError: The family is not for the task.
    """
    sizes = config.model
    is_classifier = config.task == "classification"
    if is_classifier and isinstance(sizes, EncoderConfig):  # a classifier predicts no masked tokens
        has_pooler = sizes.has_pooler and sizes.pooling == "first"
        sizes = msgspec.structs.replace(sizes, has_mlm_head=False, has_pooler=has_pooler)
    model = make_model(sizes, vocab_size, config.attention)
    role, families, purpose = _ROLES[config.task]
    if not isinstance(model, role):
        raise ConfigError(
            f"model.family={family_of(config.model)}: does not {purpose}.  Take one of "
            f"{', '.join(families)}."
        )
    if is_classifier and isinstance(model, Encoder):
        return Classifier(model, len(config.data.labels))
    return model


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
    config = place.read_config(RunConfig)
    tokenizer = place.read_tokenizer()
    model = model_of(config, len(tokenizer))
    if not isinstance(model, kind):
        raise WeightsError(
            f"{folder}: a {config.task} model, which does not {purpose}.  See: regard info {folder}"
        )
    load_weights(model, place.read_weights(), name=str(place.weights_path))
    return model.eval(), tokenizer, config


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


def report_model(config: RunConfig, model: TextModel, report: Report) -> None:
    """Tell the size of a model."""
    report(
        Model(
            summary=summarize(config),
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            precision=config.training.precision,
        )
    )


def summarize(config: RunConfig) -> str:
    """Describe the model in a line.

    >>> summarize(RunConfig(preset="base"))
    'transformer base   6+6 layers, d=512, 8 heads, ff 2048, pre-norm, attention full'
    """
    sizes = config.model.summary(config.attention)
    preset = "" if config.preset == "auto" else f" {config.preset}"
    return f"{family_of(config.model)}{preset}   {sizes}"


def drop_report(text: Text) -> str:
    """List every row left out, one a line: line number, reason, beginning of the text."""
    rows = [f"{text.path}:{drop.line}: {drop.reason}: {drop.text[:80]}\n" for drop in text.dropped]
    return "".join(rows) or "No row was left out.\n"
