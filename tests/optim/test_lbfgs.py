"""L-BFGS: its matrix against the explicit one, its ends, its groups."""

import pytest
import torch

from regard.errors import ConfigError
from regard.optim import LBFGS, minimize
from regard.optim.limited_memory import LimitedMemory
from regard.optim.linear_cg import plain_dot


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def positive(size, seed=0):
    half = draw(size, size, seed=seed)
    return half @ half.T + torch.eye(size, dtype=torch.float64)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(fun, *tensors):
    def closure():
        loss = fun(*tensors)
        loss.backward()
        return loss

    return closure


def memory_of(pairs, count):
    memory = LimitedMemory(count, plain_dot, {})
    for step, change in pairs:
        memory.add(step, 1.0, change)
    return memory


def explicit_inverse(pairs, first):
    """Update an inverse Hessian by BFGS, pair by pair (Nocedal & Wright, equation 6.17)."""
    inverse, identity = first, torch.eye(len(first), dtype=torch.float64)
    for s, y in pairs:
        rho = 1 / (y @ s)
        left = identity - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    return inverse


def curved_pairs(count, size=6):
    matrix = positive(size)
    steps = [draw(size, seed=10 + number) for number in range(count)]
    return [(step, matrix @ step) for step in steps]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_product_is_that_of_the_explicit_bfgs_matrix(count):
    pairs = curved_pairs(count)
    s, y = pairs[-1]
    first = (s @ y) / (y @ y) * torch.eye(6, dtype=torch.float64)
    gradient = draw(6, seed=99)
    found = memory_of(pairs, 10).inverse_product(gradient, None)
    torch.testing.assert_close(found, explicit_inverse(pairs, first) @ gradient)


def test_a_preconditioner_is_the_first_matrix_scaled_to_the_newest_pair():
    pairs, diagonal = curved_pairs(3), torch.logspace(0, 1, 6).double()
    s, y = pairs[-1]
    first = (s @ y) / (y @ (diagonal * y)) * torch.diag(diagonal)
    gradient = draw(6, seed=99)
    found = memory_of(pairs, 10).inverse_product(gradient, diagonal.mul)
    torch.testing.assert_close(found, explicit_inverse(pairs, first) @ gradient)


def test_the_oldest_pairs_are_dropped():
    pairs, gradient = curved_pairs(5), draw(6, seed=99)
    kept = memory_of(pairs, 2)
    expected = memory_of(pairs[-2:], 2).inverse_product(gradient, None)
    assert len(kept) == 2
    torch.testing.assert_close(kept.inverse_product(gradient, None), expected)


def test_the_secant_equation_holds_for_the_newest_pair():
    pairs = curved_pairs(4)
    step, change = pairs[-1]
    torch.testing.assert_close(memory_of(pairs, 4).inverse_product(change, None), step)


@pytest.mark.parametrize("curvature", [0.0, -1.0, float("nan")])
def test_a_pair_without_positive_curvature_is_not_kept(curvature):
    memory = LimitedMemory(3, plain_dot, {})
    step = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert not memory.add(step, 1.0, torch.tensor([curvature, 5.0], dtype=torch.float64))
    assert len(memory) == 0


def test_the_length_of_a_step_counts():
    direction, change = draw(6), positive(6) @ draw(6)
    short, long = LimitedMemory(3, plain_dot, {}), LimitedMemory(3, plain_dot, {})
    short.add(direction, 0.25, change)
    long.add(0.25 * direction, 1.0, change)
    gradient = draw(6, seed=9)
    torch.testing.assert_close(
        short.inverse_product(gradient, None), long.inverse_product(gradient, None)
    )


def test_the_share_inside_the_span_of_the_steps_is_that_of_the_projection():
    pairs = curved_pairs(5)
    memory, vector = memory_of(pairs, 3), draw(6, seed=50)
    basis = torch.linalg.qr(torch.stack([step for step, _ in pairs[-3:]], 1))[0]
    expected = (basis.T @ vector).norm() / vector.norm()
    assert memory.share_inside(vector) == pytest.approx(float(expected), rel=1e-6)
    assert memory.share_inside(pairs[-1][0]) == pytest.approx(1.0, rel=1e-6)


def test_the_arguments_are_left_as_they_are():
    pairs, gradient = curved_pairs(3), draw(6, seed=5)
    before = gradient.clone()
    memory = memory_of(pairs, 3)
    memory.inverse_product(gradient, None)
    assert torch.equal(gradient, before)


@pytest.mark.parametrize("search", ["strong-wolfe", "hager-zhang", "armijo"])
def test_every_search_reaches_the_minimum(search):
    found = minimize(
        rosenbrock,
        torch.tensor([-1.2, 1.0, -1.2, 1.0], dtype=torch.float64),
        method=lambda x: LBFGS(x, search=search, checks_noise=False),
    )
    assert found.success, found.message


def test_it_needs_fewer_evaluations_than_torchs_where_both_arrive():
    x0 = torch.tensor([-1.2, 1.0] * 5, dtype=torch.float64)
    ours = minimize(rosenbrock, x0, method="lbfgs", memory=10)
    x, calls = torch.nn.Parameter(x0.clone()), []
    theirs = torch.optim.LBFGS(
        [x], history_size=10, max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure():
        theirs.zero_grad()
        calls.append(1)
        return closure_of(rosenbrock, x)()

    theirs.step(closure)
    assert ours.success
    assert ours.nfev <= 1.5 * len(calls)
    torch.testing.assert_close(ours.x, x.detach(), atol=1e-5, rtol=0)


def test_the_first_step_tells_why_it_is_the_steepest_descents():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = LBFGS([x])
    optimizer.step(closure_of(rosenbrock, x))
    assert optimizer.last.restart_reason == "nothing is known of the curvature"
    optimizer.step(closure_of(rosenbrock, x))
    assert optimizer.last.restart_reason == ""


def test_a_zero_gradient_is_a_failure_that_leaves_the_parameters():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = LBFGS([x])
    assert optimizer.step(closure_of(rosenbrock, x)) == 0.0
    assert optimizer.last.failure == "the gradient is zero"
    assert x.tolist() == [1.0, 1.0]


def test_a_group_with_a_scale_equals_a_substitution_of_variables():
    first, second = draw(3), draw(2, seed=1)

    def fun(a, b):
        return rosenbrock(torch.cat([a, b]))

    a, b = torch.nn.Parameter(first.clone()), torch.nn.Parameter(second.clone())
    scaled = LBFGS([{"params": [a], "scale": 8.0}, {"params": [b], "scale": 0.25}])
    u, v = torch.nn.Parameter(first / 8), torch.nn.Parameter(second * 4)
    plain = LBFGS([u, v])
    for _ in range(15):
        scaled.step(closure_of(fun, a, b))
        plain.step(closure_of(lambda u, v: fun(u * 8, v * 0.25), u, v))
        assert torch.equal(a, u * 8)
        assert torch.equal(b, v * 0.25)


def test_a_memory_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"^memory must be 1 or more, not 0$"):
        LBFGS([torch.nn.Parameter(torch.ones(2))], memory=0)


def test_an_unknown_search_is_refused():
    with pytest.raises(ConfigError) as error:
        LBFGS([torch.nn.Parameter(torch.ones(2))], search="exact")
    expected = "unknown search 'exact'.  One of: hager-zhang, strong-wolfe, armijo"
    assert str(error.value) == expected
