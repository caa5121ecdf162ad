"""Cumulative sums are those of PyTorch, by the method for a GPU that repeats its bits, too."""

from __future__ import annotations

import pytest
import torch
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.attention.cumulative_sum import cumulative_sum


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("shape", [(3, 1, 2), (2, 5, 3), (1, 64, 1), (2, 65, 2), (2, 0, 2)])
@pytest.mark.parametrize("dim", [1, -2])
def test_values_and_gradients_are_those_of_pytorch(deterministic, shape, dim):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    with PretendedGpu():
        for device in ("cpu", DEVICE):
            leaf = x.to(device).requires_grad_()
            sums = cumulative_sum(leaf, dim)
            (gradient,) = torch.autograd.grad(sums.square().sum(), leaf)
            results.append((sums.detach().cpu(), gradient.cpu()))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_minus_infinity_stays(deterministic):
    x = torch.tensor([1.0, -torch.inf, 2.0, -torch.inf, 3.0])
    with PretendedGpu():
        sums = cumulative_sum(x.to(DEVICE), 0).tolist()
    assert sums == [1.0, -torch.inf, -torch.inf, -torch.inf, -torch.inf]


def test_the_device_refuses_pytorchs_own_method(deterministic):
    with PretendedGpu(), pytest.raises(RuntimeError, match="cumsum does not have a determ"):
        torch.ones(3).to(DEVICE).cumsum(0)
