from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.patch_embedding import InputEmbedding, Patches


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def patches(dim=5, channels=2, height=2, width=3) -> Patches:
    torch.manual_seed(0)
    return Patches(dim, channels=channels, height=height, width=width).double()


def features(num_positions=6, *, rate=0.0, has_class_token=False) -> InputEmbedding:
    torch.manual_seed(0)
    dropout = Dropout(rate)
    return InputEmbedding(
        Linear(3, 4), 4, num_positions, has_class_token=has_class_token, dropout=dropout
    ).double()


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 4, 4), (3, 2, 5), (2, 1, 2)])
def test_patches_are_those_of_a_convolution(channels, height, width):
    layer = patches(7, channels, height, width)
    torch.nn.init.normal_(layer.bias)
    pixels = draw(2, channels, 3 * height, 2 * width)
    expected = F.conv2d(pixels, layer.weight, layer.bias, stride=(height, width))
    torch.testing.assert_close(layer(pixels), expected.flatten(2).mT)


def test_patches_stand_row_by_row():
    layer = patches(1, 1, 2, 2)
    torch.nn.init.constant_(layer.weight, 0.25)
    pixels = torch.arange(6.0).double().view(2, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert layer(pixels[None, None]).flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_patches_have_first_and_second_derivatives():
    layer, pixels = patches(), draw(1, 2, 4, 3).requires_grad_()
    assert gradcheck(layer, (pixels,))
    assert gradgradcheck(layer, (pixels,))


def test_rows_are_mapped_and_positions_added():
    layer, x = features(), draw(2, 5, 3)
    projection = layer.projection
    expected = x @ projection.weight.mT + projection.bias + layer.positions[0, :5]
    torch.testing.assert_close(layer(x), expected)


def test_a_class_token_stands_before_the_rows():
    layer, x = features(has_class_token=True), draw(2, 5, 3)
    torch.nn.init.normal_(layer.class_token)
    embedded = layer(x)
    assert embedded.shape == (2, 6, 4)
    first = (layer.class_token + layer.positions[:, :1])[0, 0]
    torch.testing.assert_close(embedded[:, 0], first.expand(2, -1))
    torch.testing.assert_close(embedded[:, 1:], layer.projection(x) + layer.positions[:, 1:6])


@pytest.mark.parametrize("has_class_token", [False, True])
def test_rows_past_the_last_position_count_as_the_last(has_class_token):
    layer = features(3, has_class_token=has_class_token)
    embedded = layer(torch.zeros(1, 9, 3, dtype=torch.float64))[0, has_class_token:]
    last = layer.positions[0, -1]
    torch.testing.assert_close(embedded[2:], last.expand(7, -1))
    assert not torch.allclose(embedded[1], last)


def test_no_rows_are_an_empty_sequence():
    assert features()(torch.zeros(2, 0, 3, dtype=torch.float64)).shape == (2, 0, 4)
    with_token = features(has_class_token=True)
    assert with_token(torch.zeros(2, 0, 3, dtype=torch.float64)).shape == (2, 1, 4)


def test_it_computes_in_the_type_of_its_input():
    layer = features(has_class_token=True).float()
    embedded = layer(torch.zeros(1, 2, 3, dtype=torch.bfloat16))
    assert embedded.dtype == torch.bfloat16
    embedded.sum().backward()
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}


def test_dropout_is_on_in_training_only():
    layer = features(rate=0.5)
    x = draw(2, 5, 3)
    assert int((layer(x) == 0).sum()) > 0
    assert torch.equal(layer.eval()(x), layer(x))
    assert int((layer(x) == 0).sum()) == 0
