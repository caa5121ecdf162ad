"""The size of a model set alone: heads are chosen so that they divide it."""

from __future__ import annotations

import json

import pytest
from tests.setup.test_pretrained import write_reviews

from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.models import BertConfig, LstmConfig, TransformerConfig
from regard.runs.run import train
from regard.setup.config import RunConfig
from regard.setup.resolve import with_heads


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        (["model.dim=128"], ("model.num_heads=4",)),
        (["model.dim=130"], ("model.num_heads=2",)),
        (["model.dim=131"], ("model.num_heads=1",)),
        (["model.dim=1000"], ("model.num_heads=4",)),  # of base's 12
        (["model.dim=768"], ()),
        (["model.dim=128", "model.num_heads=2"], ()),
        (["model.dim=many"], ()),
        (["model.dim=0"], ()),
        (["model.family=lstm", "model.dim=100"], ()),
        (["model.family=transformer", "model.dim=100"], ("model.num_heads=4",)),
        (["model.family=encoder_decoder", "model.encoder.dim=64"], ("model.encoder.num_heads=4",)),
    ],
)
def test_the_heads_of_the_preset_next_in_size_are_taken_or_as_many_as_divide_it(settings, added):
    assert with_heads(settings, BertConfig()) == added


def test_families_without_heads_and_sizes_that_the_default_divides_are_left_alone():
    assert with_heads(["model.dim=100"], LstmConfig()) == ()
    assert with_heads(["model.dim=128"], TransformerConfig()) == ()


def test_a_classifier_trains_with_its_size_set_alone(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    settings = ("model.dim=32", "training.epochs=1", "tokenizer.kind=byte")
    train(data, tmp_path / "model", settings=settings)
    model = ModelFolder(tmp_path / "model").read_config(RunConfig).model
    assert isinstance(model, BertConfig)
    assert (model.dim, model.num_heads, model.hidden_dim) == (32, 4, 512)
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "finished"


def test_heads_that_somebody_set_and_do_not_divide_are_refused(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    with pytest.raises(ConfigError, match=r"dim must be a multiple of num_heads \(3\)|model\.dim"):
        train(data, tmp_path / "model", settings=("model.dim=32", "model.num_heads=3"))
