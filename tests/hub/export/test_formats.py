"""What no published layout can express: all obstacles at once, and settings that help."""

from __future__ import annotations

import re
from typing import Any

import pytest

from regard.errors import ConfigError
from regard.hub.export.formats import choose_format
from regard.layers.attention_config import AttentionConfig
from regard.models import DECODERS, ENCODER_DECODERS, ENCODERS, Classifier, TextModel
from regard.settings.binding import bind, parse_settings
from regard.setup.config import RunConfig

SMALL: dict[str, Any] = {"dim": 8, "num_heads": 2, "hidden_dim": 8, "num_layers": 1}
SMALL |= {"num_encoder_layers": 1, "num_decoder_layers": 1, "num_segments": 0}
ROLES = {"encoder-decoder": ENCODER_DECODERS, "decoder": DECODERS, "encoder": ENCODERS}
LOCAL = AttentionConfig(pattern="local:8")


def small(family: Any) -> Any:
    """Return the settings of a small model of a family."""
    names = family.config.__struct_fields__
    return family.config(**{name: value for name, value in SMALL.items() if name in names})


def refusal(model: TextModel, config: Any, attention=AttentionConfig(), labels=()) -> str:  # noqa: B008
    with pytest.raises(ConfigError) as caught:
        choose_format(model, config, labels, attention)
    return str(caught.value)


def test_all_obstacles_of_a_translator_are_named_with_the_settings_that_help():
    config = small(ENCODER_DECODERS["transformer"])
    model = ENCODER_DECODERS["transformer"].model(config, 9, AttentionConfig())
    assert refusal(model, config, LOCAL) == (
        "model.family=transformer: no published layout has a place for this model.  attention "
        "local:8: published configurations have no pattern, so others would compute full "
        "attention.  model.positions=sinusoidal: pegasus checkpoints have sinusoidal_halves only.  "
        "A model that can be written is trained with `attention.pattern=full` "
        "`model.positions=sinusoidal_halves`."
    )


def test_a_family_without_a_layout_names_one_that_has_some():
    config = small(ENCODER_DECODERS["lstm"])
    model = ENCODER_DECODERS["lstm"].model(config, 9, AttentionConfig())
    assert refusal(model, config).endswith(
        "Families of this kind that have one: transformer, t5.  A model that can be written is "
        "trained with `model.family=transformer` `model.positions=sinusoidal_halves`."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "name"),
    [
        (role, name)
        for role, families in ROLES.items()
        for name in families
        if name != "encoder_decoder"  # its parts have settings of their own
    ],
)
def test_a_model_of_the_settings_that_are_named_can_be_written(role, name):
    families = ROLES[role]
    config = small(families[name])
    model = families[name].model(config, 9, AttentionConfig())
    try:
        choose_format(model, config, (), AttentionConfig())
    except ConfigError as error:
        settings = re.findall(r"`([^`]+)`", str(error))
        base = RunConfig(model=config)
        table = parse_settings([f"model.family={name}", *settings])
        config = bind(RunConfig, table, base).model
        family = next(entry for entry in families.values() if isinstance(config, entry.config))
        model = family.model(config, 9, AttentionConfig())
        assert choose_format(model, config, (), AttentionConfig()).model_type


@pytest.mark.parametrize("changes", [{"norm": "pre", "pooling": "mean"}, {"num_segments": 0}])
def test_the_settings_that_are_named_for_a_classifier_can_be_written(changes):
    family: Any = ENCODERS["bert"]
    labels = ("a", "b")
    config = family.config(**SMALL_ENCODER | changes)
    classifier = Classifier(family.model(config, 9, AttentionConfig()), 2)
    settings = re.findall(r"`model\.([^`]+)=([^`]+)`", refusal(classifier, config, labels=labels))
    values = {"true": True, "false": False, "2": 2}
    named = {key: values.get(value, value) for key, value in settings}
    config = family.config(**SMALL_ENCODER | changes | named)
    classifier = Classifier(family.model(config, 9, AttentionConfig()), 2)
    assert choose_format(classifier, config, labels, AttentionConfig()).model_type == "bert"


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
def test_the_format_that_weights_were_published_in_comes_first(model_type):
    family: Any = ENCODERS["bert"]
    config = family.config(**SMALL_ENCODER, position_offset=1, num_segments=1)
    model = family.model(config, 9, AttentionConfig())
    chosen = choose_format(model, config, (), AttentionConfig(), model_type=model_type)
    assert chosen.model_type == model_type


SMALL_ENCODER: dict[str, Any] = {
    "dim": 8,
    "num_heads": 2,
    "hidden_dim": 8,
    "num_layers": 1,
    "has_mlm_head": False,
}
