"""Minimise a function of tensors: `minimize(fun, x0)`, with a result like SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim import METHODS
from regard.optim.conjugate_gradient import ConjugateGradient
from regard.optim.lbfgs import LBFGS
from regard.optim.line_search_optimizer import LineSearchOptimizer, NonFiniteStartError
from regard.optim.newton_cg import NewtonCG
from regard.optim.objectives.function import (
    Function,
    FunctionObjective,
    NotDifferentiable,
    OutOfEvaluations,
    Point,
    Solved,
    unflatten,
)
from regard.option_checks import require_callable, require_number, require_whole

_SAME_METHOD = {"l-bfgs": "lbfgs", "l-bfgs-b": "lbfgs"}  # SciPy's names; there are no bounds here
_SOLVED = "the gradient is small enough"

_BOTTOMLESS = 1e30  # times the first value, or 1: a function that falls further has no minimum

BuildOptimizer = Callable[[list[Tensor]], LineSearchOptimizer]
"""Builds the optimizer of tensors."""
Callback = Callable[[LineSearchOptimizer], bool | None]
"""Is called after every step; True stops the run."""


@dataclass(frozen=True, slots=True, repr=False)
class OptimizeResult:
    """What `minimize` returns; the names are SciPy's.

    Args:
        x: The point with the lowest value, in the structure of ``x0``.
        fun: Value there.
        success: Whether the gradient is as small as was asked, as in SciPy also where it is zero
            because the function is constant there.
        message: How it ended.
        grad_norm: Largest absolute entry of the gradient there.
        nfev: Points at which a value was computed.
        ngev: Points at which a gradient was computed, too.
        nhvp: Products of the Hessian with a vector.
        nit: Steps of the optimizer.
    """

    x: Any
    fun: float
    success: bool
    message: str
    grad_norm: float
    nfev: int
    ngev: int
    nhvp: int
    nit: int

    def __repr__(self) -> str:
        return "\n".join(f"{f.name:>9}: {getattr(self, f.name)!r}" for f in fields(self))


def minimize(
    fun: Function,
    x0: Point,
    *,
    method: str | BuildOptimizer = "cg",
    tol: float = 1e-6,
    max_evaluations: int = 20_000,
    maxiter: int | None = None,
    memory: int = 11,
    callback: Callback | None = None,
) -> OptimizeResult:
    """Compute a point where the gradient of a function is nearly zero.

    Args:
        fun: Takes a point, returns a scalar tensor; twice differentiable for newton-cg. It is
            called under ``no_grad`` where only its value is needed, and without autocast.
        x0: First point: a floating-point tensor, or a dict of such tensors and of such dicts, all
            of one type.
        method: cg, newton-cg, lbfgs or gradient-descent, in any case (SciPy's ``"L-BFGS-B"`` is
            lbfgs), or a function that builds an optimizer, such as
            ``lambda x: ConjugateGradient(x, beta="dai-yuan", checks_noise=False)``.
        tol: Largest absolute entry of the gradient that is small enough, above 0.
        max_evaluations: Calls of `fun` and products with its Hessian at most, 1 or more.
        maxiter: Steps at most, 1 or more; None leaves only `max_evaluations`.
        memory: Steps that cg and lbfgs remember, 0 or more; 0 for plain conjugate gradient.
        callback: Called with the optimizer after every step; it stops the run by returning True or
            raising StopIteration.

    Returns:
        The best point met. Failures are named in its message, with ``success`` False.

    Raises:
        ConfigError: The method is unknown or builds another optimizer, or an argument is out of
            range or no function.
        ShapeError: The point or the value has the wrong form.

    >>> import torch
    >>> result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2, dtype=torch.float64))
    >>> result.success, [round(float(entry), 6) for entry in result.x]
    (True, [3.0, 3.0])
    """
    require_callable("fun", fun, "a function of the point")
    if callback is not None:
        require_callable("callback", callback, "None or a function of the optimizer")
    require_number("tol", tol, "above 0", lambda tol: tol > 0)
    require_whole("memory", memory, 0)
    require_whole("max_evaluations", max_evaluations, 1)
    if maxiter is not None:
        require_whole("maxiter", maxiter, 1)
    build = method if callable(method) else _builder(method, memory)
    # Also around the optimizer's own sums: rounding by autocast is larger than what is compared.
    with torch.inference_mode(False):
        objective = FunctionObjective(fun, x0, tol=tol, max_evaluations=max_evaluations)
        with torch.autocast(objective.tensors[0].device.type, enabled=False):
            optimizer = _require_optimizer(build(objective.tensors))
            objective.keeps_graph = isinstance(optimizer, NewtonCG)
            num_steps, message = _run(optimizer, objective, callback, maxiter)
    if message != _SOLVED and objective.best_value < -_BOTTOMLESS * objective.first_magnitude:
        value = f"{objective.best_value:.3g}"
        message = f"the function seems to have no minimum: its value fell to {value}"
    return OptimizeResult(
        x=unflatten(x0, objective.best),
        fun=objective.best_value,
        success=message == _SOLVED,
        message=message,
        grad_norm=objective.best_norm,
        nfev=objective.num_values + objective.num_gradients,
        ngev=objective.num_gradients,
        nhvp=objective.num_products,
        nit=num_steps,
    )


def _builder(method: str, memory: int) -> BuildOptimizer:
    """Return the function that builds the optimizer of a name."""
    name = method.lower() if isinstance(method, str) else ""
    optimizer = METHODS.get(_SAME_METHOD.get(name, name))
    if optimizer is None:
        raise ConfigError(f"unknown method {method!r}.  One of: {', '.join(METHODS)}")
    settings: dict[str, Any] = {"checks_noise": False}
    if optimizer is ConjugateGradient:
        settings["memory"] = memory
    elif optimizer is LBFGS:
        settings["history_size"] = max(1, memory)
    elif optimizer is NewtonCG:
        settings["curvature"] = "hessian"
    return lambda tensors: optimizer(tensors, **settings)


def _require_optimizer(optimizer: object) -> LineSearchOptimizer:
    """Return what a function of the caller has built, where it evaluates an objective."""
    if not isinstance(optimizer, LineSearchOptimizer):
        classes = ", ".join(optimizer_class.__name__ for optimizer_class in METHODS.values())
        raise ConfigError(
            f"method must build one of {classes}; the function returned {type(optimizer).__name__}."
        )
    return optimizer


def _run(
    optimizer: LineSearchOptimizer,
    objective: FunctionObjective,
    callback: Callback | None,
    maxiter: int | None,
) -> tuple[int, str]:
    """Step until the end; return the number of steps and how it ended."""
    num_steps = num_failures = 0
    try:
        while num_failures < 2:
            optimizer.step(objective)
            num_steps += 1
            num_failures = num_failures + 1 if optimizer.last.failure else 0
            if callback is not None and _wants_to_stop(callback, optimizer):
                return num_steps, "the callback stopped the run"
            if num_steps == maxiter:
                return num_steps, "the limit of steps was reached"
    except Solved:
        return num_steps + (objective.num_gradients > 1), _SOLVED
    except NotDifferentiable:
        return 0, "the value does not depend on x, or was detached from it"
    except OutOfEvaluations:
        return num_steps, "the limit of evaluations was reached"
    except NonFiniteStartError as error:
        return 0, str(error)
    return num_steps, f"the search failed: {optimizer.last.failure}"


def _wants_to_stop(callback: Callback, optimizer: LineSearchOptimizer) -> bool:
    """Return whether a callback returns True, or raises StopIteration as SciPy's may."""
    try:
        return bool(callback(optimizer))
    except StopIteration:
        return True
