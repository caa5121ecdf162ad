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
