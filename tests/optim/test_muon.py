"""Muon against torch's implementation and the singular value decomposition."""

import pytest
import torch

from regard.errors import ShapeError
from regard.optim import Muon, orthogonalize
from regard.optim.muon import _iterate, _iterate_gram


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 30), (2, 30, 6), (1, 80, 4)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrices = draw(*shape)
    orthogonal = orthogonalize(matrices)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonal @ vh.mT
    values = inner.diagonal(dim1=1, dim2=2)
    is_large = s > 0.05 * s[:, :1]
    assert ((values > 0.6) & (values < 1.3))[is_large].all()
    torch.testing.assert_close(inner, torch.diag_embed(values), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iterating_the_gram_matrix_gives_the_same_as_iterating_the_matrix(dtype):
    x = draw(2, 16, 200, dtype=dtype)
    x[:, 8:] *= 1e-3  # small singular values grow fastest, and their rounding errors with them
    x = x / torch.linalg.matrix_norm(x, keepdim=True)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-2
    torch.testing.assert_close(_iterate_gram(x, 5), _iterate(x, 5), atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(6, 10), (64, 256), (256, 64), (600, 20)])
def test_several_steps_equal_those_of_torch(shape):
    ours = torch.nn.Parameter(draw(*shape, dtype=torch.float32))
    theirs = torch.nn.Parameter(ours.detach().clone())
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    first = Muon([ours], **settings, dtype=torch.bfloat16)
    second = torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient, gradient.clone()
        first.step()
        second.step()
    # Both iterate in bfloat16 (8 bits), in another order of operations.
    torch.testing.assert_close(ours, theirs, atol=3 * 0.02 * 0.02, rtol=0)


def test_stacked_parts_are_orthogonalised_one_by_one():
    whole = torch.nn.Parameter(torch.zeros(9, 3))
    parts = [torch.nn.Parameter(torch.zeros(3, 3)) for _ in range(3)]
    gradient = draw(9, 3, dtype=torch.float32)
    whole.grad = gradient
    for part, rows in zip(parts, gradient.chunk(3), strict=True):
        part.grad = rows
    Muon([{"params": [whole], "num_parts": 3}], lr=0.1).step()
    Muon(parts, lr=0.1).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]))


def test_the_state_restores_the_run_bit_for_bit():
    def run(optimizer, parameter, steps):
        for step in steps:
            parameter.grad = torch.full((4, 4), 0.1 * step) + torch.eye(4)
            optimizer.step()

    straight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([straight], lr=0.1)
    run(optimizer, straight, range(6))
    resumed = torch.nn.Parameter(torch.ones(4, 4))
    first = Muon([resumed], lr=0.1)
    run(first, resumed, range(3))
    second = Muon([resumed], lr=0.1)
    second.load_state_dict(first.state_dict())
    run(second, resumed, range(3, 6))
    assert torch.equal(straight, resumed)


def test_a_vector_is_refused():
    with pytest.raises(ShapeError, match=r"shape \[4\] is not a matrix; Muon takes matrices only"):
        Muon([torch.nn.Parameter(torch.zeros(4))])
