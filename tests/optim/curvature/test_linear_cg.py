"""Linear conjugate gradient against direct solutions, and its form in a trust region."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.linear_cg import RelativeProgress, conjugate_gradient_solve, steihaug


def problem(size, seed=1, least=0.5):
    """Draw a symmetric positive matrix of eigenvalues `least` to about 10 and a right side."""
    draw = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    values = least + 9.5 * torch.rand(size, generator=draw, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.mT, torch.randn(
        size, generator=draw, dtype=torch.float64
    )


def stretched(size):
    """Make a badly scaled problem whose diagonal is a good preconditioner."""
    matrix, right = problem(size)
    scale = torch.logspace(-2, 2, size, dtype=torch.float64)
    return scale[:, None] * matrix * scale, right


def model_at(matrix, gradient, step):
    return float(gradient @ step + step @ matrix @ step / 2)


sizes = st.integers(1, 30)
seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_a_positive_system_is_solved_as_directly(size, seed):
    matrix, right = problem(size, seed)
    solution = conjugate_gradient_solve(matrix.mv, right, rtol=1e-12)
    assert solution.converged and solution.negative_curvature is None
    # error <= condition number (20) times the residual
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, right), atol=1e-9, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_it_takes_no_more_iterations_than_there_are_entries(size, seed):
    matrix, right = problem(size, seed)
    assert conjugate_gradient_solve(matrix.mv, right, rtol=1e-6).num_iterations <= size


def test_iterations_are_as_many_as_distinct_eigenvalues():
    values = torch.tensor([1.0, 1.0, 4.0, 4.0, 9.0, 9.0], dtype=torch.float64)
    solution = conjugate_gradient_solve(lambda v: values * v, torch.ones_like(values), rtol=1e-10)
    assert solution.num_iterations == 3


def test_iterations_are_the_products_with_the_matrix():
    matrix, right = problem(8)
    calls = []
    solution = conjugate_gradient_solve(lambda v: calls.append(1) or matrix @ v, right)
    assert len(calls) - 1 == solution.num_iterations  # one more checks the solution
    assert solution.num_iterations == len(solution.residuals) - 1 == len(solution.models)


def test_the_residual_history_is_that_of_the_iterates():
    matrix, right = problem(12)
    full = conjugate_gradient_solve(matrix.mv, right)
    for number in range(full.num_iterations + 1):
        part = conjugate_gradient_solve(matrix.mv, right, max_iterations=number)
        true = (right - matrix @ part.x).norm() / right.norm()
        assert part.residuals == full.residuals[: number + 1]
        assert part.residuals[-1] == pytest.approx(float(true), rel=1e-6, abs=1e-14)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), seeds)
def test_the_error_decreases_in_the_norm_of_the_matrix_at_every_iteration(size, seed):
    matrix, right = problem(size, seed)
    exact = torch.linalg.solve(matrix, right)
    errors = []
    for number in range(conjugate_gradient_solve(matrix.mv, right, rtol=1e-6).num_iterations + 1):
        off = conjugate_gradient_solve(matrix.mv, right, rtol=1e-6, max_iterations=number).x - exact
        errors.append(float(off @ matrix @ off))
    assert all(after < before for before, after in pairwise(errors))


def test_the_models_are_those_of_the_iterates_and_decrease():
    matrix, right = problem(12)
    full = conjugate_gradient_solve(matrix.mv, right, rtol=1e-6)
    assert full.models == sorted(full.models, reverse=True)
    for number, model in enumerate(full.models, 1):
        x = conjugate_gradient_solve(matrix.mv, right, max_iterations=number).x
        assert model == pytest.approx(model_at(matrix, -right, x), rel=1e-12)


def test_a_preconditioner_leads_to_the_same_solution_in_fewer_iterations():
    matrix, right = stretched(30)
    inverse = 1 / matrix.diagonal()
    plain = conjugate_gradient_solve(matrix.mv, right, rtol=1e-10, max_iterations=10_000)
    solution = conjugate_gradient_solve(matrix.mv, right, preconditioner=inverse.mul, rtol=1e-10)
    assert solution.converged and solution.num_iterations < plain.num_iterations / 2
    exact = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(solution.x / exact, torch.ones_like(exact), atol=1e-6, rtol=0)


def test_the_inverse_as_preconditioner_needs_one_iteration():
    matrix, right = problem(10)
    solution = conjugate_gradient_solve(
        matrix.mv, right, preconditioner=torch.linalg.inv(matrix).mv
    )
    assert solution.num_iterations == 1


def test_a_start_is_taken_and_left_as_it_is():
    matrix, right = problem(10)
    exact = torch.linalg.solve(matrix, right)
    assert conjugate_gradient_solve(matrix.mv, right, x0=exact).num_iterations == 0
    start = torch.ones_like(right)
    solution = conjugate_gradient_solve(matrix.mv, right, x0=start, rtol=1e-12)
    assert start.eq(1).all()
    assert solution.residuals[0] == pytest.approx(
        float((right - matrix @ start).norm() / right.norm())
    )
    torch.testing.assert_close(solution.x, exact, atol=1e-10, rtol=1e-10)


def test_the_right_side_is_left_as_it_is():
    matrix, right = problem(5)
    before = right.clone()
    conjugate_gradient_solve(matrix.mv, right)
    assert torch.equal(right, before)


def test_a_right_side_of_zeros_has_the_solution_zero():
    solution = conjugate_gradient_solve(torch.eye(3).mv, torch.zeros(3))
    assert solution.converged and solution.x.tolist() == [0, 0, 0] and solution.num_iterations == 0


def test_an_identity_that_returns_its_argument_does_no_harm():
    right = torch.tensor([1.0, -2.0])
    solution = conjugate_gradient_solve(lambda v: v, right, preconditioner=lambda v: v)
    assert solution.x.tolist() == [1.0, -2.0]


def test_at_the_limit_of_iterations_it_has_not_converged():
    matrix, right = problem(20)
    solution = conjugate_gradient_solve(matrix.mv, right, max_iterations=2)
    assert solution.num_iterations == 2 and not solution.converged


def test_a_direction_of_negative_curvature_is_reported_with_the_solution_so_far():
    matrix = torch.diag(torch.tensor([2.0, 3.0, -1.0], dtype=torch.float64))
    right = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    solution = conjugate_gradient_solve(matrix.mv, right)
    along = solution.negative_curvature
    assert along is not None and along @ matrix @ along <= 0
    assert not solution.converged and solution.num_iterations >= 1
    assert model_at(matrix, -right, solution.x) < 0


def test_a_direction_without_curvature_counts_as_not_positive():
    solution = conjugate_gradient_solve(torch.zeros(2, 2).mv, torch.ones(2))
    assert solution.negative_curvature is not None and solution.x.tolist() == [0, 0]


def test_a_criterion_ends_the_iteration():
    matrix, right = problem(20)
    solution = conjugate_gradient_solve(matrix.mv, right, stop=lambda models: len(models) == 4)
    assert solution.num_iterations == 4


def test_a_given_inner_product_is_used():
    matrix, right = problem(6)
    calls = []

    def dot(first, second):
        calls.append(1)
        return float(first @ second)

    solution = conjugate_gradient_solve(matrix.mv, right, dot=dot)
    assert calls
    assert torch.equal(solution.x, conjugate_gradient_solve(matrix.mv, right).x)


def test_a_right_side_that_is_no_vector_is_refused():
    with pytest.raises(ShapeError) as caught:
        conjugate_gradient_solve(torch.eye(2).mv, torch.ones(2, 1))
    assert str(caught.value) == "b has shape [2, 1]; a vector is expected"


def exact_step(matrix, gradient, radius):
    """Solve the trust-region problem of a positive matrix (More & Sorensen 1983) by bisection."""
    values, basis = torch.linalg.eigh(matrix)
    slopes = basis.mT @ gradient

    def step(shift):
        return -slopes / (values + shift)

    low, high = 0.0, float(gradient.norm() / radius)
    if step(0.0).norm() <= radius:
        return basis @ step(0.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if step(middle).norm() > radius else (low, middle)
    return basis @ step(high)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_a_step_that_fits_is_the_exact_one(size, seed):
    matrix, gradient = problem(size, seed)
    result = steihaug(matrix.mv, gradient, 1e3, rtol=1e-12)
    exact = exact_step(matrix, gradient, 1e3)
    torch.testing.assert_close(result.step, exact, atol=1e-9, rtol=1e-9)
    assert not result.is_on_boundary and not result.negative_curvature


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.floats(0.01, 1.0))
def test_within_a_radius_it_decreases_the_model_by_at_least_half_as_much_as_can_be(
    size, seed, share
):
    # Yuan 2000: for a positive matrix Steihaug's step gives half of the best decrease or more.
    matrix, gradient = problem(size, seed)
    radius = share * float(torch.linalg.solve(matrix, gradient).norm())
    result = steihaug(matrix.mv, gradient, radius, rtol=1e-12)
    best = model_at(matrix, gradient, exact_step(matrix, gradient, radius))
    assert best * (1 + 1e-12) <= result.model <= best / 2
    assert result.step.norm() <= radius * (1 + 1e-12)


def test_in_one_dimension_and_in_a_narrow_region_the_step_is_the_exact_one():
    matrix, gradient = problem(12)
    radius = 1e-7
    result = steihaug(matrix.mv, gradient, radius)
    torch.testing.assert_close(
        result.step, exact_step(matrix, gradient, radius), atol=1e-6 * radius, rtol=0
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.floats(1e-3, 0.9), st.booleans())
def test_on_the_boundary_the_norm_is_the_radius(size, seed, share, is_indefinite):
    matrix, gradient = problem(size, seed)
    radius = share * float(torch.linalg.solve(matrix, gradient).norm())
    if is_indefinite:
        matrix = matrix - 5 * torch.eye(size, dtype=torch.float64)
    result = steihaug(matrix.mv, gradient, radius, rtol=1e-10)
    assert result.norm == pytest.approx(float(result.step.norm()), rel=1e-9)
    assert result.is_on_boundary
    assert result.norm == pytest.approx(radius, rel=1e-9)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(2, 20), seeds, st.floats(1e-3, 1.5), st.booleans())
def test_with_a_preconditioner_the_radius_is_in_the_norm_of_its_inverse(
    size, seed, share, is_indefinite
):
    matrix, gradient = problem(size, seed)
    scale = torch.logspace(-0.5, 0.5, size, dtype=torch.float64)
    newton = torch.linalg.solve(matrix, gradient)
    radius = share * float((scale * newton * newton).sum().sqrt())
    if is_indefinite:
        matrix = matrix - 5 * torch.eye(size, dtype=torch.float64)
    result = steihaug(
        matrix.mv,
        gradient,
        radius,
        preconditioner=lambda v: v / scale,
        rtol=1e-2,
    )
    # The recurrence of norms loses digits as the directions lose their conjugacy.
    norm = float((scale * result.step * result.step).sum().sqrt())
    assert result.norm == pytest.approx(norm, rel=1e-6)
    if result.is_on_boundary:
        assert norm == pytest.approx(radius, rel=1e-6)
    else:
        assert norm <= radius * (1 + 1e-6)
    assert result.model == pytest.approx(model_at(matrix, gradient, result.step), rel=1e-6)


def test_a_preconditioner_changes_variables():
    matrix, gradient = problem(10)
    scale = torch.logspace(-1, 1, 10, dtype=torch.float64)
    radius = 0.5
    result = steihaug(matrix.mv, gradient, radius, preconditioner=lambda v: v / scale**2)
    changed = steihaug((matrix / scale / scale[:, None]).mv, gradient / scale, radius)
    torch.testing.assert_close(result.step * scale, changed.step)
    assert result.model == pytest.approx(changed.model)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, st.floats(0.01, 10))
def test_the_reported_model_is_that_of_the_step(size, seed, radius):
    matrix, gradient = problem(size, seed)
    result = steihaug(matrix.mv, gradient, radius)
    assert result.model == pytest.approx(model_at(matrix, gradient, result.step), rel=1e-9)
    assert result.model < 0


def test_negative_curvature_is_followed_to_the_boundary():
    matrix = torch.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    gradient = torch.tensor([0.1, 1.0], dtype=torch.float64)
    result = steihaug(matrix.mv, gradient, 3.0)
    assert result.negative_curvature and result.is_on_boundary and result.num_iterations == 1
    torch.testing.assert_close(result.step, -gradient * 3 / gradient.norm())


def test_an_infinite_radius_gives_the_newton_step():
    matrix, gradient = problem(15)
    result = steihaug(matrix.mv, gradient, math.inf, rtol=1e-12)
    torch.testing.assert_close(result.step, -torch.linalg.solve(matrix, gradient))
    assert not result.is_on_boundary


def test_an_infinite_radius_keeps_the_step_before_negative_curvature():
    matrix = torch.diag(torch.tensor([4.0, 4.0, -1.0], dtype=torch.float64))
    gradient = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    result = steihaug(matrix.mv, gradient, math.inf)
    before = steihaug(matrix.mv, gradient, math.inf, max_iterations=1)
    assert result.negative_curvature and not result.is_on_boundary
    assert result.num_iterations == 2
    assert torch.equal(result.step, before.step)
    assert result.model == pytest.approx(before.model) and result.norm == before.norm


@pytest.mark.parametrize("curvature", [-2.0, 0.0])
def test_an_infinite_radius_goes_downhill_where_the_first_curvature_is_not_positive(curvature):
    gradient = torch.tensor([3.0, -4.0], dtype=torch.float64)
    result = steihaug(lambda v: curvature * v, gradient, math.inf)
    torch.testing.assert_close(result.step, -gradient / (abs(curvature) or 1.0))
    assert result.model == pytest.approx(
        float(gradient @ result.step + curvature * result.step @ result.step / 2)
    )
    assert result.negative_curvature and not result.is_on_boundary


def test_it_begins_at_the_minimum_along_a_direction():
    matrix, gradient = problem(12)
    newton, products = -torch.linalg.solve(matrix, gradient), []

    def operator(vector):
        products.append(vector.clone())
        return matrix @ vector

    result = steihaug(operator, gradient, math.inf, x0=0.01 * newton, rtol=1e-9)
    assert result.num_iterations == len(products) == 1
    assert torch.equal(products[0], 0.01 * newton)
    torch.testing.assert_close(result.step, newton)
    assert result.model == pytest.approx(model_at(matrix, gradient, newton))


@settings(max_examples=30, deadline=None)
@given(sizes, seeds)
def test_from_any_direction_it_ends_at_the_same_step(size, seed):
    matrix, gradient = problem(size, seed)
    initial = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    result = steihaug(matrix.mv, gradient, math.inf, x0=initial, rtol=1e-11)
    torch.testing.assert_close(
        result.step, -torch.linalg.solve(matrix, gradient), atol=1e-8, rtol=1e-8
    )
    assert result.model == pytest.approx(model_at(matrix, gradient, result.step), rel=1e-9)


def test_a_direction_that_does_not_descend_costs_no_product():
    matrix, gradient = problem(12)
    products = []

    def operator(vector):
        products.append(vector)
        return matrix @ vector

    from_nothing = steihaug(matrix.mv, gradient, math.inf)
    result = steihaug(operator, gradient, math.inf, x0=gradient)
    assert torch.equal(result.step, from_nothing.step)
    assert len(products) == from_nothing.num_iterations


@pytest.mark.parametrize("curvature", [-1.0, 0.0, math.nan])
def test_a_direction_without_a_minimum_is_no_start(curvature):
    gradient = torch.tensor([1.0, -2.0], dtype=torch.float64)
    values = torch.tensor([2.0, curvature], dtype=torch.float64)
    initial = torch.tensor([0.0, 1.0], dtype=torch.float64)
    result = steihaug(values.mul, gradient, math.inf, x0=initial, max_iterations=1)
    expected = steihaug(values.mul, gradient, math.inf, max_iterations=1)
    torch.testing.assert_close(result.step, expected.step, rtol=0, atol=0, equal_nan=True)


def test_a_gradient_of_zeros_gives_no_step():
    result = steihaug(torch.eye(3).mv, torch.zeros(3), 1.0)
    assert result.step.tolist() == [0, 0, 0] and result.model == 0 and result.num_iterations == 0


def test_the_gradient_is_left_as_it_is():
    matrix, gradient = problem(5)
    before = gradient.clone()
    steihaug(matrix.mv, gradient, 1.0)
    assert torch.equal(gradient, before)


def test_the_residual_ends_at_the_tolerance():
    matrix, gradient = problem(30)
    result = steihaug(matrix.mv, gradient, math.inf, rtol=0.3)
    assert (gradient + matrix @ result.step).norm() <= 0.3 * gradient.norm()
    shorter = steihaug(
        matrix.mv, gradient, math.inf, rtol=0, max_iterations=result.num_iterations - 1
    )
    assert (gradient + matrix @ shorter.step).norm() > 0.3 * gradient.norm()


def test_the_limit_and_a_criterion_end_the_iteration_in_the_region():
    matrix, gradient = problem(30)
    assert steihaug(matrix.mv, gradient, 1e3, max_iterations=3).num_iterations == 3
    result = steihaug(matrix.mv, gradient, 1e3, stop=lambda models: len(models) == 2)
    assert result.num_iterations == 2
    assert result.model == pytest.approx(model_at(matrix, gradient, result.step))


def test_relative_progress_ends_where_ten_iterations_gained_too_little():
    criterion = RelativeProgress(epsilon=1e-3)
    slow, fast = [-1.0] * 11, [-1.0 - 0.02 * i for i in range(11)]
    assert criterion(slow)
    assert not criterion(fast)
    assert not criterion(slow[:10])


def test_relative_progress_draws_the_line_at_the_span_times_epsilon():
    criterion = RelativeProgress(epsilon=0.01)
    assert criterion([-0.91] + [-1.0] * 10)
    assert not criterion([-0.89] + [-1.0] * 10)


def test_relative_progress_looks_back_over_a_tenth_of_many_iterations():
    models = [-1.0] * 180 + [-2.0] * 19
    criterion = RelativeProgress()
    assert not criterion([*models, -2.0])  # 20 back the model was -1
    assert criterion([*models, -2.0, -2.0])


def test_relative_progress_continues_while_the_model_is_not_below_zero():
    assert not RelativeProgress()([0.0] * 50)
    assert not RelativeProgress()([1.0] * 50)


@pytest.mark.slow
def test_relative_progress_ends_the_solution_of_a_hard_system_early():
    values = torch.logspace(-6, 0, 200, dtype=torch.float64)
    right = torch.ones_like(values) * values.sqrt()
    tight = conjugate_gradient_solve(values.mul, right, rtol=1e-10)
    early = conjugate_gradient_solve(values.mul, right, rtol=1e-10, stop=RelativeProgress())
    assert 10 < early.num_iterations < tight.num_iterations / 2


@pytest.mark.slow
def test_a_solution_converges_by_its_true_residual_not_by_the_one_carried_along():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, -6, 60, dtype=torch.float64)
    matrix = ((basis * values) @ basis.mT).float()
    right = torch.randn(60, generator=generator)
    solution = conjugate_gradient_solve(matrix.mv, right, rtol=1e-6)
    residual = float((right - matrix @ solution.x).norm() / right.norm())
    assert not solution.converged
    assert residual == pytest.approx(solution.residuals[-1], rel=0.5)


def test_a_product_that_is_not_finite_is_no_negative_curvature():
    solution = conjugate_gradient_solve(lambda v: v * torch.nan, torch.ones(3))
    assert not solution.converged
    assert solution.negative_curvature is None


def test_a_preconditioner_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match="P must be symmetric and positive"):
        conjugate_gradient_solve(lambda v: 2 * v, torch.ones(3), preconditioner=torch.neg)
