"""Preconditioners: a cheap approximation of the inverse Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from regard.errors import ConfigError

Precondition = Callable[[Tensor], Tensor]
"""Multiplies a vector, ``[n]``, with a symmetric positive matrix."""
Largest = Callable[[Tensor], float]
"""Finds the largest absolute entry of a vector, ``[n]``, over all processes."""


class Preconditioner(Protocol):
    """A preconditioner that may learn from the gradients it is shown."""

    apply: Precondition | None
    changes: bool
    """Whether it is another matrix at every step."""

    def see(self, gradient: Tensor, state: dict[str, Any], largest: Largest) -> None:
        """Take notice of the gradient at the present point, ``[n]``."""
        ...


class Fixed:
    """A given matrix, or none."""

    changes = False

    def __init__(self, apply: Precondition | None) -> None:
        self.apply: Precondition | None = apply

    def see(self, gradient: Tensor, state: dict[str, Any], largest: Largest) -> None:
        """Do nothing."""


class AdamDiagonal:
    """The inverse of Adam's denominator (Kingma & Ba 2015), from the gradients of the whole run.

    Args:
        decay: beta2, of the mean of squares, 0 to below 1.
        epsilon: Added to the root, as a share of its largest entry.
    """

    changes = True

    def __init__(self, decay: float = 0.99, epsilon: float = 1e-4) -> None:
        self.decay, self.epsilon = decay, epsilon
        self.apply: Precondition | None = None

    def see(self, gradient: Tensor, state: dict[str, Any], largest: Largest) -> None:
        """Bring the mean of squares up to date."""
        if "squares" not in state:
            state["squares"], state["num_seen"] = torch.zeros_like(gradient), 0
        state["num_seen"] += 1
        state["squares"].lerp_(gradient.square(), 1 - self.decay)
        root = (state["squares"] / (1 - self.decay ** state["num_seen"])).sqrt_()
        inverse = root.add_(self.epsilon * max(largest(root), 1e-30)).reciprocal_()
        self.apply = inverse.mul


def preconditioner_named(given: str | Precondition | None) -> Preconditioner:
    """Return the preconditioner of a name, or the given one.

    Raises:
        ConfigError: There is no such preconditioner.
    """
    if given == "adam":
        return AdamDiagonal()
    if isinstance(given, str):
        raise ConfigError(f"unknown preconditioner {given!r}.  One of: adam, None, or a function")
    return Fixed(given)
