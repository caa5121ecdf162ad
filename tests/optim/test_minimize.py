"""`minimize` against SciPy, what it calls and counts, and how it names every end."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F

from regard.errors import ConfigError
from regard.optim import ConjugateGradient, GradientDescent, NewtonCG, minimize
from regard.optim.minimize import METHODS

STALLED = {
    "the search failed: no step met the conditions within the limit of evaluations",
    "the search failed: the interval shrank to nothing: values and slopes disagree, by rounding or "
    "by mistake",
    "the search failed: the step was too short to move the parameters",
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def start(*entries, dtype=torch.float64):
    return torch.tensor(entries, dtype=dtype)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def beale(x):
    powers = torch.stack([x[1], x[1] ** 2, x[1] ** 3])
    return ((start(1.5, 2.25, 2.625) - x[0] * (1 - powers)) ** 2).sum()


FEATURES, LABELS = draw(60, 8), (draw(60, seed=1) > 0).double()


def logistic(weights):
    loss = F.binary_cross_entropy_with_logits(FEATURES @ weights, LABELS)
    return loss + 0.01 * (weights @ weights)


PROBLEMS = {
    "Beale": (beale, start(1.0, 1.0)),
    "Rosenbrock": (rosenbrock, start(-1.2, 1.0, -1.2, 1.0)),
    "logistic": (logistic, draw(8, seed=2)),
}


def by_scipy(fun, x0):
    """Minimise by SciPy's BFGS with gradients of autograd."""

    def both(entries):
        x = torch.tensor(entries, requires_grad=True)
        value = fun(x)
        return value.item(), torch.autograd.grad(value, x)[0].numpy()

    found = scipy.optimize.minimize(both, x0.numpy(), jac=True, method="BFGS", tol=1e-8)
    return torch.from_numpy(found.x), float(found.fun)


class Recorded:
    """A function with a record of how it was called."""

    def __init__(self, fun):
        self._fun = fun
        self.points, self.values = [], []
        self.num_with_gradient = self.num_without = 0

    def __call__(self, x):
        if torch.is_grad_enabled():
            self.num_with_gradient += 1
            assert x.requires_grad
        else:
            self.num_without += 1
        assert type(x) is torch.Tensor
        value = self._fun(x)
        self.points.append(x.detach().clone())
        self.values.append(float(value.detach()))
        return value


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_method_finds_the_minimum_that_scipy_finds(method, problem):
    fun, x0 = PROBLEMS[problem]
    found = minimize(fun, x0, method=method, tol=1e-7)
    x, value = by_scipy(fun, x0)
    assert found.success
    assert found.message == "the gradient is small enough"
    assert found.grad_norm <= 1e-7
    # The least curvature of the three is 0.05: an entry is off by at most 1e-7 / 0.05.
    torch.testing.assert_close(found.x, x, atol=1e-5, rtol=0)
    assert found.fun == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize("memory", [0, 3])
def test_conjugate_gradient_takes_its_memory_from_the_caller(memory):
    kept = []

    def note(optimizer):
        state = optimizer.state[optimizer.param_groups[0]["params"][0]]
        kept.append(len(state.get("order", [])))

    fun, x0 = PROBLEMS["Rosenbrock"]
    assert minimize(fun, x0, memory=memory, callback=note).success
    assert max(kept) == memory


@pytest.mark.parametrize("method", METHODS)
def test_nested_dicts_of_tensors_come_back_in_their_structure(method):
    target = {"layer": {"weight": draw(2, 3), "bias": draw(3, seed=1)}, "scale": draw(1, seed=2)[0]}

    def fun(x):
        assert list(x) == ["layer", "scale"]
        difference = (x["layer"]["weight"] - target["layer"]["weight"]) ** 2
        other = (x["layer"]["bias"] - target["layer"]["bias"]) ** 2
        return difference.sum() + 3 * other.sum() + (x["scale"] - target["scale"]) ** 4

    x0 = {
        "layer": {"weight": torch.zeros(2, 3).double(), "bias": torch.ones(3).double()},
        "scale": torch.zeros((), dtype=torch.float64),
    }
    found = minimize(fun, x0, method=method)
    assert found.success
    assert set(found.x) == {"layer", "scale"}
    torch.testing.assert_close(found.x["layer"], target["layer"], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.x["scale"], target["scale"], atol=1e-2, rtol=0)
    assert float(x0["layer"]["bias"].sum()) == 3


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_kept_and_solved_to_its_precision(method):
    features, labels = FEATURES.float(), LABELS.float()

    def fun(weights):
        loss = F.binary_cross_entropy_with_logits(features @ weights, labels)
        return loss + 0.01 * (weights @ weights)

    found = minimize(fun, draw(8, seed=2).float(), method=method, tol=1e-6)
    exact, _ = by_scipy(logistic, draw(8, seed=2))
    assert found.success, found.message
    assert found.x.dtype == torch.float32
    torch.testing.assert_close(found.x.double(), exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_below_the_rounding_of_float32_ends_in_a_named_failure(method):
    fun, x0 = rosenbrock, start(-1.2, 1.0, dtype=torch.float32)
    found = minimize(fun, x0, method=method, tol=1e-30, max_evaluations=3000)
    assert not found.success or found.grad_norm <= 1e-30
    assert found.fun < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_the_first_point_is_left_as_it_is(method):
    x0 = start(-1.2, 1.0).requires_grad_()
    before = x0.detach().clone()
    found = minimize(rosenbrock, x0, method=method)
    assert torch.equal(x0, before)
    assert x0.grad is None
    assert not found.x.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_counts_are_those_of_real_calls(method):
    fun = Recorded(rosenbrock)
    found = minimize(fun, start(-1.2, 1.0), method=method)
    assert found.nfev == fun.num_with_gradient + fun.num_without
    assert found.ngev == fun.num_with_gradient
    assert (found.nhvp > 0) == (method == "newton-cg")


def test_values_alone_are_computed_without_gradients():
    fun = Recorded(rosenbrock)
    minimize(fun, start(-1.2, 1.0), method="gradient-descent", max_evaluations=100)
    assert fun.num_without > 0
    assert fun.num_with_gradient > 0


def test_products_are_counted_one_by_one(monkeypatch):
    from regard.optim.objectives.function import FunctionObjective

    made, product = [], FunctionObjective.hessian

    def counted(self, vector):
        made.append(1)
        return product(self, vector)

    monkeypatch.setattr(FunctionObjective, "hessian", counted)
    found = minimize(rosenbrock, start(-1.2, 1.0), method="newton-cg")
    assert found.nhvp == len(made) > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_a_point_that_was_computed_and_its_value(method):
    fun = Recorded(rosenbrock)
    found = minimize(fun, start(-1.2, 1.0), method=method)
    index = next(i for i, point in enumerate(fun.points) if torch.equal(point, found.x))
    assert fun.values[index] == found.fun


@pytest.mark.parametrize("limit", [1, 2, 7, 20])
@pytest.mark.parametrize("method", METHODS)
def test_at_the_limit_of_evaluations_the_best_point_is_kept(method, limit):
    fun = Recorded(rosenbrock)
    found = minimize(fun, start(-1.2, 1.0), method=method, max_evaluations=limit)
    assert not found.success
    assert found.message == "the limit of evaluations was reached"
    assert found.nfev + found.nhvp == limit
    with_gradient = [v for v, p in zip(fun.values, fun.points, strict=True)]
    assert found.fun <= fun.values[0]
    assert found.fun in with_gradient
    assert found.fun == float(rosenbrock(found.x))


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_point_that_was_computed_is_lower_than_the_result(method):
    seen = []

    def fun(x):
        value = rosenbrock(x)
        if torch.is_grad_enabled():
            seen.append(float(value.detach()))
        return value

    for limit in (3, 6, 15):
        seen.clear()
        found = minimize(fun, start(-1.2, 1.0), method=method, max_evaluations=limit)
        assert found.fun == min(seen)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_start_that_is_not_finite_is_named(method, bad):
    found = minimize(lambda x: x.sum() + bad, start(1.0, 2.0), method=method)
    assert not found.success
    assert found.message == (
        f"the loss is {bad} at the starting point.  Start from finite weights, and check the data "
        "for non-finite numbers."
    )
    assert torch.equal(found.x, start(1.0, 2.0))
    assert found.nit == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_is_not_finite_in_one_tensor_is_no_success(method):
    x0 = {"first": start(0.0), "bad": start(0.0), "last": start(0.0)}
    found = minimize(
        lambda x: (x["bad"] ** 2).sqrt().sum() + (x["first"] ** 2 + x["last"] ** 2).sum(),
        x0,
        method=method,
    )
    assert not found.success
    assert found.message == "the search failed: the gradient is not finite"
    assert math.isnan(found.grad_norm)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_ends_outside_a_region_is_minimised_inside(method):
    def fun(x):
        """sqrt and log are NaN beyond the boundary; the minimum is at x = (1, 4)."""
        return (x - 0.5 * torch.log(x)).sum() + (torch.sqrt(x[1]) - 2) ** 2

    found = minimize(fun, start(0.02, 0.02), method=method)
    oracle = scipy.optimize.minimize(
        lambda x: float(fun(torch.from_numpy(np.maximum(x, 1e-9)))), [0.5, 0.5], tol=1e-10
    )
    assert found.success, found.message
    torch.testing.assert_close(found.x, torch.from_numpy(oracle.x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_without_a_floor_is_no_success(method):
    found = minimize(lambda x: -x.exp().sum(), start(0.0), method=method, max_evaluations=500)
    assert not found.success
    assert math.isfinite(found.fun)
    assert found.fun < -1


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_gradient_is_no_success(method):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x * x).sum()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return -grad * 2 * x

    found = minimize(Wrong.apply, start(1.0, 2.0), method=method, max_evaluations=2000)
    assert not found.success
    assert found.message in STALLED | {"the limit of evaluations was reached"}
    assert found.fun <= 5.0


@pytest.mark.parametrize("method", METHODS)
def test_a_jump_at_the_start_is_no_success(method):
    """The gradient promises a decrease, but every other point is higher."""
    x0 = start(0.3, -0.4)

    def fun(x):
        return (x * x).sum() + float(not torch.equal(x.detach(), x0))

    found = minimize(fun, x0, method=method)
    assert not found.success
    assert found.message in STALLED
    assert torch.equal(found.x, x0)
    assert found.fun == pytest.approx(0.25)


@pytest.mark.parametrize("method", METHODS)
def test_a_plateau_that_a_search_overshoots_to_is_no_solution(method):
    """The gradient of 1 - exp(-x^2) vanishes far away, where the value is greatest."""
    found = minimize(lambda x: (1 - torch.exp(-1e4 * x * x)).sum(), start(0.012), method=method)
    assert found.success
    assert found.fun < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_start_that_solves_the_problem_takes_no_step(method):
    found = minimize(rosenbrock, start(1.0, 1.0, 1.0), method=method)
    assert (found.success, found.nit, found.nfev, found.fun) == (True, 0, 1, 0.0)


def test_an_optimizer_may_be_built_by_the_caller():
    found = minimize(
        beale,
        start(1.0, 1.0),
        method=lambda x: ConjugateGradient(x, beta="dai-yuan", checks_noise=False),
    )
    assert found.success


@pytest.mark.slow
def test_newton_cg_built_by_the_caller_gets_real_products():
    x0 = start(-1.2, 1.0)
    named = minimize(rosenbrock, x0, method="newton-cg")
    built = minimize(
        rosenbrock, x0, method=lambda x: NewtonCG(x, curvature="hessian", checks_noise=False)
    )
    assert torch.equal(named.x, built.x)
    assert named.nhvp == built.nhvp


def test_a_linear_function_under_newton_cg_has_a_hessian_of_zeros():
    found = minimize(lambda x: x.sum(), start(1.0), method="newton-cg", max_evaluations=200)
    assert not found.success


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_the_function_does_not_use_is_left(method):
    x0 = {"used": start(3.0), "unused": start(7.0)}
    found = minimize(lambda x: (x["used"] ** 2).sum(), x0, method=method)
    assert found.success
    assert found.x["unused"].tolist() == [7.0]


def test_a_callback_sees_the_optimizer_after_every_step():
    seen = []
    found = minimize(rosenbrock, start(-1.2, 1.0), callback=lambda o: seen.append(o.last.value))
    assert len(seen) == found.nit - 1  # the last step ends inside, where the tolerance is met
    assert seen[-1] < seen[0]


def test_a_gradient_descent_of_fixed_steps_may_be_built():
    found = minimize(
        lambda x: (x * x).sum(), start(1.0), method=lambda x: GradientDescent(x, step=0.25)
    )
    assert found.success
    assert found.nit > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scipy_name", "method"),
    [("CG", "cg"), ("Newton-CG", "newton-cg"), ("L-BFGS-B", "lbfgs"), ("l-bfgs", "lbfgs")],
)
def test_scipys_names_mean_the_same_methods(scipy_name, method):
    x0 = start(-1.2, 1.0)
    theirs, ours = (minimize(rosenbrock, x0, method=name) for name in (scipy_name, method))
    assert torch.equal(theirs.x, ours.x)
    assert (theirs.nfev, theirs.ngev, theirs.nhvp) == (ours.nfev, ours.ngev, ours.nhvp)


def test_a_result_reads_as_a_table_of_its_fields():
    result = minimize(lambda x: (x * x).sum(), start(1.0))
    lines = repr(result).splitlines()
    assert lines[0] == f"        x: {result.x!r}"
    assert lines[2:4] == ["  success: True", "  message: 'the gradient is small enough'"]
    assert len(lines) == 9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "fun",
    [lambda x: torch.tensor(1.0), lambda x: 1.0, lambda x: (x.detach() ** 2).sum()],
    ids=["constant", "number", "detached"],
)
def test_a_value_that_does_not_depend_on_the_point_is_no_success(method, fun):
    result = minimize(fun, start(1.0), method=method)
    assert not result.success
    assert result.message == "the value does not depend on x, or was detached from it"
    assert result.fun == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_with_a_gradient_of_zero_is_solved_where_it_starts(method):
    result = minimize(lambda x: (0 * x).sum() + 3, start(1.0, -2.0), method=method)
    assert (result.success, result.message) == (True, "the gradient is small enough")
    assert (result.fun, result.x.tolist(), result.nfev) == (3.0, [1.0, -2.0], 1)


@pytest.mark.parametrize("method", METHODS)
def test_autocast_around_it_changes_nothing(method):
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))

    def fun(x):
        return (matrix @ x - 1).square().sum()

    plain = minimize(fun, torch.zeros(3), method=method, max_evaluations=500)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = minimize(fun, torch.zeros(3), method=method, max_evaluations=500)
    assert torch.equal(mixed.x, plain.x)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_without_a_minimum_is_no_success_in_float32(method):
    result = minimize(lambda x: -x.sum(), torch.ones(2), method=method, max_evaluations=500)
    assert not result.success
    assert torch.isfinite(result.x).all()


def test_a_callback_may_stop_the_run():
    def stop(optimizer):
        raise StopIteration

    result = minimize(rosenbrock, start(-1.2, 1.0), callback=stop)
    assert (result.success, result.message, result.nit) == (
        False,
        "the callback stopped the run",
        1,
    )


def test_a_callback_may_stop_the_run_by_what_it_returns():
    steps = []
    result = minimize(
        rosenbrock, start(-1.2, 1.0), callback=lambda _: steps.append(1) or len(steps) == 3
    )
    assert (result.success, result.message, result.nit) == (
        False,
        "the callback stopped the run",
        3,
    )


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_limited(method):
    result = minimize(rosenbrock, start(-1.2, 1.0), method=method, maxiter=2)
    assert (result.success, result.message, result.nit) == (
        False,
        "the limit of steps was reached",
        2,
    )
    with pytest.raises(ConfigError, match="maxiter must be a whole number, 1 or more, not 0"):
        minimize(rosenbrock, start(-1.2, 1.0), maxiter=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "fun", [lambda x: x.sum(), lambda x: -x.square().sum(), lambda x: -x.exp().sum()]
)
def test_a_function_without_a_floor_is_said_to_have_none(method, fun):
    result = minimize(fun, start(1.0, 2.0), method=method, max_evaluations=2000)
    assert not result.success
    assert result.message.startswith("the function seems to have no minimum: its value fell to -")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("scale", "size"), [(1e200, "large"), (1e-200, "small")])
def test_a_scale_that_cannot_be_squared_is_named(method, scale, size):
    result = minimize(
        lambda x: scale * (x - 1).square().sum(), start(0.0, 0.0), method=method, tol=1e-300
    )
    assert not result.success
    assert result.message == (
        f"the search failed: the gradient, {2 * scale:.2g} at most, is too {size} to be squared: "
        "multiply the function by a number that makes it about 1"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_is_scaled_away_is_no_success_at_its_start(method):
    def fun(x):
        return 1e-200 * (x - 1).square().sum()

    away = minimize(fun, start(0.0, 0.0), method=method)
    assert (away.success, away.fun) == (False, pytest.approx(2e-200))
    assert "is too small to be squared" in away.message
    assert minimize(fun, start(1.0, 1.0), method=method).success


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e100, 1e-100])
def test_scales_that_can_be_squared_are_solved(method, scale):
    result = minimize(
        lambda x: scale * (x - 1).square().sum(), start(0.0, 0.0), method=method, tol=1e-9 * scale
    )
    assert result.success, result.message


def test_autocast_around_it_does_not_round_products():
    def fun(x):
        return ((matrix @ x[:, None]) ** 4).sum() + x.square().sum()

    matrix = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    plain = minimize(fun, torch.ones(8), method="newton-cg", maxiter=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = minimize(fun, torch.ones(8), method="newton-cg", maxiter=3)
    assert torch.equal(mixed.x, plain.x)


@pytest.mark.parametrize("stop", [np.True_, torch.tensor(True), True])
def test_a_callback_stops_a_run_by_any_true_value(stop):
    result = minimize(lambda x: (x**4).sum(), torch.ones(2), callback=lambda optimizer: stop)
    assert (result.nit, result.message) == (1, "the callback stopped the run")


@pytest.mark.parametrize("method", ["cg", "newton-cg", "lbfgs", "gradient-descent"])
def test_a_minimum_is_found_in_inference_mode_too(method):
    with torch.inference_mode():
        result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.ones(2).double(), method=method)
    assert result.success
    assert torch.allclose(result.x, torch.full((2,), 3.0).double())


def test_an_iterator_that_ends_within_the_function_is_not_taken_for_the_callback():
    rows = iter([torch.ones(2)])
    with pytest.raises(StopIteration):
        minimize(lambda x: ((x - next(rows)) ** 4).sum(), torch.zeros(2))
