"""Muon against torch's implementation and the singular value decomposition."""

import math
import threading

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from regard.errors import ConfigError, ShapeError
from regard.optim import Muon, muon, orthogonalize
from regard.optim.matrix_sharing import MatrixSharing
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


SHARED = [(37, 53)] * 5 + [(11, 14)] * 3 + [(60, 7), (13, 13)]  # the rows begin at odd addresses


def take_steps(sharing=None, dtype=None):
    """Return matrices, and one without a gradient, after two steps."""
    generator = torch.Generator().manual_seed(1)
    matrices = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHARED]
    stacked = torch.nn.Parameter(torch.randn(9, 5, generator=generator))
    unused = torch.nn.Parameter(torch.ones(2, 2))
    groups = [{"params": [*matrices, unused]}, {"params": [stacked], "num_parts": 3}]
    optimizer = Muon(groups, lr=0.1, weight_decay=0.1, dtype=dtype, sharing=sharing)
    for _ in range(2):
        for parameter in (*matrices, stacked):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in (*matrices, stacked, unused)]


def steps_of_processes(number, dtype):
    """Return the matrices of each of several processes, which are threads here."""
    barrier, published = threading.Barrier(number, timeout=20), [None] * number
    results = [None] * number

    def run(index):
        def exchange(tensors):
            published[index] = tensors[index]
            barrier.wait()
            for tensor, value in zip(tensors, published, strict=True):
                tensor.copy_(value)
            barrier.wait()

        results[index] = take_steps(MatrixSharing(index, number, exchange, print), dtype)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_updates_that_processes_share_have_the_bits_of_one_process(dtype, monkeypatch):
    monkeypatch.setattr(muon, "_UNIT_FLOPS", 1 << 20)  # two or three matrices at a time
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = take_steps(dtype=dtype)
        for number in (1, 2, 3, 4):
            for matrices in steps_of_processes(number, dtype):
                assert all(map(torch.equal, matrices, alone))
    finally:
        torch.set_num_threads(num_threads)


def test_each_process_computes_the_updates_of_some_matrices(monkeypatch):
    costs = {}

    def count(matrices, *, num_steps):
        costs.setdefault(threading.current_thread(), []).append(tuple(matrices.shape))
        return orthogonalize(matrices, num_steps=num_steps)

    monkeypatch.setattr(muon, "orthogonalize", count)
    monkeypatch.setattr(muon, "_UNIT_FLOPS", 1)
    steps_of_processes(2, None)
    # The five largest are three and two; the process with two of them has all the others.
    large, small = [(1, 37, 53)], [(1, 11, 14)] * 3 + [(1, 60, 7), (1, 13, 13), (3, 3, 5)]
    expected = [sorted(2 * large * 3), sorted(2 * (2 * large + small))]
    assert sorted(map(sorted, costs.values())) == sorted(expected)


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


class Calls(TorchDispatchMode):
    """Counts what is asked of a device, views apart."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_same_of_a_device_for_few_matrices_of_a_shape_and_for_many():
    counts = []
    for number in (2, 9):
        matrices = [torch.nn.Parameter(draw(8, 12)) for _ in range(number)]
        optimizer = Muon(matrices, weight_decay=0.1)
        for matrix in matrices:
            matrix.grad = draw(8, 12)
        optimizer.step()  # makes the state
        with Calls() as calls:
            optimizer.step()
        counts.append(calls.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": -1.0}, ConfigError, "lr must be 0 or more, not -1.0"),
        ({"lr": math.nan}, ConfigError, "lr must be 0 or more, not nan"),
        ({"lr": "1e-3"}, ConfigError, "lr must be 0 or more, not '1e-3'"),
        ({"momentum": 1.0}, ConfigError, "momentum must be 0 to below 1, not 1.0"),
        ({"weight_decay": -0.1}, ConfigError, "weight_decay must be 0 or more, not -0.1"),
        ({"num_steps": 0}, ConfigError, "num_steps must be a whole number, 1 or more, not 0"),
        ({"num_parts": 0.5}, ConfigError, "num_parts must be a whole number, 1 or more, not 0.5"),
        ({"num_parts": 4}, ShapeError, "a matrix of 6 rows has no num_parts=4 maps of equal size."),
    ],
)
def test_a_setting_of_a_group_out_of_range_is_refused(settings, error, message):
    matrix = nn.Parameter(torch.ones(6, 4))
    with pytest.raises(error) as caught:
        Muon([{"params": [matrix], **settings}])
    assert str(caught.value) == message


def test_a_type_of_products_that_is_not_floating_point_is_refused():
    with pytest.raises(ConfigError) as caught:
        Muon([nn.Parameter(torch.ones(2, 2))], dtype=torch.int64)
    assert str(caught.value) == "dtype must be one of floating point of torch, not torch.int64"


def test_a_complex_matrix_is_refused():
    with pytest.raises(ConfigError) as caught:
        Muon([nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))])
    assert str(caught.value) == "a parameter is torch.complex64; Muon takes floating point alone."


def test_a_sparse_gradient_is_refused_before_anything_moves():
    table = nn.Embedding(5, 2, sparse=True)
    optimizer, before = Muon(table.parameters()), table.weight.detach().clone()
    table(torch.tensor([1, 3])).sum().backward()
    with pytest.raises(ConfigError, match=r"^a gradient is sparse, which Muon does not take\."):
        optimizer.step()
    assert torch.equal(table.weight, before)


def test_a_matrix_without_entries_stays():
    empty, matrix = nn.Parameter(torch.ones(0, 4)), nn.Parameter(torch.ones(3, 4))
    empty.grad, matrix.grad = torch.ones(0, 4), torch.ones(3, 4)
    Muon([empty, matrix]).step()
    assert empty.shape == (0, 4)
    assert (matrix < 1).all()


def test_a_state_that_is_loaded_is_apart_from_the_one_it_came_from():
    first, second = (nn.Parameter(torch.eye(2)) for _ in range(2))
    first.grad, second.grad = torch.ones(2, 2), torch.ones(2, 2)
    source, target = Muon([first]), Muon([second])
    source.step()
    target.load_state_dict(source.state_dict())
    before = source.state[first]["momentum_buffer"].clone()
    target.step()
    assert torch.equal(source.state[first]["momentum_buffer"], before)
