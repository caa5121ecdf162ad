"""A closure, as torch.optim takes it, as an objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.objectives.base import Closure, num_processes, require_gradients, scalar


@dataclass(eq=False)
class ClosureObjective:
    """A closure as an objective; a value costs as much as a gradient, and there are no products.

    Under ``torch.distributed`` the loss is averaged over processes, as DistributedDataParallel does
    with gradients, so that all take the same decisions.

    Args:
        closure: To be called.
        parameters: Whose gradients it computes.
    """

    closure: Closure
    parameters: Sequence[Tensor]

    def value(self) -> float:
        """Call the closure."""
        return self.gradient()

    def gradient(self) -> float:
        """Call the closure.

        Returns:
            The loss, averaged over processes.

        Raises:
            ConfigError: It did not compute gradients.
            ShapeError: The loss is not a scalar.
        """
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self.closure()
        value = scalar(loss)
        if all(parameter.grad is None for parameter in self.parameters):
            require_gradients(self.parameters, "the closure")
        if num_processes() == 1:
            return value
        device = self.parameters[0].device
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / num_processes()

    def gauss_newton(self, vector: Sequence[Tensor]) -> list[Tensor]:  # noqa: ARG002 - protocol
        """Raise `ConfigError`: a closure has no graph to differentiate again."""
        raise ConfigError(
            "this method needs products with the curvature, which a closure cannot give.  Pass "
            "FullBatch(loader, loss)."
        )

    hessian = gauss_newton
