"""Linear maps as tools see them."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.layers import Linear, add_low_rank, use_plain_linears
from regard.models import Gpt, GptConfig, LstmConfig, LstmEncoderDecoder

IDS = torch.tensor([[5, 6, 7, 8]])


def gpt() -> Gpt:
    torch.manual_seed(0)
    return Gpt(GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=16), 20).eval()


def test_a_map_is_an_nn_linear_with_its_facts():
    layer = Linear(4, 6, bias=False)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features, layer.bias) == (4, 6, None)
    assert set(layer.state_dict()) == {"weight"}


def test_initial_weights_can_be_drawn_again():
    layer = Linear(400, 200, num_splits=2, init_scale=0.5)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.ones_(layer.bias)
    layer.reset_parameters()
    bound = 0.5 * (6 / (400 + 100)) ** 0.5
    assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(layer.bias.detach().abs().max()) == 0


def test_plain_maps_share_the_weights_and_give_the_same():
    model = gpt()
    before, names = model(IDS), list(model.state_dict())
    weight = model.blocks[0].feed_forward.inner.weight
    use_plain_linears(model)
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    assert model.blocks[0].feed_forward.inner.weight is weight
    assert list(model.state_dict()) == names
    assert torch.equal(model(IDS), before)


def test_a_recurrent_layer_keeps_its_maps():
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim": 8}
    model = LstmEncoderDecoder(LstmConfig(**sizes), 20).eval()
    before = model(IDS, IDS)
    use_plain_linears(model)
    assert type(model.readout) is nn.Linear
    assert type(model.decoder[0].input) is Linear
    assert torch.equal(model(IDS, IDS), before)


def test_an_adapted_map_is_not_made_plain():
    model = gpt()
    add_low_rank(model, rank=2, alpha=4.0)
    with pytest.raises(ConfigError, match=r"is adapted.  Merge its change first."):
        use_plain_linears(model)


def test_dynamic_quantization_finds_plain_maps():
    model = gpt()
    before = model(IDS)
    use_plain_linears(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates it in favour of another package
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        after = quantized(IDS)
    dynamic = torch.ao.nn.quantized.dynamic.Linear
    assert len([m for m in quantized.modules() if isinstance(m, dynamic)]) == 4
    assert float((after - before).detach().abs().max()) < 0.05 * float(before.detach().abs().max())
