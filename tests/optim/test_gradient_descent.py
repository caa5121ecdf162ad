"""Gradient descent: each rule for the step against its formula."""

import itertools

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.optim import GradientDescent


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


WEIGHTS = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)


def bowl(x):
    return 0.5 * (WEIGHTS * x * x).sum()


def closure_of(fun, *tensors):
    def closure():
        loss = fun(*tensors)
        loss.backward()
        return loss

    return closure


def parameter():
    return torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))


def test_fixed_steps_are_those_of_sgd():
    ours, theirs = parameter(), parameter()
    first, second = GradientDescent([ours], step=0.05), torch.optim.SGD([theirs], lr=0.05)
    for _ in range(5):
        first.step(closure_of(bowl, ours))
        second.zero_grad()
        second.step(closure_of(bowl, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)
    assert first.last.step_size == 0.05


def test_a_fixed_step_is_taken_uphill_too():
    x = parameter()
    optimizer = GradientDescent([x], step=1.0)
    before = float(bowl(x.detach()))
    assert optimizer.step(closure_of(bowl, x)) > before
    assert optimizer.last.failure == ""


def test_a_fixed_step_out_of_the_finite_is_taken_back_bit_for_bit():
    x = parameter()
    before = x.detach().clone()
    optimizer = GradientDescent([x], step=1e200)
    optimizer.step(closure_of(bowl, x))
    expected = "the function is not finite after the step: take a smaller one"
    assert optimizer.last.failure == expected
    assert torch.equal(x, before)


def test_armijo_decreases_the_value_at_every_step():
    x = parameter()
    optimizer = GradientDescent([x], step="armijo")
    values = [optimizer.step(closure_of(bowl, x)) for _ in range(30)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


def test_armijo_begins_at_twice_the_last_step():
    x = parameter()
    optimizer = GradientDescent([x], step="armijo")
    optimizer.step(closure_of(bowl, x))
    step = optimizer.last.step_size
    optimizer.step(closure_of(bowl, x))
    assert optimizer.last.step_size == 2 * step


def test_steps_of_barzilai_and_borwein_are_their_quotient():
    x = parameter()
    optimizer = GradientDescent([x])
    points, slopes, steps = [], [], []
    for _ in range(8):
        points.append(x.detach().clone())
        slopes.append(WEIGHTS * x.detach())
        optimizer.step(closure_of(bowl, x))
        steps.append(optimizer.last.step_size)
    for k in range(1, 8):
        s, y = points[k] - points[k - 1], slopes[k] - slopes[k - 1]
        assert steps[k] == pytest.approx(float(s @ s / (s @ y)), rel=1e-6)


def test_barzilai_and_borwein_may_rise_but_not_above_the_greatest_of_the_last_ten():
    x = nn.Parameter(torch.ones(30, dtype=torch.float64))
    weights = torch.logspace(0, 2, 30, dtype=torch.float64)
    optimizer = GradientDescent([x])
    values = [float(0.5 * weights.sum())]
    for _ in range(80):
        values.append(optimizer.step(closure_of(lambda x: 0.5 * (weights * x * x).sum(), x)))
        assert values[-1] <= max(values[-11:-1])
    assert any(later > earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] < 1e-4


def test_a_step_without_curvature_is_followed_by_a_longer_one():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = GradientDescent([x])
    optimizer.step(closure_of(lambda x: 1 - x.sum(), x))
    first = optimizer.last.step_size
    optimizer.step(closure_of(lambda x: 1 - x.sum(), x))
    assert optimizer.last.step_size > first


def test_a_group_with_a_scale_moves_by_its_square():
    x = parameter()
    scaled = GradientDescent([{"params": [x], "scale": 3.0}], step=0.01)
    before, slope = x.detach().clone(), WEIGHTS * x.detach()
    scaled.step(closure_of(bowl, x))
    torch.testing.assert_close(x.detach(), before - 0.01 * 9 * slope)


@pytest.mark.parametrize("rule", ["armijo", "barzilai-borwein"])
def test_a_group_with_a_scale_equals_a_substitution_of_variables(rule):
    x, z = parameter(), torch.nn.Parameter(parameter().detach() / 4)
    scaled = GradientDescent([{"params": [x], "scale": 4.0}], step=rule)
    plain = GradientDescent([z], step=rule)
    for _ in range(10):
        scaled.step(closure_of(bowl, x))
        plain.step(closure_of(lambda z: bowl(4 * z), z))
        assert torch.equal(x, 4 * z)


def test_a_zero_gradient_is_a_failure_that_leaves_the_parameters():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = GradientDescent([x])
    optimizer.step(closure_of(bowl, x))
    assert optimizer.last.failure == "the gradient is zero"
    assert x.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("step", ["wolfe", 0.0, -1.0, float("nan")])
def test_an_unknown_step_lists_the_known_ones(step):
    with pytest.raises(ConfigError) as error:
        GradientDescent([parameter()], step=step)
    expected = f"step must be armijo, barzilai-borwein or a number above 0, not {step!r}"
    assert str(error.value) == expected
