"""The checkpoint format that a model can be written in, or every obstacle to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from regard.attention import Full, parse_pattern
from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import CheckpointWriter, checkpoint_writer
from regard.layers.attention_config import AttentionConfig, PatternText
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    INPUT_ENCODERS,
    CheckpointFormat,
    Decoder,
    EncoderDecoder,
    Family,
    ModelConfig,
    SpanModel,
    TextModel,
    TransformerConfig,
    VitConfig,
)
from regard.models.base.checkpoint_format import SettingError, setting_text
from regard.models.base.classifier_checkpoints import checkpoint_of
from regard.models.base.encoder import EncoderConfig

_MOST_CHANGES = 20
_FAMILIES: tuple[tuple[type, Mapping[str, Family]], ...] = (
    (Decoder, DECODERS),
    (EncoderDecoder, ENCODER_DECODERS),
)
"""Families by the kind of their models; those of others are encoders."""


class Obstacles(NamedTuple):
    """What a format cannot express of a model.

    Args:
        sentences: One for each setting.
        settings: That it can express, by name; None where no settings would do.
    """

    sentences: list[str]
    settings: dict[str, Any] | None

    @property
    def changes(self) -> dict[str, Any]:
        """The settings by their names in a run's configuration."""
        return {f"model.{name}": value for name, value in (self.settings or {}).items()}


def choose_format(
    model: TextModel,
    config: ModelConfig,
    labels: Sequence[str],
    attention: AttentionConfig,
    new_models: Mapping[str, ModelConfig] = MappingProxyType({}),
    *,
    model_type: str = "",
) -> CheckpointFormat:
    """Return the first checkpoint format of a family that can express all settings of a model.

    The format that the weights were published in comes before the others.

    Args:
        model: The model.
        config: Its configuration; of a classifier that of its encoder.
        labels: Labels of a classifier.
        attention: Its patterns.
        new_models: For advice, the configuration that a run gives a model of a family by itself;
            those that are missing have the defaults of their class.
        model_type: Format of the published weights that the model began with, if there were any.

    Raises:
        ConfigError: There is none; with all obstacles to the nearest one, and the settings of a
            model without them.
    """
    families = next((formats for kind, formats in _FAMILIES if isinstance(model, kind)), ENCODERS)
    # The encoder of a Transformer alone has dimensions of no family.
    name = (TransformerConfig() if type(config) is EncoderConfig else config).family
    refused: list[Obstacles] = []
    outside = _obstacles_outside(model, attention)
    store = checkpoint_writer(model, labels)
    formats = sorted(families[name].formats, key=lambda form: form.model_type != model_type)
    for checkpoint_format in formats:
        obstacles = _find_obstacles(config, checkpoint_format, model.vocab_size, store)
        if not (obstacles.sentences or outside.sentences):
            return checkpoint_format
        refused.append(obstacles)
    possible = [obstacles for obstacles in refused if obstacles.settings is not None]
    if possible:
        nearest = min(possible, key=_num_obstacles)
    else:
        nearest = _obstacles_to_another(families, refused, new_models, store)
    opening = f"model.family={name}: no published layout has a place for this model."
    changes = (outside.settings or {}) | nearest.changes
    sentences = [opening, *outside.sentences, *nearest.sentences, advice(changes)]
    raise ConfigError("  ".join(sentences))


def image_obstacles(config: VitConfig, attention: AttentionConfig) -> str:
    """Return what the checkpoint format of images cannot express; empty where it can.

    Args:
        config: The model's.
        attention: Its patterns.

    Returns:
        All obstacles, and the settings of a model without them.
    """
    (checkpoint_format,) = INPUT_ENCODERS[config.family].formats
    outside = attention_obstacles(attention)
    obstacles = _find_obstacles(config, checkpoint_format, 0, checkpoint_of)
    sentences = [*outside.sentences, *obstacles.sentences]
    changes = (outside.settings or {}) | obstacles.changes
    return "  ".join([*sentences, advice(changes)]) if sentences else ""


def _obstacles_outside(model: TextModel, attention: AttentionConfig) -> Obstacles:
    """Return what no format can express, with settings by their names in a run's configuration."""
    sentences, settings = attention_obstacles(attention)
    assert settings is not None
    if isinstance(model, SpanModel) and model.roles is not None:
        sentences = [
            *sentences,
            "qa.match_words=true: published models do not read which words of a text are in the "
            "question.",
        ]
        settings = settings | {"qa.match_words": False}
    return Obstacles(sentences, settings)


def attention_obstacles(
    attention: AttentionConfig, reason: str = "published configurations have no pattern"
) -> Obstacles:
    """Return what others cannot compute of patterns, and the settings of full attention.

    Args:
        attention: The patterns of a model.
        reason: Why others compute full attention.

    Returns:
        One sentence, and settings by their names in a run's configuration; none where all is full.
    """
    full = AttentionConfig()
    settings = {
        f"attention.{name}": getattr(full, name)
        for name in full.__struct_fields__
        if not _is_full(getattr(attention, name))
    }
    if not settings:
        return Obstacles([], {})
    sentence = f"attention {attention.summary()}: {reason}, so others would compute full attention."
    return Obstacles([sentence], settings)


def _is_full(pattern: PatternText | None) -> bool:
    """Return whether all patterns of a setting are full; one that is not set follows another."""
    texts = (pattern,) if isinstance(pattern, str) else pattern or ()
    return all(isinstance(parse_pattern(text), Full) for text in texts)


def advice(settings: Mapping[str, Any]) -> str:
    """Return a sentence with the settings of a model that can be written."""
    texts = (f"`{name}={setting_text(value)}`" for name, value in settings.items())
    return f"A model that can be written is trained with {' '.join(texts)}."


def _obstacles_to_another(
    families: Mapping[str, Family],
    refused: Sequence[Obstacles],
    new_models: Mapping[str, ModelConfig],
    store: CheckpointWriter,
) -> Obstacles:
    """Return why a family is refused, and the settings of a new model of one that has a format."""
    with_format = {name: family for name, family in families.items() if family.formats}
    name, family = next(iter(with_format.items()))
    config = new_models.get(name, family.config())
    nearest = min(
        (_find_obstacles(config, form, 8, store) for form in family.formats), key=_num_obstacles
    )
    reasons = [*chain.from_iterable(map(attrgetter("sentences"), refused))]
    reasons.append(f"Families of this kind that have one: {', '.join(with_format)}.")
    return Obstacles(reasons, {"family": name} | (nearest.settings or {}))


def _num_obstacles(obstacles: Obstacles) -> int:
    return len(obstacles.sentences)


def _find_obstacles(
    config: ModelConfig,
    checkpoint_format: CheckpointFormat,
    vocab_size: int,
    store: CheckpointWriter,
) -> Obstacles:
    """Change settings, one refusal after another, until a format can express the model."""
    sentences: list[str] = []
    settings: dict[str, Any] = {}
    for _ in range(_MOST_CHANGES):
        try:
            store(config, checkpoint_format, vocab_size)
        except SettingError as error:
            sentences += error.obstacles
            settings |= error.settings
            try:
                config = msgspec.structs.replace(config, **error.settings)
            except ValueError as problem:
                return Obstacles([*sentences, f"{problem}."], None)
        except ConfigError as error:
            return Obstacles([*sentences, str(error)], None)
        else:
            return Obstacles(sentences, settings)
    return Obstacles(sentences, None)
