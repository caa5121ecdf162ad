"""What deterministic methods minimise: a value, its gradient, and products with its curvature."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch.distributed as dist
from torch import Tensor

from regard.errors import ConfigError, ShapeError

Closure = Callable[[], Tensor | float]
"""Clears the gradients, computes the loss, calls ``backward`` and returns the loss."""


Reduce = Callable[[Tensor], object]
"""Sums a tensor over the processes that work together, in place, with the same result on each.

``torch.distributed.all_reduce`` is one; a function that does nothing is for a process alone.
"""


@runtime_checkable
class DeterministicObjective(Protocol):
    """A function of n parameters, evaluated at their present values.

    Its Hessian and Gauss-Newton matrix, of shape ``[n, n]``, are only multiplied with vectors.
    """

    def value(self) -> float:
        """Compute the value alone."""
        ...

    def gradient(self) -> float:
        """Compute the value, and the gradient into ``grad`` of every parameter."""
        ...

    def gauss_newton(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the Gauss-Newton matrix with a vector, tensors of the parameters' shapes."""
        ...

    def hessian(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the Hessian with a vector, tensors of the parameters' shapes."""
        ...


@runtime_checkable
class StepAwareObjective(Protocol):
    """An objective that is given its optimizer's parameters and the start of every step."""

    def bind(self, parameters: Sequence[Tensor]) -> None:
        """Take the parameters with respect to which derivatives are computed."""
        ...

    def begin_step(self) -> bool:
        """Prepare for a step; return whether the objective has changed since the last one."""
        ...


@runtime_checkable
class UnreadObjective(Protocol):
    """An objective on a GPU whose value is read later, together with other numbers."""

    def unread_value(self) -> Tensor:
        """Compute the value alone, a scalar."""
        ...

    def unread_gradient(self) -> Tensor:
        """Compute the value, a scalar, and the gradient into ``grad`` of every parameter."""
        ...


@runtime_checkable
class JudgingObjective(UnreadObjective, Protocol):
    """An objective that looks at every gradient, with the other numbers that are read."""

    def unread_norm(self) -> Tensor:
        """Return the largest absolute entry of the last gradient, a scalar."""
        ...

    def judge(self, value: float, norm: float) -> None:
        """Take note of the value at the present point, and of that entry."""
        ...


def num_processes() -> int:
    """Return how many processes evaluate an objective together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def require_gradients(parameters: Sequence[Tensor], source: str) -> None:
    """Check that an evaluation left gradients, and warn of parameters that have none.

    Raises:
        ConfigError: No parameter has a gradient.
    """
    unused = [index for index, p in enumerate(parameters) if p.grad is None]
    if len(unused) == len(parameters):
        raise ConfigError(
            f"{source} left no gradients: it must call loss.backward() before it returns the loss, "
            "on the parameters that the optimizer was given."
        )
    if unused:
        first = parameters[unused[0]]
        warnings.warn(
            f"{len(unused)} of {len(parameters)} parameters got no gradient, first number "
            f"{unused[0]} of shape {list(first.shape)}: the loss does not depend on them.  They "
            "stay as they are.",
            stacklevel=2,
        )


def unread_scalar(loss: object) -> Tensor | float:
    """Return a loss as a scalar, which is not read where it is a tensor.

    Raises:
        ShapeError: It is not a scalar.
    """
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ShapeError(
                f"the loss has shape {list(loss.shape)}; a scalar is expected.  Take its mean."
            )
        if loss.is_complex():
            raise ShapeError("the loss is complex; a real scalar is expected.  Take its real part.")
        return loss.detach().reshape(())
    if not isinstance(loss, float | int):
        raise ShapeError(f"the loss is {type(loss).__name__}; return the scalar that was computed")
    return float(loss)
