"""A function that counts what is computed of it: values, gradients, Hessian-vector products.

The counts are taken inside automatic differentiation, so every solver that works on torch
functions is counted alike, whatever it calls itself: a value when the function is called, a
gradient when it is differentiated, a product when its gradient is. In the unit of a gradient with
its value, a value alone costs 1/3, hence the gradient at a point with a known value 2/3, and a
product 1. What is computed again at the same point counts again. The reckoning ends at the first
point where the largest absolute entry of the gradient is at most the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

Points = NDArray[np.float64]


class Stopped(Exception):  # noqa: N818 - no error: the reckoning is over
    """Raised out of a solver when there is nothing more to count."""


class CountedFunction:
    """A function, and what was computed of it until the gradient became small.

    Args:
        fun: from ``[n]`` to a scalar, twice differentiable.
        tolerance: on the largest absolute entry of the gradient, above 0.
        limit: values and products together after which the solver is stopped, above 0.
        is_stopped_when_solved: raise `Stopped` in the call after a small gradient was seen; for
            solvers whose own test cannot be the same.

    Attributes:
        num_values: calls of the function.
        num_gradients: gradients.
        num_products: Hessian-vector products.
        is_solved: whether a gradient within the tolerance was seen.
        value: the value at the last point with a gradient; NaN before the first.
        gradient_norm: the smallest of the gradients' largest absolute entries.
    """

    def __init__(
        self,
        fun: Callable[[Tensor], Tensor],
        *,
        tolerance: float = 1e-6,
        limit: int = 20_000,
        is_stopped_when_solved: bool = True,
    ) -> None:
        self._fun = fun
        self._tolerance = tolerance
        self._limit = limit
        self._is_stopped_when_solved = is_stopped_when_solved
        self.num_values = self.num_gradients = self.num_products = 0
        self.is_solved = False
        self.value = float("nan")
        self.gradient_norm = float("inf")

    @property
    def cost(self) -> float:
        """What was computed, in gradients with their values."""
        return (self.num_values + 2 * self.num_gradients) / 3 + self.num_products

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the value.

        Args:
            x: ``[n]``.

        Returns:
            A scalar, twice differentiable.

        Raises:
            Stopped: the limit is reached, or the problem is solved, and that is enough.
        """
        is_over = self.num_values + self.num_products >= self._limit
        if is_over or (self.is_solved and self._is_stopped_when_solved):
            raise Stopped
        value = _Value.apply(x, self)
        assert isinstance(value, Tensor)
        return value

    def compute_value(self, x: Tensor) -> Tensor:
        """Compute a value without a graph and count it."""
        self.num_values += not self.is_solved
        return self._fun(x.detach()).detach()

    def compute_gradient(self, x: Tensor) -> Tensor:
        """Compute a gradient without a graph and count it."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = self._fun(x)
            (gradient,) = torch.autograd.grad(value, x)
        if not self.is_solved:
            self.num_gradients += 1
            self.value = value.item()
            norm = gradient.abs().max().item()
            self.gradient_norm = min(self.gradient_norm, norm)
            self.is_solved = norm <= self._tolerance
        return gradient

    def compute_product(self, x: Tensor, vector: Tensor) -> Tensor:
        """Multiply the Hessian at a point by a vector and count it."""
        self.num_products += not self.is_solved
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._fun(x), x, create_graph=True)
        (product,) = torch.autograd.grad(gradient, x, vector.detach())
        return product


class _Value(Function):
    """The value, differentiated by `_Gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: CountedFunction) -> Tensor:
        ctx.save_for_backward(x)
        ctx.counted = counted
        return counted.compute_value(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        (weight,), (x,) = grad_outputs, ctx.saved_tensors
        gradient = _Gradient.apply(x, ctx.counted)
        assert isinstance(gradient, Tensor)
        return weight * gradient, None


class _Gradient(Function):
    """The gradient, differentiated by a Hessian-vector product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: CountedFunction) -> Tensor:
        ctx.save_for_backward(x)
        ctx.counted = counted
        return counted.compute_gradient(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator's typing
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor, None]:
        (vector,), (x,) = grad_outputs, ctx.saved_tensors
        return ctx.counted.compute_product(x, vector), None


class NumpyFunction:
    """The same for solvers on NumPy arrays; what is asked twice at one point is computed once.

    Args:
        counted: the function.
    """

    def __init__(self, counted: CountedFunction) -> None:
        self._counted = counted
        self._x = torch.empty(0)
        self._value = torch.empty(())
        self._gradient: Tensor | None = None

    def value(self, x: Points) -> float:
        """Compute the value at a point ``[n]``."""
        return self._value_at(x).item()

    def gradient(self, x: Points) -> Points:
        """Compute the gradient ``[n]`` at a point ``[n]``."""
        return self._gradient_at(x).detach().numpy().copy()

    def product(self, x: Points, vector: Points) -> Points:
        """Multiply the Hessian at a point ``[n]`` by a vector ``[n]``."""
        gradient = self._gradient_at(x)
        by = torch.from_numpy(np.asarray(vector, dtype=np.float64).reshape(-1).copy())
        (product,) = torch.autograd.grad(gradient, self._x, by, retain_graph=True)
        return product.numpy()

    def _value_at(self, x: Points) -> Tensor:
        if not np.array_equal(x, self._x.detach().numpy()):
            self._gradient = None
            self._x = torch.from_numpy(np.array(x, dtype=np.float64)).requires_grad_()
            self._value = self._counted(self._x)
        return self._value

    def _gradient_at(self, x: Points) -> Tensor:
        value = self._value_at(x)
        if self._gradient is None:
            (self._gradient,) = torch.autograd.grad(value, self._x, create_graph=True)
        return self._gradient
