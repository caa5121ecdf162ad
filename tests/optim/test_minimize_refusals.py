"""What minimize refuses, and what it says."""

import math
import re

import pytest
import torch

from regard.errors import ConfigError, ShapeError
from regard.optim import minimize


def start(*entries, dtype=torch.float64):
    return torch.tensor(entries, dtype=dtype)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_a_limit_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match=r"^max_evaluations must be a whole number, 1 or m"):
        minimize(rosenbrock, start(1.0, 2.0), max_evaluations=0)


@pytest.mark.parametrize("tol", [0.0, -1.0, math.nan])
def test_a_tolerance_that_is_not_above_zero_is_refused(tol):
    with pytest.raises(ConfigError, match=f"^tol must be above 0, not {tol}$"):
        minimize(rosenbrock, start(1.0, 2.0), tol=tol)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        minimize(rosenbrock, start(1.0, 2.0), method="bfgs")
    expected = "unknown method 'bfgs'.  One of: cg, newton-cg, lbfgs, gradient-descent"
    assert str(error.value) == expected


def test_a_point_that_is_not_a_tensor_is_refused():
    with pytest.raises(ShapeError) as error:
        minimize(rosenbrock, [1.0, 2.0])
    assert str(error.value) == (
        "a point is a tensor or a dict of tensors, not list.  Turn numbers into tensors: "
        "torch.tensor(..., dtype=torch.float64)"
    )


def test_a_point_of_integers_is_refused():
    with pytest.raises(ConfigError, match=r"^parameter 0 of shape \[2\] is int64; these methods "):
        minimize(rosenbrock, torch.tensor([1, 2]))


def test_a_complex_point_is_refused():
    with pytest.raises(ConfigError, match=r"^parameter 0 of shape \[1\] is complex128; these meth"):
        minimize(lambda x: (x * x.conj()).real.sum(), torch.tensor([1j], dtype=torch.complex128))


def test_a_point_of_two_types_is_refused():
    x0 = {"a": start(1.0), "b": start(1.0, dtype=torch.float32)}
    with pytest.raises(ConfigError, match=r"^parameters are float32 on cpu and float64 on cpu"):
        minimize(lambda x: x["a"].sum() + x["b"].sum(), x0)


def test_a_function_that_returns_a_vector_is_refused():
    with pytest.raises(ShapeError) as error:
        minimize(lambda x: x * x, start(1.0, 2.0))
    assert str(error.value) == "the loss has shape [2]; a scalar is expected.  Take its mean."


def test_scipys_methods_that_we_do_not_have_are_refused_with_ours():
    with pytest.raises(ConfigError) as error:
        minimize(rosenbrock, start(-1.2, 1.0), method="Nelder-Mead")
    assert str(error.value) == (
        "unknown method 'Nelder-Mead'.  One of: cg, newton-cg, lbfgs, gradient-descent"
    )


def test_a_complex_value_is_refused():
    with pytest.raises(ShapeError, match="the loss is complex; a real scalar is expected"):
        minimize(lambda x: (x * 1j).sum(), start(1.0))


@pytest.mark.parametrize("name", ["maxiter", "max_evaluations"])
@pytest.mark.parametrize("limit", [2.5, 3.0, "3"])
def test_a_limit_that_is_no_whole_number_is_refused(name, limit):
    with pytest.raises(
        ConfigError, match=f"{name} must be a whole number, 1 or more, not {limit!r}"
    ):
        minimize(lambda x: (x**2).sum(), torch.ones(2), **{name: limit})


def test_a_method_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match=r"unknown method None\.  One of: cg, newton-cg"):
        minimize(lambda x: (x**2).sum(), torch.ones(2), method=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fun": start(1.0)}, "fun must be a function of the point, not tensor(["),
        ({"callback": 5}, "callback must be None or a function of the optimizer, not 5"),
    ],
)
def test_what_is_no_function_is_refused_before_a_step(arguments, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        minimize(**{"fun": rosenbrock, "x0": start(1.0, 2.0), **arguments})


@pytest.mark.parametrize("point", [{}, {"a": {}}])
def test_a_point_without_a_tensor_is_refused(point):
    with pytest.raises(ShapeError) as error:
        minimize(lambda x: torch.zeros(()), point)
    assert str(error.value) == "the point is a dict without a tensor: there is nothing to move."


@pytest.mark.parametrize(
    ("build", "kind"), [(torch.optim.SGD, "SGD"), (lambda tensors: None, "NoneType")]
)
def test_an_optimizer_that_evaluates_no_objective_is_refused(build, kind):
    with pytest.raises(ConfigError) as error:
        minimize(rosenbrock, start(1.0, 2.0), method=build)
    assert str(error.value) == (
        "method must build one of ConjugateGradient, NewtonCG, LBFGS, GradientDescent; the "
        f"function returned {kind}."
    )
