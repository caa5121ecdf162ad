"""A plain function of tensors as an objective, counted and limited."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from regard.errors import ShapeError
from regard.optim.curvature.hvp import vector_jacobian_product
from regard.optim.objectives.objective import unread_scalar

Point: TypeAlias = Tensor | Mapping[str, Any]
"""A tensor, or a dict of tensors and such dicts."""
Function: TypeAlias = Callable[[Any], Tensor]


class Solved(Exception):  # noqa: N818 - an end, not an error
    """A point with a small enough gradient has been evaluated."""


class NotDifferentiable(Exception):  # noqa: N818 - an end, not an error
    """The value does not depend on the point, or was detached from it."""


class OutOfEvaluations(Exception):  # noqa: N818 - an end, not an error
    """The limit of evaluations is reached."""


def flatten(point: Point) -> list[Tensor]:
    """Return the tensors of a point as a list, in the order of its keys.

    Raises:
        ShapeError: It contains something else.
    """
    if isinstance(point, Tensor):
        return [point]
    if isinstance(point, Mapping):
        return [tensor for part in point.values() for tensor in flatten(part)]
    raise ShapeError(
        f"a point is a tensor or a dict of tensors, not {type(point).__name__}.  "
        "Turn numbers into tensors: torch.tensor(..., dtype=torch.float64)"
    )


def unflatten(template: Point, tensors: Sequence[Tensor]) -> Any:
    """Return tensors in the structure of a point."""
    remaining = iter(tensors)

    def build(part: Point) -> Any:
        if isinstance(part, Tensor):
            return next(remaining)
        return {name: build(entry) for name, entry in part.items()}

    return build(template)


class FunctionObjective:
    """A function evaluated at tensors of its own, which an optimizer moves.

    Args:
        fun: Takes a point, returns a scalar.
        x0: The first point; it is not changed.
        tol: `Solved` is raised at the first point where the gradient's largest absolute entry is
            not above it and the value not above the best.
        max_evaluations: Calls of `fun`, and products, before `OutOfEvaluations`.

    Raises:
        ShapeError: The point has no tensor, or something else in it.
    """

    def __init__(self, fun: Function, x0: Point, *, tol: float, max_evaluations: int) -> None:
        self._fun, self._template, self._tol = fun, x0, tol
        self._num_left = max_evaluations
        self.keeps_graph = False
        """Whether a gradient keeps its graph, for products."""
        copies = [tensor.detach().clone() for tensor in flatten(x0)]
        if not copies:
            raise ShapeError("the point is a dict without a tensor: there is nothing to move.")
        self.tensors = [t.requires_grad_() if t.is_floating_point() else t for t in copies]
        self._slopes: Sequence[Tensor] = ()
        self.num_values = self.num_gradients = self.num_products = 0
        self.best = [tensor.detach().clone() for tensor in self.tensors]
        self.best_value = self.best_norm = math.inf
        self.first_magnitude = 1.0
        """Magnitude of the value at the first point, at least 1."""

    def value(self) -> float:
        """Compute the value under ``no_grad``."""
        return float(self.unread_value())

    def unread_value(self) -> Tensor:
        """Compute the value under ``no_grad``, a scalar that is not read."""
        self._count()
        self.num_values += 1
        with torch.no_grad():
            loss = self._fun(unflatten(self._template, [t.detach() for t in self.tensors]))
            return torch.as_tensor(unread_scalar(loss), dtype=torch.float64)

    def gradient(self) -> float:
        """Compute value and gradient, and judge the point."""
        value = float(self.unread_gradient())
        self.judge(value, float(self.unread_norm()))
        return value

    def unread_gradient(self) -> Tensor:
        """Compute value and gradient; return the value, a scalar that is not read."""
        self._count()
        self.num_gradients += 1
        with torch.enable_grad():
            loss = self._fun(unflatten(self._template, self.tensors))
            value = torch.as_tensor(unread_scalar(loss), dtype=torch.float64)
            if not isinstance(loss, Tensor) or not loss.requires_grad:
                self.best_value = float(value)
                raise NotDifferentiable
            self._slopes = torch.autograd.grad(
                loss.reshape(()),
                self.tensors,
                create_graph=self.keeps_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        for tensor, slope in zip(self.tensors, self._slopes, strict=True):
            tensor.grad = slope.detach()
        return value

    def unread_norm(self) -> Tensor:
        """Return the largest absolute entry of the last gradient, a scalar; NaN where one is."""
        entries = [slope.detach().abs().max() for slope in self._slopes if slope.numel()]
        return torch.stack(entries).max() if entries else torch.zeros(())

    def hessian(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the Hessian at the last point whose gradient was computed.

        Args:
            vector: Tensors of the point's shapes.

        Returns:
            The product, tensors of the same shapes.

        Raises:
            ConfigError: An operator in the graph has no second derivative.
        """
        self._count()
        self.num_products += 1
        return vector_jacobian_product(self._slopes, self.tensors, vector)

    gauss_newton = hessian  # a plain function has no outputs to linearise

    def _count(self) -> None:
        if self._num_left <= 0:
            raise OutOfEvaluations
        self._num_left -= 1

    def judge(self, value: float, norm: float) -> None:
        """Keep the present point where it is the best.

        Args:
            value: At the point.
            norm: Largest absolute entry of the gradient there.

        Raises:
            Solved: The gradient is small enough.
        """
        if self.num_gradients == 1 and math.isfinite(value):
            self.first_magnitude = max(1.0, abs(value))
        # Above the best by more than rounding, a point is on a higher plateau.
        rounding = torch.finfo(self.tensors[0].dtype).eps ** 0.5 * abs(self.best_value)
        is_worse = value > self.best_value + rounding  # never at first, where the best is infinite
        # A start whose gradient underflows has to be scaled; a solution's may well underflow.
        tiny = torch.finfo(self.tensors[0].dtype).tiny
        is_scaled_away = self.num_gradients == 1 and value != 0 and 0 < norm < tiny**0.5
        is_solved = math.isfinite(value) and norm <= self._tol and not (is_worse or is_scaled_away)
        if (math.isfinite(value) and value < self.best_value) or is_solved:
            self.best = [tensor.detach().clone() for tensor in self.tensors]
            self.best_value, self.best_norm = value, norm
        if is_solved:
            raise Solved
