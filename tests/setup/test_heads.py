"""The size of a model set alone: heads are chosen so that they divide it."""

from __future__ import annotations

import json

import pytest
from tests.setup.test_pretrained import write_reviews

from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.models import BertConfig
from regard.runs.run import train
from regard.setup.config import RunConfig


@pytest.mark.slow
def test_a_classifier_trains_with_its_size_set_alone(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    settings = ("model.dim=32", "training.epochs=1", "tokenizer.kind=byte")
    train(data, tmp_path / "model", settings=settings)
    model = ModelFolder(tmp_path / "model").read_config(RunConfig).model
    assert isinstance(model, BertConfig)
    assert (model.dim, model.num_heads, model.hidden_dim) == (32, 4, 512)
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "finished"


@pytest.mark.slow
def test_heads_that_somebody_set_and_do_not_divide_are_refused(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    with pytest.raises(ConfigError, match=r"dim must be a multiple of num_heads \(3\)|model\.dim"):
        train(data, tmp_path / "model", settings=("model.dim=32", "model.num_heads=3"))
