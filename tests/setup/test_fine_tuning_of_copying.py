"""Weights without a copy mechanism in a model with one, and the other way round."""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace

from regard.hub.model_folder import ModelFolder
from regard.setup.build import build_model
from regard.setup.config import FineTuningConfig, RunConfig
from regard.setup.fine_tuning import load_pretrained
from regard.tasks import TASKS


def build(folder, *, has_copy: bool, method: str = "all"):
    """Return a model of the sizes in a folder, and the settings that start from it."""
    config = ModelFolder(folder).read_config(RunConfig)
    config = replace(
        config,
        start_from=str(folder),
        model=replace(config.model, has_copy=has_copy),
        fine_tuning=FineTuningConfig(method=method),
    )
    vocab_size = len(ModelFolder(folder).read_weights()["output_weight"])
    return build_model(config, vocab_size, TASKS["translation"]), config


def test_a_new_mechanism_starts_at_random_and_is_named(trained, monkeypatch):
    model, config = build(trained, has_copy=True)
    weights = ModelFolder(trained).read_weights()
    plain = {name: weights[name] for name in weights if not name.startswith("copy_head.")}
    monkeypatch.setattr(ModelFolder, "read_weights", lambda _: plain)
    before = model.copy_head.query.weight.detach().clone()
    note = load_pretrained(model, config)
    assert note == f"The copy mechanism is new: {trained} has none."
    assert torch.equal(model.copy_head.query.weight, before)
    assert torch.equal(model.encoder_norm.weight, weights["encoder_norm.weight"])


def test_a_mechanism_of_the_weights_is_kept_or_left_out_by_name(trained, monkeypatch):
    model, config = build(trained, has_copy=True)
    monkeypatch.setattr(
        ModelFolder,
        "read_weights",
        lambda _: {name: tensor + 1 for name, tensor in model.state_dict().items()},
    )
    other, _ = build(trained, has_copy=True)
    assert load_pretrained(other, config) == ""
    assert torch.equal(other.copy_head.key.weight, model.copy_head.key.weight + 1)
    plain, config = build(trained, has_copy=False)
    assert load_pretrained(plain, config) == f"The copy mechanism of {trained} is left out."


@pytest.mark.parametrize("method", ["lora", "last"])
def test_every_method_trains_the_whole_mechanism(trained, method):
    model, _ = build(trained, has_copy=True, method=method)
    assert all(parameter.requires_grad for parameter in model.copy_head.parameters())
    assert not model.encoder_norm.weight.requires_grad
