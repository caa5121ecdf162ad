"""Gated convolutions: torch's own as the oracle, causality, the cache."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import Full
from regard.layers.convolution import (
    ConvBlock,
    ConvDecoderBlock,
    ConvolutionalState,
    ConvolutionCache,
    GatedConvolution,
)
from regard.layers.dropout import Dropout

WIDTHS = [1, 2, 3, 5]


def build(width, *, is_causal):
    torch.manual_seed(0)
    return GatedConvolution(4, width, is_causal=is_causal).double()


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_it_computes_what_torchs_convolution_and_glu_do(width, is_causal):
    layer, x = build(width, is_causal=is_causal), draw(2, 6, 4)
    kernel = layer.window.weight.unflatten(1, (width, 4)).transpose(1, 2)  # [out, in, width]
    before = width - 1 if is_causal else (width - 1) // 2
    padded = F.pad(x.transpose(1, 2), (before, width - 1 - before))
    expected = F.glu(F.conv1d(padded, kernel, layer.window.bias), dim=1).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_causal_position_sees_its_window_only(width):
    layer, x = build(width, is_causal=True), draw(1, 9, 4)
    changed = x.clone()
    changed[:, 3] += 1.0
    differs = (layer(x) != layer(changed)).any(-1)[0].tolist()
    assert differs == [3 <= position < 3 + width for position in range(9)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("pieces", [[1] * 7, [3, 1, 3], [7], [1, 6]])
def test_pieces_with_a_cache_equal_the_whole(width, pieces):
    layer, x = build(width, is_causal=True), draw(2, 7, 4)
    cache = ConvolutionCache()
    found = torch.cat([layer(piece, cache) for piece in x.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(found, layer(x))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_cache_keeps_one_input_fewer_than_the_kernel_is_wide(width):
    layer, cache = build(width, is_causal=True), ConvolutionCache()
    for position in draw(2, 20, 4).split(1, dim=1):
        layer(position, cache)
        assert cache.inputs is not None
        assert cache.inputs.shape == (2, width - 1, 4)
        assert cache.inputs.untyped_storage().nbytes() == 2 * (width - 1) * 4 * 8


def test_a_cache_selects_rows():
    layer, x, cache = build(3, is_causal=True), draw(2, 4, 4), ConvolutionCache()
    cache.select(torch.tensor([0]))
    layer(x[:, :3], cache)
    rows = torch.tensor([1, 1, 0])
    cache.select(rows)
    torch.testing.assert_close(layer(x[rows, 3:], cache), layer(x)[rows, 3:])


@pytest.mark.slow
def test_first_and_second_derivatives_are_right():
    layer = build(3, is_causal=True)
    inputs = [draw(2, 4, 4).requires_grad_()]
    inputs += [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]

    def convolve(x, weight, bias):
        parameters = {"window.weight": weight, "window.bias": bias}
        return torch.func.functional_call(layer, parameters, (x,))

    assert gradcheck(convolve, inputs)
    assert gradgradcheck(convolve, inputs)


def test_a_stack_keeps_the_variance_of_its_input():
    torch.manual_seed(0)
    x = torch.randn(8, 50, 64) * 0.1  # small: gates half open, as the paper's variance assumes
    for _ in range(8):
        x = (x + GatedConvolution(64, 3, is_causal=True)(x)) * 0.5**0.5
    assert 0.005 < float(x.detach().var()) < 0.02


def no_dropout():
    return Dropout(0.0)


def test_a_block_that_reads_is_deaf_to_padding():
    block, x = ConvBlock(4, 3, no_dropout()).double(), draw(1, 5, 4)
    is_valid = torch.tensor([True, True, True, False, False])[None, :, None]
    torch.testing.assert_close(block(x, is_valid)[:, :3], block(x[:, :3]))


def test_a_block_that_writes_is_equation_1_of_the_paper_and_scaled_sums():
    torch.manual_seed(0)
    block = ConvDecoderBlock(4, 3, no_dropout(), Full()).double()
    x, tokens, source = draw(2, 3, 4), draw(2, 3, 4) + 1, draw(2, 5, 4) - 1
    state = ConvolutionalState(memory=(source, source), lengths=None)
    half, h = 0.5**0.5, block.convolution(x)
    weights = ((block.query(h) + tokens) * half @ source.mT).softmax(-1)
    expected = (x + (h + weights @ source * 5**0.5) * half) * half
    torch.testing.assert_close(block(x, tokens, state, ConvolutionCache()), expected)
