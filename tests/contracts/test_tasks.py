"""What the declared record of a task decides, where no other place names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import Published
from regard.models import (
    CHECKPOINT_FORMATS,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    INPUT_CHECKPOINT_FORMATS,
    INPUT_ENCODERS,
)
from regard.setup.config import RunConfig
from regard.tasks import TASKS, task_of, task_of_published
from regard.tasks.masked_language_modeling.task import MaskedLanguageModelingTask

ENCODER_FORMATS = [name for family in ENCODERS.values() for name in family.format_names]
ROLES = (
    (ENCODER_DECODERS, "translation"),
    (DECODERS, "language-modeling"),
    (ENCODERS, "masked-language-modeling"),
    (INPUT_ENCODERS, "image-classification"),
)
WITHOUT_HEAD = [
    (name, task)
    for families, task in ROLES
    for family in families.values()
    for name in family.format_names
]


def published(model_type: str, *labels: str, finds_spans: bool = False) -> Published:
    """Return what is read of a folder, without weights."""
    folder, config = Path("folder"), RunConfig().model
    return Published(folder, model_type, config, 8, [], {}, labels, finds_spans)


def claiming(model: Published) -> list[str]:
    return [name for name, task in TASKS.items() if task.claims_published(model)]


@pytest.mark.parametrize(("model_type", "task"), WITHOUT_HEAD)
def test_the_role_of_a_published_model_decides_its_task(model_type, task):
    model = published(model_type)
    assert claiming(model) == [task]
    assert task_of_published(model).name == task


def test_every_format_is_of_a_family():
    formats = CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS
    assert {name for name, _ in WITHOUT_HEAD} == set(formats)


@pytest.mark.parametrize("model_type", ENCODER_FORMATS)
def test_the_head_of_a_published_encoder_decides_its_task(model_type):
    assert claiming(published(model_type, "good", "bad")) == ["classification"]
    assert claiming(published(model_type, finds_spans=True)) == ["question-answering"]


def test_a_published_model_of_no_task_is_refused_with_its_type():
    with pytest.raises(ConfigError, match=r"folder: no task takes models of model_type rwkv\."):
        task_of_published(published("rwkv"))


class Tagging(MaskedLanguageModelingTask):
    """A task of one's own, with a format of published models."""

    name = "tagging"

    def claims_published(self, published: Published) -> bool:
        return published.model_type == "tagger"


def test_a_task_that_is_registered_opens_its_published_models(monkeypatch):
    monkeypatch.setitem(TASKS, "tagging", Tagging())
    monkeypatch.setitem(CHECKPOINT_FORMATS, "tagger", CHECKPOINT_FORMATS["bert"])
    model = published("tagger")
    config = task_of_published(model).published_config(model)
    assert config.task == "tagging"
    assert task_of(config) is TASKS["tagging"]


@pytest.mark.parametrize("name", TASKS)
def test_the_name_of_a_task_is_that_of_its_entry(name):
    assert TASKS[name].name == name
    assert TASKS[name].defaults.task == name
