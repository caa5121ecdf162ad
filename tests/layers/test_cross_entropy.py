"""The fused linear map and cross-entropy against torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from regard.errors import ConfigError, ShapeError
from regard.layers import cross_entropy
from regard.layers.cross_entropy import linear_cross_entropy, mixture_cross_entropy


def draw(rows=7, dim=5, vocab=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(rows, dim, generator=generator, dtype=dtype)
    weight = torch.randn(vocab, dim, generator=generator, dtype=dtype)
    targets = torch.randint(vocab, (rows,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.fixture(params=[0.0, 0.1])
def smoothing(request):
    return request.param


@pytest.fixture(params=[1, 3, 100])
def chunk_rows(request, monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", request.param * 11)


@pytest.mark.usefixtures("chunk_rows")
def test_value_and_gradient_equal_those_of_torch(smoothing):
    hidden, weight, targets = draw()
    loss, plain = linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing)
    found = torch.autograd.grad(loss, (hidden, weight))
    logits = hidden @ weight.T
    wanted = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(plain, F.cross_entropy(logits, targets), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(found, torch.autograd.grad(wanted, (hidden, weight)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_first_and_second_derivatives_pass_the_checks(smoothing):
    hidden, weight, targets = draw()

    def run(hidden, weight):
        return linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing)[0]

    assert gradcheck(run, (hidden, weight), check_forward_ad=True)
    assert gradgradcheck(run, (hidden, weight))


def test_the_jvp_equals_the_gradient_times_the_tangent(smoothing):
    hidden, weight, targets = (t.detach() for t in draw())
    tangents = torch.randn_like(hidden), torch.randn_like(weight)

    def ours(hidden, weight):
        return linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing)[0]

    def theirs(hidden, weight):
        return F.cross_entropy(hidden @ weight.T, targets, label_smoothing=smoothing)

    _, found = torch.func.jvp(ours, (hidden, weight), tangents)
    _, wanted = torch.func.jvp(theirs, (hidden, weight), tangents)
    torch.testing.assert_close(found, wanted)


def test_a_hessian_vector_product_equals_that_of_torch():
    hidden, weight, targets = draw()
    direction = torch.randn_like(weight)

    def product(loss):
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        return torch.autograd.grad((gradient * direction).sum(), (hidden, weight))

    ours = product(linear_cross_entropy(hidden, weight, targets, label_smoothing=0.1)[0])
    theirs = product(F.cross_entropy(hidden @ weight.T, targets, label_smoothing=0.1))
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_bfloat16_states_with_float32_weights_stay_close_to_the_exact_value():
    hidden, weight, targets = draw(rows=64, dim=32, vocab=300, dtype=torch.float32)
    half = hidden.detach().bfloat16().requires_grad_()
    loss, plain = linear_cross_entropy(half, weight, targets, label_smoothing=0.1)
    exact = F.cross_entropy(hidden @ weight.T, targets, label_smoothing=0.1)
    loss.backward()
    assert loss.dtype == plain.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
    # bfloat16 keeps 8 bits: single logits of size 10 are off by up to 0.03, their mean by less.
    assert abs(float((loss - exact).detach())) < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_whose_probability_underflows_have_a_finite_loss(dtype, smoothing):
    hidden, weight, targets = draw(dtype=dtype)
    with torch.no_grad():
        hidden *= 2000.0
    loss, plain = linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing)
    logits = hidden @ weight.T
    assert float(logits.detach().softmax(-1).gather(1, targets[:, None]).min()) == 0
    wanted = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(plain, F.cross_entropy(logits, targets))


def test_rows_without_a_target_of_their_own_are_refused():
    hidden, weight = torch.randn(4, 6), torch.randn(5, 6)
    with pytest.raises(ShapeError) as caught:
        linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2]))
    assert str(caught.value) == "targets has shape [3]; expected [4]."
    with pytest.raises(ShapeError) as caught:
        linear_cross_entropy(hidden[:, :5], weight, torch.tensor([0, 1, 2, 3]))
    assert str(caught.value) == (
        "hidden has shape [4, 5], weight [5, 6]; expected [rows, dim] and [vocab, dim]."
    )
    with pytest.raises(ShapeError) as caught:
        mixture_cross_entropy(
            hidden, weight, torch.zeros(4).long(), torch.zeros(4), torch.zeros(4, 1)
        )
    assert str(caught.value) == "log_copy has shape [4, 1]; expected [4]."


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_a_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ConfigError) as caught:
        linear_cross_entropy(
            torch.randn(2, 3), torch.randn(4, 3), torch.tensor([0, 1]), label_smoothing=smoothing
        )
    assert str(caught.value) == f"label_smoothing must be at least 0 and below 1, not {smoothing}"
