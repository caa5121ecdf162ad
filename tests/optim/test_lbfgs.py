"""L-BFGS: its matrix against the explicit one, its ends, its groups."""

import pytest
import torch

from regard.errors import ConfigError
from regard.optim import LBFGS, minimize
from regard.optim.flat_parameters import inner_products
from regard.optim.limited_memory import CurvaturePair, LimitedMemory


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


def pair_of(direction, change):
    d_d, d_y, y_y = direction @ direction, direction @ change, change @ change
    return CurvaturePair(direction, change, d_d=float(d_d), d_y=float(d_y), y_y=float(y_y))


def memory_of(pairs, count):
    memory = LimitedMemory(count, inner_products, {})
    for step, change in pairs:
        memory.add(pair_of(step, change), 1.0)
    return memory


def explicit_inverse(pairs, first):
    """Update an inverse Hessian by BFGS, pair by pair (Nocedal & Wright, equation 6.17)."""
    inverse, identity = first, torch.eye(len(first), dtype=torch.float64)
    for s, y in pairs:
        rho = 1 / (y @ s)
        left = identity - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    return inverse


def two_loops(pairs, precondition, gradient):
    """Multiply with the same matrix by the recursion (Nocedal & Wright, algorithm 7.4)."""
    vector, factors = gradient.clone(), []
    for s, y in reversed(pairs):
        factors.append((s @ vector) / (s @ y))
        vector -= factors[-1] * y
    s, y = pairs[-1]
    vector = (s @ y) / (y @ precondition(y)) * precondition(vector)
    for (s, y), factor in zip(pairs, reversed(factors), strict=True):
        vector += (factor - (y @ vector) / (s @ y)) * s
    return vector


def product(memory, vector, precondition=None):
    return -memory.quasi_newton_direction(vector, precondition, torch.empty_like(vector))


def curved_pairs(count, size=6, seed=0):
    matrix = positive(size, seed=seed)
    steps = [draw(size, seed=10 + number + 100 * seed) for number in range(count)]
    return [(step, matrix @ step) for step in steps]


def bent_pairs(count, size, seed=0):
    """Draw pairs of a function whose second derivatives differ from step to step."""
    steps = [draw(size, seed=10 + number + 100 * seed) for number in range(count)]
    return [(s, positive(size, seed=200 + number) @ s) for number, s in enumerate(steps)]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_product_is_that_of_the_explicit_bfgs_matrix(count):
    pairs = bent_pairs(count, 6)
    s, y = pairs[-1]
    first = (s @ y) / (y @ y) * torch.eye(6, dtype=torch.float64)
    gradient = draw(6, seed=99)
    computed = product(memory_of(pairs, 10), gradient)
    torch.testing.assert_close(computed, explicit_inverse(pairs, first) @ gradient)


def test_a_preconditioner_is_the_first_matrix_scaled_to_the_newest_pair():
    pairs, diagonal = curved_pairs(3), torch.logspace(0, 1, 6).double()
    s, y = pairs[-1]
    first = (s @ y) / (y @ (diagonal * y)) * torch.diag(diagonal)
    gradient = draw(6, seed=99)
    computed = product(memory_of(pairs, 10), gradient, diagonal.mul)
    torch.testing.assert_close(computed, explicit_inverse(pairs, first) @ gradient)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7, 11, 12, 18, 35])
def test_the_compact_form_is_the_two_loop_recursion(count, preconditioned):
    for seed in range(5):
        pairs, half = bent_pairs(count, 40, seed), draw(40, 40, seed=seed + 50)
        first = half @ half.T / 40 + torch.eye(40, dtype=torch.float64)
        precondition = first.matmul if preconditioned else None
        memory, vector = memory_of(pairs, 11), draw(40, seed=99 + seed)
        expected = two_loops(pairs[-11:], precondition or torch.clone, vector)
        computed = product(memory, vector, precondition)
        torch.testing.assert_close(computed, expected, rtol=0, atol=1e-10 * float(expected.norm()))


def test_products_between_the_pairs_are_those_after_them():
    pairs, memory = bent_pairs(9, 20), LimitedMemory(4, inner_products, {})
    for number, (step, change) in enumerate(pairs, start=1):
        memory.add(pair_of(step, change), 1.0)
        if number in (2, 3, 7):
            product(memory, draw(20, seed=number))
        if number in (3, 6):
            memory.fraction_in_span(draw(20, seed=number))
        afterwards = memory_of(pairs[:number], 4)
        vector = draw(20, seed=60 + number)
        if number in (1, 4, 5, 8, 9):
            fraction = afterwards.fraction_in_span(vector)
            assert memory.fraction_in_span(vector) == pytest.approx(fraction, rel=1e-9)
            torch.testing.assert_close(product(memory, vector), product(afterwards, vector))


def test_a_preconditioner_that_changes_is_taken_as_it_is_now():
    pairs = bent_pairs(5, 20)
    memory, vector = memory_of(pairs, 3), draw(20, seed=9)
    for exponent in (0.0, 1.0, -2.0):
        precondition = torch.logspace(0, exponent, 20).double().mul
        expected = two_loops(pairs[-3:], precondition, vector)
        torch.testing.assert_close(product(memory, vector, precondition), expected)


def test_in_float32_the_product_errs_by_rounding_alone():
    pairs, vector = bent_pairs(14, 300), draw(300, seed=9)
    memory = memory_of([(step.float(), change.float()) for step, change in pairs], 11)
    expected = two_loops(pairs[-11:], torch.clone, vector)
    error = (product(memory, vector.float()).double() - expected).norm()
    assert float(error) < 1e-5 * float(expected.norm())


def test_pairs_are_forgotten():
    memory, later = memory_of(curved_pairs(5), 3), curved_pairs(2, seed=1)
    memory.clear()
    assert len(memory) == 0
    for step, change in later:
        memory.add(pair_of(step, change), 1.0)
    gradient = draw(6, seed=99)
    torch.testing.assert_close(
        product(memory, gradient), product(memory_of(later, 3), gradient), rtol=0, atol=0
    )


def test_a_state_for_another_number_of_pairs_is_not_taken_up():
    state, pairs = {}, curved_pairs(4)
    for count in (3, 2):
        memory = LimitedMemory(count, inner_products, state)
        assert len(memory) == 0
        for step, change in pairs:
            memory.add(pair_of(step, change), 1.0)
        assert len(memory) == count
    gradient = draw(6, seed=99)
    expected = product(memory_of(pairs, 2), gradient)
    torch.testing.assert_close(product(memory, gradient), expected, rtol=0, atol=0)


def test_the_oldest_pairs_are_dropped():
    pairs, gradient = curved_pairs(5), draw(6, seed=99)
    memory = memory_of(pairs, 2)
    expected = product(memory_of(pairs[-2:], 2), gradient)
    assert len(memory) == 2
    torch.testing.assert_close(product(memory, gradient), expected)


def test_the_secant_equation_holds_for_the_newest_pair():
    pairs = curved_pairs(4)
    step, change = pairs[-1]
    torch.testing.assert_close(product(memory_of(pairs, 4), change), step)


@pytest.mark.parametrize("curvature", [0.0, -1.0, float("nan")])
def test_a_pair_without_positive_curvature_is_not_kept(curvature):
    memory = LimitedMemory(3, inner_products, {})
    step = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert not memory.add(pair_of(step, torch.tensor([curvature, 5.0], dtype=torch.float64)), 1.0)
    assert len(memory) == 0


def test_the_length_of_a_step_counts():
    direction, change = draw(6), positive(6) @ draw(6)
    short, long = LimitedMemory(3, inner_products, {}), LimitedMemory(3, inner_products, {})
    short.add(pair_of(direction, change), 0.25)
    long.add(pair_of(0.25 * direction, change), 1.0)
    gradient = draw(6, seed=9)
    torch.testing.assert_close(product(short, gradient), product(long, gradient))


def test_the_fraction_in_the_span_of_the_steps_is_that_of_the_projection():
    pairs = curved_pairs(5)
    memory, vector = memory_of(pairs, 3), draw(6, seed=50)
    basis = torch.linalg.qr(torch.stack([step for step, _ in pairs[-3:]], 1))[0]
    expected = (basis.T @ vector).norm() / vector.norm()
    assert memory.fraction_in_span(vector) == pytest.approx(float(expected), rel=1e-6)
    assert memory.fraction_in_span(pairs[-1][0]) == pytest.approx(1.0, rel=1e-6)


def test_the_arguments_are_left_as_they_are():
    pairs, gradient = curved_pairs(3), draw(6, seed=5)
    before = gradient.clone()
    memory = memory_of(pairs, 3)
    product(memory, gradient)
    assert torch.equal(gradient, before)


@pytest.mark.parametrize("search", ["strong-wolfe", "hager-zhang", "armijo"])
def test_every_search_reaches_the_minimum(search):
    result = minimize(
        rosenbrock,
        torch.tensor([-1.2, 1.0, -1.2, 1.0], dtype=torch.float64),
        method=lambda x: LBFGS(x, search=search, checks_noise=False),
    )
    assert result.success, result.message


@pytest.mark.slow
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


def test_a_history_below_one_is_refused():
    with pytest.raises(ConfigError) as caught:
        LBFGS([torch.nn.Parameter(torch.ones(2))], history_size=0)
    assert str(caught.value) == "history_size must be a whole number, 1 or more, not 0"


def test_an_unknown_search_is_refused():
    with pytest.raises(ConfigError) as error:
        LBFGS([torch.nn.Parameter(torch.ones(2))], search="exact")
    expected = "unknown search 'exact'.  One of: hager-zhang, strong-wolfe, armijo"
    assert str(error.value) == expected
