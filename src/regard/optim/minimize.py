"""Minimise a function of tensors: `minimize(fun, x0)`, with a result like SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regard.errors import ConfigError
from regard.optim.conjugate_gradient import ConjugateGradient
from regard.optim.gradient_descent import GradientDescent
from regard.optim.lbfgs import LBFGS
from regard.optim.line_search_optimizer import Deterministic, NonFiniteStartError
from regard.optim.newton_cg import NewtonCG
from regard.optim.objectives.function import (
    Function,
    FunctionObjective,
    OutOfEvaluations,
    Point,
    Solved,
    rebuild,
)


@dataclass(frozen=True, slots=True)
class Minimum:
    """What `minimize` found.

    Args:
        x: The point with the lowest value, in the structure of ``x0``.
        fun: Value there.
        grad_norm: Largest absolute entry of the gradient there.
        nfev: Points at which a value was computed.
        ngev: Points at which a gradient was computed, too.
        nhvp: Products of the Hessian with a vector.
        nit: Steps of the optimizer.
        success: Whether the gradient is as small as was asked.
        message: How it ended.
    """

    x: Any
    fun: float
    grad_norm: float
    nfev: int
    ngev: int
    nhvp: int
    nit: int
    success: bool
    message: str


Method = Callable[[list[Tensor]], Deterministic]
"""Builds an optimizer of tensors."""


def _conjugate_gradient(tensors: list[Tensor], memory: int) -> Deterministic:
    return ConjugateGradient(tensors, memory=memory, checks_noise=False)


def _lbfgs(tensors: list[Tensor], memory: int) -> Deterministic:
    return LBFGS(tensors, memory=max(1, memory), checks_noise=False)


def _newton_cg(tensors: list[Tensor], memory: int) -> Deterministic:
    del memory  # a Newton step starts from nothing
    return NewtonCG(tensors, curvature="hessian", checks_noise=False)


def _gradient_descent(tensors: list[Tensor], memory: int) -> Deterministic:
    del memory  # one step back, always
    return GradientDescent(tensors, checks_noise=False)


METHODS: dict[str, Callable[[list[Tensor], int], Deterministic]] = {
    "cg": _conjugate_gradient,
    "lbfgs": _lbfgs,
    "newton-cg": _newton_cg,
    "gradient-descent": _gradient_descent,
}


def minimize(
    fun: Function,
    x0: Point,
    *,
    method: str | Method = "cg",
    tol: float = 1e-6,
    max_evaluations: int = 20_000,
    memory: int = 11,
    callback: Callable[[Deterministic], None] | None = None,
) -> Minimum:
    """Find a point where the gradient of a function is nearly zero.

    Args:
        fun: Takes a point, returns a scalar tensor; twice differentiable for newton-cg. It is
            called under ``no_grad`` where only its value is wanted.
        x0: First point: a floating-point tensor, or a dict of such tensors and of such dicts, all
            of one type.
        method: cg, lbfgs, newton-cg, gradient-descent, or a function that builds an optimizer, such
            as ``lambda x: ConjugateGradient(x, beta="dai-yuan", checks_noise=False)``.
        tol: Largest absolute entry of the gradient that is small enough, above 0.
        max_evaluations: Calls of `fun` and products with its Hessian at most.
        memory: Steps that cg and lbfgs remember; 0 for plain conjugate gradient.
        callback: Called with the optimizer after every step.

    Returns:
        The best point met. Failures are named in its message, with ``success`` False.

    Raises:
        ConfigError: There is no such method, or an argument is out of range.
        ShapeError: The point or the value has the wrong form.

    >>> import torch
    >>> found = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2, dtype=torch.float64))
    >>> found.success, [round(float(entry), 6) for entry in found.x]
    (True, [3.0, 3.0])
    """
    if not tol > 0:
        raise ConfigError(f"tol must be above 0, not {tol}")
    if max_evaluations < 1:
        raise ConfigError(f"max_evaluations must be 1 or more, not {max_evaluations}")
    if isinstance(method, str) and method not in METHODS:
        raise ConfigError(f"unknown method {method!r}.  One of: {', '.join(METHODS)}")
    objective = FunctionObjective(fun, x0, tol=tol, max_evaluations=max_evaluations)
    tensors = objective.tensors
    optimizer = METHODS[method](tensors, memory) if isinstance(method, str) else method(tensors)
    objective.keeps_graph = isinstance(optimizer, NewtonCG)
    num_steps, message = _run(optimizer, objective, callback)
    return Minimum(
        x=rebuild(x0, objective.best),
        fun=objective.best_value,
        grad_norm=objective.best_norm,
        nfev=objective.num_values + objective.num_gradients,
        ngev=objective.num_gradients,
        nhvp=objective.num_products,
        nit=num_steps,
        success=message == _SOLVED,
        message=message,
    )


_SOLVED = "the gradient is small enough"


def _run(
    optimizer: Deterministic,
    objective: FunctionObjective,
    callback: Callable[[Deterministic], None] | None,
) -> tuple[int, str]:
    """Step until the end; return the number of steps and how it ended."""
    num_steps = num_failures = 0
    try:
        while num_failures < 2:
            optimizer.step(objective)
            num_steps += 1
            num_failures = num_failures + 1 if optimizer.last.failure else 0
            if callback is not None:
                callback(optimizer)
    except Solved:
        return num_steps + (objective.num_gradients > 1), _SOLVED
    except OutOfEvaluations:
        return num_steps, "the limit of evaluations was reached"
    except NonFiniteStartError as error:
        return 0, str(error)
    return num_steps, f"the search failed: {optimizer.last.failure}"
