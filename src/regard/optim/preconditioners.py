"""Preconditioners: a cheap approximation of the inverse Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.option_checks import require_callable

Precondition = Callable[[Tensor], Tensor]
"""Multiplies a vector, ``[n]``, with a symmetric positive matrix."""
MaxAbs = Callable[[Tensor], Tensor]
"""Returns the largest absolute entry of a vector, ``[n]``, over all processes, as a scalar."""


class Preconditioner(Protocol):
    """A preconditioner, of shape ``[n, n]``, that may follow the gradients."""

    apply: Precondition | None
    """Multiplies with the matrix; None for the identity."""
    changes: ClassVar[bool]
    """Whether the matrix changes at every step."""

    def update(self, gradient: Tensor, state: dict[str, Any], max_abs: MaxAbs) -> None:
        """Update the matrix by the gradient at the current point, ``[n]``."""
        ...


@dataclass(eq=False)
class FixedPreconditioner:
    """A matrix of shape ``[n, n]`` that stays the same, or the identity."""

    changes: ClassVar[bool] = False

    apply: Precondition | None

    def update(self, gradient: Tensor, state: dict[str, Any], max_abs: MaxAbs) -> None:
        """Do nothing: the matrix stays."""


@dataclass(eq=False)
class AdamDiagonal:
    """The inverse of Adam's denominator (Kingma & Ba 2015), a diagonal matrix ``[n, n]``.

    Args:
        decay: beta2, of the mean of squared gradients, 0 to below 1.
        epsilon: Added to the root, as a fraction of its largest entry.
    """

    changes: ClassVar[bool] = True

    decay: float = 0.99
    epsilon: float = 1e-4
    apply: Precondition | None = field(default=None, init=False)

    def update(self, gradient: Tensor, state: dict[str, Any], max_abs: MaxAbs) -> None:
        """Update the mean of squared gradients, ``[n]``, and the matrix."""
        if "squares" not in state:
            state["squares"], state["num_seen"] = torch.zeros_like(gradient), 0
        state["num_seen"] += 1
        state["squares"].lerp_(gradient.square(), 1 - self.decay)
        root = (state["squares"] / (1 - self.decay ** state["num_seen"])).sqrt_()
        scale = max_abs(root).double().clamp_min(1e-30)
        inverse = root.add_(self.epsilon * scale).reciprocal_()
        self.apply = inverse.mul


def build_preconditioner(preconditioner: str | Precondition | None) -> Preconditioner:
    """Return the preconditioner of a name, or of a function; None is the identity.

    Raises:
        ConfigError: The name is unknown, or it is neither a name nor a function.
    """
    if preconditioner == "adam":
        return AdamDiagonal()
    if isinstance(preconditioner, str):
        raise ConfigError(
            f"unknown preconditioner {preconditioner!r}.  One of: adam, None, or a function"
        )
    if preconditioner is not None:
        require_callable("preconditioner", preconditioner, "adam, None, or a function")
    return FixedPreconditioner(preconditioner)
