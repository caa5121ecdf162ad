"""Low-rank changes of linear maps."""

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.layers.linear import Linear
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models.gpt.model import Gpt, GptConfig

IDS = torch.tensor([[1, 5, 6, 7], [2, 3, 4, 8]])


def build():
    torch.manual_seed(0)
    return Gpt(GptConfig(num_layers=2, dim=16, num_heads=2, hidden_dim=32, dropout=0.0), 20).eval()


def test_an_adapted_model_begins_as_it_was():
    model = build()
    before = model(IDS)
    add_low_rank(model, rank=4, alpha=8.0)
    assert torch.equal(model(IDS), before)


def test_every_linear_map_is_adapted_with_few_numbers():
    model = build()
    add_low_rank(model, rank=2, alpha=8.0)
    maps = [module for module in model.modules() if isinstance(module, Linear)]
    assert all(module.adaptation is not None for module in maps)
    added = sum(p.numel() for name, p in model.named_parameters() if ADAPTED in name)
    assert added == sum(2 * sum(module.weight.shape) for module in maps)


def test_a_merged_model_equals_the_adapted_one():
    model, plain = build(), build()
    add_low_rank(model, rank=3, alpha=5.0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ADAPTED in name:
                parameter.normal_(std=0.3)
    merged = merge_low_rank(dict(model.named_parameters()), alpha=5.0)
    assert set(merged) == {name for name, _ in plain.named_parameters()}
    plain.load_state_dict(merged, strict=False)
    assert not torch.allclose(plain(IDS), build()(IDS))
    torch.testing.assert_close(plain(IDS), model(IDS), rtol=1e-5, atol=1e-6)


def test_the_change_has_at_most_its_rank():
    model = build()
    before = model.blocks[0].feed_forward.inner.weight.detach().clone()
    add_low_rank(model, rank=3, alpha=5.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ADAPTED in name:
                parameter.normal_()
    merged = merge_low_rank(dict(model.named_parameters()), alpha=5.0)
    change = merged["blocks.0.feed_forward.inner.weight"] - before
    assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) == 3


def test_adapters_have_the_type_of_their_weights():
    model = build().double()
    add_low_rank(model, rank=2, alpha=4.0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Embedding(3, 4), "the model has no linear map to adapt.  Train all of its weights."),
        (
            nn.Sequential(Linear(4, 4), nn.Linear(4, 4)),
            "1 is a torch.nn.Linear, which cannot be adapted.  Build it as regard.layers.Linear.",
        ),
    ],
)
def test_a_model_whose_maps_cannot_be_adapted_is_refused_whole(model, message):
    with pytest.raises(ConfigError) as error:
        add_low_rank(model, rank=2, alpha=4.0)
    assert str(error.value) == message
    assert not any(ADAPTED in name for name, _ in model.named_parameters())


def test_a_model_is_adapted_once_and_with_a_rank():
    model = build()
    with pytest.raises(ConfigError, match="rank must be a whole number, 1 or more, not 0"):
        add_low_rank(model, rank=0, alpha=4.0)
    add_low_rank(model, rank=2, alpha=4.0)
    with pytest.raises(ConfigError, match=r"is adapted already\.  Merge its change first"):
        add_low_rank(model, rank=2, alpha=4.0)
