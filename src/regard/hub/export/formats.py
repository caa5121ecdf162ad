"""The checkpoint format that a model can be written in, or every obstacle to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import CheckpointWriter, checkpoint_writer
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    CheckpointFormat,
    Decoder,
    EncoderDecoder,
    Family,
    ModelConfig,
    TextModel,
    family_of,
)
from regard.models.base.checkpoint_format import SettingError, setting_text

_MOST_CHANGES = 20
_FAMILIES: tuple[tuple[type, Mapping[str, Family]], ...] = (
    (Decoder, DECODERS),
    (EncoderDecoder, ENCODER_DECODERS),
)
"""Families by the kind of their models; those of others are encoders."""


class _Obstacles(NamedTuple):
    """What a checkpoint format cannot express of a model.

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
    model: TextModel, config: ModelConfig, labels: Sequence[str], attention: AttentionConfig
) -> CheckpointFormat:
    """Return the first checkpoint format of a family that can express all settings of a model.

    Args:
        model: The model.
        config: Its configuration; of a classifier that of its encoder.
        labels: Labels of a classifier.
        attention: Its patterns.

    Raises:
        ConfigError: There is none; with all obstacles to the nearest one, and the settings of a
            model without them.
    """
    families = next((of for kind, of in _FAMILIES if isinstance(model, kind)), ENCODERS)
    name, refused = family_of(config), []
    patterns, settings = attention_obstacles(attention)
    store = checkpoint_writer(model, labels)
    for checkpoint_format in families[name].formats:
        obstacles = _find_obstacles(config, checkpoint_format, model.vocab_size, store)
        if not obstacles.sentences:
            _, mappings = store(config, checkpoint_format, model.vocab_size)
            names = set(map(attrgetter("local"), mappings))
            if names != dict(model.named_parameters()).keys():
                continue  # that of another role of the family
            if not patterns:
                return checkpoint_format
        refused.append(obstacles)
    raise ConfigError(_refusal(name, families, refused, patterns, settings, store))


def attention_obstacles(attention: AttentionConfig) -> tuple[list[str], dict[str, Any]]:
    """Return what others cannot compute of patterns, and the settings of full attention."""
    default = AttentionConfig()
    names = [
        name
        for name in msgspec.structs.asdict(default)
        if (getattr(attention, name) != getattr(default, name))
    ]
    if not names:
        return [], {}
    sentence = (
        f"attention {attention.summary()}: published configurations have no pattern, so others "
        "would compute full attention."
    )
    return [sentence], {f"attention.{name}": getattr(default, name) for name in names}


def advice(settings: Mapping[str, Any]) -> str:
    """Return a sentence with the settings of a model that can be written."""
    texts = (f"`{name}={setting_text(value)}`" for name, value in settings.items())
    return f"A model that can be written is trained with {' '.join(texts)}."


def _refusal(
    name: str,
    families: Mapping[str, Family],
    refused: Sequence[_Obstacles],
    patterns: list[str],
    settings: dict[str, Any],
    store: CheckpointWriter,
) -> str:
    """Return all obstacles to the nearest format, and the settings of a model without them."""
    opening = f"model.family={name}: no published layout has a place for this model.  "
    possible = [obstacles for obstacles in refused if obstacles.settings is not None]
    if possible:
        nearest = min(possible, key=_num_obstacles)
        reasons = nearest.sentences
    else:
        with_format = {other: family for other, family in families.items() if family.formats}
        other, family = next(iter(with_format.items()))
        nearest = min(
            (_find_obstacles(family.config(), form, 8, store) for form in family.formats),
            key=_num_obstacles,
        )
        reasons = [*chain.from_iterable(map(attrgetter("sentences"), refused))]
        reasons += [f"Families of this kind that have one: {', '.join(with_format)}."]
        settings = settings | {"model.family": other}
    return opening + "  ".join([*patterns, *reasons, advice(settings | nearest.changes)])


def _num_obstacles(obstacles: _Obstacles) -> int:
    return len(obstacles.sentences)


def _find_obstacles(
    config: ModelConfig,
    checkpoint_format: CheckpointFormat,
    vocab_size: int,
    store: CheckpointWriter,
) -> _Obstacles:
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
                return _Obstacles([*sentences, f"{problem}."], None)
        except ConfigError as error:
            return _Obstacles([*sentences, str(error)], None)
        else:
            return _Obstacles(sentences, settings)
    return _Obstacles(sentences, None)
