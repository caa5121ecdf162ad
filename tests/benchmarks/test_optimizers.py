"""The comparison of minimizers: its problems, its reckoning of cost, and that it runs."""

import io
import json
import math

import numpy as np
import pytest
import torch
from benchmarks.classical_problems import PROBLEMS, Problem
from benchmarks.counted import CountedFunction, NumpyFunction, Stopped

from benchmarks import minimizers, optimizers
from regard.optim import minimize

SMALL = [problem for problem in PROBLEMS if len(problem.x0) <= 50]
START_VALUES = {  # from the sources, times the number of groups where the function is extended
    "extended Rosenbrock 1000": 24.2 * 500,
    "Powell singular 100": 215 * 25,
    "Wood 4": 19192,
    "Beale 2": 14.203125,
    "helical valley 3": 2500,
    "Engval1 500": 59 * 499,
    "Arwhead 500": 3 * 499,
    "Fletchcr 100": 100 * 99,
    "logistic regression 50": math.log(2),
    "Freudenstein-Roth 100": 400.5 * 50,
}


def ones(problem: Problem):
    return torch.ones_like(problem.x0)


def powers(problem: Problem):
    return 2 ** (torch.arange(1, len(problem.x0) + 1).double().neg().exp2().mul(2) - 1)


MINIMIZERS = {
    "chained Rosenbrock 100": ones,
    "chained Rosenbrock 1000": ones,
    "extended Rosenbrock 1000": ones,
    "Powell singular 100": lambda problem: 0 * problem.x0,
    "Dixon-Price 100": powers,
    "Wood 4": ones,
    "trigonometric 50": lambda problem: 0 * problem.x0,
    "variably dimensioned 50": ones,
    "Beale 2": lambda problem: torch.tensor([3, 0.5]).double(),
    "helical valley 3": lambda problem: torch.tensor([1.0, 0, 0]).double(),
    "Arwhead 500": lambda problem: torch.cat((torch.ones(499), torch.zeros(1))).double(),
    "Fletchcr 100": ones,
    "quadratic 200": lambda problem: 0 * problem.x0,
    "Brown almost linear 10": ones,
    "Freudenstein-Roth 100": lambda problem: torch.tensor([5.0, 4.0]).double().repeat(50),
}


@pytest.fixture(autouse=True)
def same_threads():
    """Leave the number of threads, on which the bits of other tests depend, as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def find(name: str) -> Problem:
    return next(problem for problem in PROBLEMS if problem.name == name)


def run(method: str, problem: str, cost: float, *, is_solved: bool = True) -> optimizers.Run:
    return optimizers.Run(
        problem=problem,
        method=method,
        is_solved=is_solved,
        cost=cost,
        values=1,
        gradients=1,
        products=0,
        value=0.0,
        gradient_norm=0.0,
    )


def test_there_are_twenty_problems_with_names_of_their_own():
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS) == 20


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_a_problem_starts_with_a_finite_float64_gradient(problem):
    x = problem.x0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.fun(x), x)
    assert gradient.dtype == torch.float64
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("problem", SMALL, ids=lambda problem: problem.name)
def test_the_gradient_of_a_problem_is_that_of_its_values(problem):
    generator = torch.Generator().manual_seed(1)
    # off the start, where helical valley lies on the edge of a branch of the angle
    x = problem.x0 / problem.x0.abs().max().clamp(min=1)
    x = x + 0.1 * torch.rand(x.shape, dtype=x.dtype, generator=generator)
    scale = problem.fun(x).item()
    assert torch.autograd.gradcheck(lambda y: problem.fun(y) / scale, x.requires_grad_())


@pytest.mark.parametrize("name", START_VALUES)
def test_the_value_at_the_start_is_the_published_one(name):
    problem = find(name)
    assert problem.fun(problem.x0).item() == pytest.approx(START_VALUES[name], rel=1e-12)


@pytest.mark.parametrize("name", MINIMIZERS)
def test_the_value_at_the_known_minimizer_is_zero(name):
    problem = find(name)
    x = MINIMIZERS[name](problem).requires_grad_()
    value = problem.fun(x)
    (gradient,) = torch.autograd.grad(value, x)
    assert value.item() == pytest.approx(0, abs=1e-20)
    assert gradient.abs().max() < 1e-9


def test_the_angle_of_helical_valley_is_continuous_where_x1_is_negative():
    fun = find("helical valley 3").fun
    above, below = (fun(torch.tensor([-1, x, 5.0]).double()) for x in (1e-9, -1e-9))
    assert above.item() == pytest.approx(below.item(), rel=1e-6)


def test_a_value_costs_a_third_and_its_gradient_two_thirds_more():
    counted = CountedFunction(find("Wood 4").fun)
    x = find("Wood 4").x0.clone().requires_grad_()
    value = counted(x)
    assert counted.cost == pytest.approx(1 / 3)
    value.backward()
    assert counted.cost == pytest.approx(1)
    with torch.no_grad():
        counted(x)
    assert counted.cost == pytest.approx(4 / 3)


def test_a_hessian_vector_product_costs_one():
    counted = CountedFunction(find("Wood 4").fun)
    x = find("Wood 4").x0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(counted(x), x, create_graph=True)
    for vector in torch.eye(4).double()[:2]:
        torch.autograd.grad(gradient, x, vector, retain_graph=True)
    assert (counted.num_values, counted.num_gradients, counted.num_products) == (1, 1, 2)
    assert counted.cost == pytest.approx(3)


def test_a_counted_function_has_the_derivatives_of_the_function():
    counted = CountedFunction(find("Wood 4").fun)
    x = (find("Wood 4").x0 / 3).requires_grad_()
    assert torch.autograd.gradcheck(counted, x)
    hessian = torch.autograd.functional.hessian(counted, x)
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(find("Wood 4").fun, x))


def test_the_reckoning_ends_at_the_first_small_gradient():
    counted = CountedFunction(lambda x: (x**2).sum(), is_stopped_when_solved=False)
    for start in (1.0, 1e-7, 1.0):
        x = torch.tensor([start], dtype=torch.float64, requires_grad=True)
        counted(x).backward()
    assert counted.is_solved
    assert counted.cost == pytest.approx(2)
    assert counted.value == pytest.approx(1e-14)
    assert counted.gradient_norm == pytest.approx(2e-7)


def test_a_solver_is_stopped_after_a_small_gradient():
    counted = CountedFunction(lambda x: (x**2).sum())
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    counted(x).backward()
    with pytest.raises(Stopped):
        counted(x)


def test_a_solver_is_stopped_at_the_limit():
    counted = CountedFunction(lambda x: (x**2).sum(), limit=2)
    x = torch.ones(1, dtype=torch.float64)
    for _ in range(2):
        counted(x)
    with pytest.raises(Stopped):
        counted(x)
    assert not counted.is_solved


def test_what_a_numpy_solver_asks_twice_at_a_point_is_computed_once():
    counted = CountedFunction(find("Wood 4").fun)
    fun, x = NumpyFunction(counted), find("Wood 4").x0.numpy()
    value = fun.value(x)
    assert fun.value(x.copy()) == value == 19192
    assert counted.cost == pytest.approx(1 / 3)
    np.testing.assert_array_equal(fun.gradient(x), fun.gradient(x))
    assert counted.cost == pytest.approx(1)
    fun.product(x, np.ones(4))
    assert counted.cost == pytest.approx(2)
    fun.gradient(x + 1)
    assert counted.cost == pytest.approx(3)


@pytest.mark.parametrize("method", ["cg", "lbfgs", "newton-cg", "gradient-descent"])
def test_our_own_counts_are_those_inside_the_function(method):
    counted = CountedFunction(find("Beale 2").fun, is_stopped_when_solved=False)
    found = minimize(counted, find("Beale 2").x0.clone(), method=method)
    assert found.success
    assert counted.is_solved
    counts = (counted.num_values, counted.num_gradients, counted.num_products)
    assert (found.nfev, found.ngev, found.nhvp) == counts


@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("method", [*minimizers.OURS, *minimizers.PEERS], ids=lambda x: x.name)
def test_every_method_solves_a_problem_of_two_variables(method):
    if reason := method.reason_to_leave_out():
        pytest.skip(reason)
    problem = find("Beale 2")
    counted, is_solved = minimizers.try_method(method, problem.fun, problem.x0, 1e-6, 500)
    assert is_solved
    assert counted.value == pytest.approx(0, abs=1e-9)
    assert 10 < counted.cost < 100


def test_a_method_that_ends_early_has_not_solved_the_problem():
    problem = find("Wood 4")
    counted, is_solved = minimizers.try_method(
        minimizers.OURS[0], problem.fun, problem.x0, 1e-6, limit=5
    )
    assert not is_solved
    assert counted.num_values <= 5


def test_requests_of_another_process_are_answered_by_bytes():
    x = np.array([1.0, 2.0]).tobytes()
    requests, replies = io.BytesIO(b"v" + x + b"g" + x + b"b" + x + b"e"), io.BytesIO()
    fun = NumpyFunction(CountedFunction(lambda y: (y**2).sum()))
    assert minimizers.answer(fun, 2, requests, replies)
    assert np.frombuffer(replies.getvalue()).tolist() == [5, 2, 4, 5, 2, 4]


def test_requests_that_break_off_are_no_success():
    fun = NumpyFunction(CountedFunction(lambda y: (y**2).sum()))
    assert not minimizers.answer(fun, 2, io.BytesIO(b""), io.BytesIO())


def test_a_ratio_is_a_geometric_mean_over_what_both_solve():
    runs = [run("cg", "a", 2), run("cg", "b", 8), run("cg", "c", 5), run("sp-cg", "a", 1)]
    runs += [run("sp-cg", "b", 1), run("sp-cg", "c", 1, is_solved=False)]
    figure, count = optimizers.ratio(runs, "cg", "sp-cg")
    assert figure == pytest.approx(4)
    assert count == 2


def test_a_ratio_over_nothing_meets_no_bar():
    runs = [run("cg", "a", 2), run("sp-cg", "a", 1, is_solved=False)]
    claim = next(c for c in optimizers.claims(runs) if c.what == "cg over sp-cg")
    assert math.isnan(claim.figure)
    assert not claim.is_met()


def test_a_bar_on_the_number_solved_is_at_least():
    runs = [run("cg", "a", 2), run("cg", "b", 2, is_solved=False)]
    (claim,) = optimizers.claims(runs)
    assert (claim.figure, claim.bar, claim.is_met()) == (1, 2, False)


@pytest.mark.slow
def test_the_report_holds_figures_against_bars(capsys):
    optimizers.main(["--problems", "Beale 2,Wood 4", "--only", "cg,cg-0"])
    printed = capsys.readouterr().out
    assert "Wood 4" in printed
    assert "cg: problems solved             2.00  >= 2     met     of 2" in printed


def test_the_report_is_also_json(capsys):
    optimizers.main(["--problems", "Beale 2", "--only", "cg", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [(x["method"], x["is_solved"]) for x in report["runs"]] == [("cg", True)]
    assert [x["what"] for x in report["claims"]] == ["cg: problems solved"]


def test_cg_descent_without_an_interpreter_is_left_out_aloud(capsys):
    optimizers.main(["--problems", "Beale 2", "--only", "cg,cgd-0"])
    line = "CG_DESCENT with memory 0: left out: no --cg-descent PYTHON was given\n"
    assert capsys.readouterr().err == line


def test_an_interpreter_that_does_not_exist_is_left_out_aloud(capsys):
    optimizers.main(
        ["--problems", "Beale 2", "--only", "cg,cgd-0", "--cg-descent", "/no/such/python"]
    )
    assert "left out: /no/such/python has no pycgdescent" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--only", "--problems"])
def test_an_unknown_name_is_a_usage_error(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        optimizers.main([option, "cq"])
    assert stopped.value.code == 2
    assert f"{option} cq: not known.  Known: " in capsys.readouterr().err
