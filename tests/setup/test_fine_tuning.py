"""Every family tells its layers, and its last ones can be trained alone."""

from typing import Any

import msgspec
import pytest
import torch

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
from regard.setup.config import FineTuningConfig, RunConfig
from regard.setup.fine_tuning import freeze
from regard.setup.presets import (
    ENCODER_PRESETS,
    INPUT_PRESETS,
    LANGUAGE_MODEL_PRESETS,
    SEQ2SEQ_PRESETS,
)

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
