"""Dropout from the shared pool of random bits."""

import pytest
import torch

from regard.layers.dropout import Dropout, SharedDropoutMasks


def test_the_share_of_zeros_and_the_mean_are_as_asked():
    dropout = Dropout(0.25, SharedDropoutMasks(1))
    x = torch.ones(1000, 1000)
    out = dropout(x)
    # One million elements: three standard deviations of the share are 0.0013.
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.0014
    assert abs(float(out.mean()) - 1) < 0.002


def test_two_sites_get_masks_that_are_not_alike():
    masks = SharedDropoutMasks(1)
    first, second = (Dropout(0.5, masks)(torch.ones(100_000)) == 0 for _ in range(2))
    agreement = float((first == second).float().mean())
    assert abs(agreement - 0.5) < 0.01


def test_the_same_seed_gives_the_same_masks_whatever_came_before():
    masks = SharedDropoutMasks(1)
    dropout, x = Dropout(0.1, masks), torch.ones(64, 32)
    masks.reseed(7)
    first = [dropout(x), dropout(x)]
    dropout(torch.ones(3_000_000))
    masks.reseed(7)
    assert torch.equal(dropout(x), first[0])
    assert torch.equal(dropout(x), first[1])
    masks.reseed(8)
    assert not torch.equal(dropout(x), first[0])


def test_an_input_larger_than_the_pool_gets_a_mask_too():
    out = Dropout(0.5, SharedDropoutMasks(1))(torch.ones(5_000_000))
    assert abs(float((out == 0).float().mean()) - 0.5) < 0.001


def test_adding_to_a_residual_equals_dropping_then_adding():
    masks = SharedDropoutMasks(3)
    dropout, residual, x = Dropout(0.5, masks), torch.randn(8, 8), torch.randn(8, 8)
    masks.reseed(5)
    fused = dropout.add(residual, x)
    masks.reseed(5)
    torch.testing.assert_close(fused, residual + dropout(x))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation(rate):
    dropout, x = Dropout(rate, SharedDropoutMasks(1)).eval(), torch.randn(4, 4)
    assert torch.equal(dropout(x), x)
    assert torch.equal(dropout.add(x, x), x + x)


def test_the_gradient_passes_through_the_mask_that_was_used():
    dropout, x = Dropout(0.5, SharedDropoutMasks(1)), torch.ones(50, 50, requires_grad=True)
    out = dropout(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("rate", [1e-4, 0.0015, 0.0019, 0.9985, 0.999, 0.9999])
def test_rates_that_a_byte_would_round_to_0_or_1_are_kept(rate):
    x = torch.ones(1_000_000)
    out = Dropout(rate, SharedDropoutMasks(1))(x)
    deviation = (rate * (1 - rate) / len(x)) ** 0.5
    assert float((out == 0).double().mean()) == pytest.approx(rate, abs=5 * deviation)
    assert float(out.max()) == pytest.approx(1 / (1 - rate), rel=1e-4)


@pytest.mark.parametrize(("rate", "threshold"), [(0.002, 1), (0.1, 26), (0.998, 255)])
def test_other_rates_are_multiples_of_a_256th(rate, threshold):
    dropout = Dropout(rate, SharedDropoutMasks(1))
    assert (dropout.threshold, dropout.num_levels) == (threshold, 256)


@pytest.mark.parametrize("rate", [1e-12, 1 - 1e-12])
def test_the_most_extreme_rates_are_neither_off_nor_a_division_by_zero(rate):
    dropout = Dropout(rate, SharedDropoutMasks(1))
    assert dropout.is_active
    assert torch.isfinite(dropout(torch.ones(100))).all()
