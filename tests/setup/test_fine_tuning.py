"""Fine-tuning: the last layers of every family alone, and weights with and without copying."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace

from regard.hub.model_folder import ModelFolder
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    Classifier,
    Encoder,
    TransformerConfig,
    Vit,
    VitConfig,
)
from regard.setup.build import build_model
from regard.setup.config import FineTuningConfig, RunConfig
from regard.setup.fine_tuning import freeze, load_pretrained
from regard.setup.presets import (
    ENCODER_PRESETS,
    INPUT_PRESETS,
    LANGUAGE_MODEL_PRESETS,
    SEQ2SEQ_PRESETS,
)
from regard.tasks import TASKS

PRESETS = INPUT_PRESETS | ENCODER_PRESETS | LANGUAGE_MODEL_PRESETS | SEQ2SEQ_PRESETS
IDS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, 0]])
ROLES = [
    *((name, role) for name in DECODERS for role in ["decoder"]),
    *((name, role) for name in ENCODERS for role in ["encoder", "classifier"]),
    *((name, role) for name in ENCODER_DECODERS for role in ["both"]),
]


def make(name: str, role: str) -> Any:
    """Make a small model with two layers a side."""
    torch.manual_seed(1)
    config, sizes = PRESETS[name]["tiny"].model, {"dim": 16, "num_heads": 2, "hidden_dim": 32}
    sizes |= {"num_layers": 2, "num_encoder_layers": 2, "num_decoder_layers": 2}

    def shrunk(config: Any) -> Any:
        known = {name: size for name, size in sizes.items() if name in config.__struct_fields__}
        sides = {
            name: shrunk(value)
            for name, value in msgspec.structs.asdict(config).items()
            if name in ("encoder", "decoder")
        }
        config = msgspec.structs.replace(config, **known, **sides)
        if isinstance(config, TransformerConfig) and role != "both":
            return msgspec.structs.replace(config, has_copy=False)  # it has no source
        return config

    families = {"decoder": DECODERS, "both": ENCODER_DECODERS}.get(role, ENCODERS)
    model = families[name].model(shrunk(config), 20, AttentionConfig())
    if role == "classifier":
        assert isinstance(model, Encoder)
        model.drop_head()
        return Classifier(model, 2)
    return model


def trained_after(model: Any, layers: int) -> set[str]:
    """Name the parameters that get a gradient."""
    tuning = FineTuningConfig(method="last", layers=layers)
    freeze(model, RunConfig(fine_tuning=tuning))
    two_sides = hasattr(model, "decoder")
    (model(IDS, IDS) if two_sides else model(IDS)).float().square().sum().backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_the_last_layer_alone_learns(name, role):
    model = make(name, role)
    layers = model.layers()
    assert len(layers) == model.num_blocks
    shared = {id(parameter) for layer in layers[:-1] for parameter in layer.parameters()}
    inside = {id(parameter) for parameter in layers[-1].parameters()} - shared
    wanted = {key for key, parameter in model.named_parameters() if id(parameter) in inside}
    if role == "classifier":
        wanted |= {"output_weight", "output_bias"}
        wanted |= {key for key, _ in model.named_parameters() if ".pooler." in key}
    if role == "both":
        assert all(key.startswith("decoder") for key in wanted)
        wanted |= {key for key, _ in model.named_parameters() if key.startswith("copy_head.")}
    assert trained_after(model, 1) == wanted


def test_more_layers_than_there_are_means_all_of_them():
    model = make("gpt", "decoder")
    assert {name.split(".")[1] for name in trained_after(model, 5)} == {"0", "1"}


def test_the_last_layer_and_the_head_of_a_vision_transformer_learn():
    sizes: dict[str, Any] = {"num_layers": 2, "dim": 16, "num_heads": 2, "hidden_dim": 32}
    model = Vit(VitConfig(height=8, width=8, patch_height=4, patch_width=4, channels=1, **sizes))
    freeze(model, RunConfig(fine_tuning=FineTuningConfig(method="last")))
    chosen = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("blocks.1.", "head.")) for name in chosen)
    assert {"head.weight", "blocks.1.feed_forward.inner.weight"} <= chosen


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
