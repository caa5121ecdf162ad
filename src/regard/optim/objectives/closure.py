"""A closure, as torch.optim takes it, as an objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from regard.errors import ConfigError
from regard.optim.foreach import foreach_norm
from regard.optim.objectives.objective import (
    Closure,
    Reduce,
    num_processes,
    require_gradients,
    unread_scalar,
)
from regard.optim.sharding import is_sharded

_LARGEST_VARIANCE = 1e-8
"""Relative variance of the norm of a gradient above which processes have other gradients."""


def require_closure(name: str, closure: Closure | None, evaluator: str) -> Closure:
    """Return what a step was given, where it can be called.

    Args:
        name: Of the step.
        closure: What it was given.
        evaluator: What calls the closure several times.

    Raises:
        ConfigError: It is no function, but the loss itself, say.
    """
    if callable(closure):
        return closure
    instead = "" if closure is None else f", not {type(closure).__name__}"
    raise ConfigError(
        f"{name} needs a closure{instead}: {evaluator} evaluates the loss at several points of one "
        "step.  def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); return loss"
    )


@dataclass(eq=False)
class ClosureObjective:
    """A closure as an objective; a value costs as much as a gradient, and there are no products.

    Where its gradients are averaged over several processes, its loss is averaged, too, so that all
    take the same decisions. That is the case where it calls a model in DistributedDataParallel,
    with the processes of that model, and where parameters are sharded; else each process decides
    alone.

    Args:
        closure: The closure.
        parameters: Whose gradients it computes.
        reduce: Sums over the processes that work together; None finds them as described.
    """

    closure: Closure
    parameters: Sequence[Tensor]
    reduce: Reduce | None = None

    def value(self) -> float:
        """Call the closure."""
        return self.gradient()

    def gradient(self) -> float:
        """Call the closure.

        Returns:
            The loss, averaged over the processes that work together.

        Raises:
            ConfigError: It did not compute gradients, or other ones on other processes.
            ShapeError: The loss is not a scalar.
        """
        return float(self.unread_gradient())

    def unread_value(self) -> Tensor:
        """Call the closure; return the loss, a scalar that is not read."""
        return self.unread_gradient()

    def unread_gradient(self) -> Tensor:
        """Call the closure.

        Returns:
            The loss, averaged over the processes that work together, a scalar that is not read.

        Raises:
            ConfigError: It did not compute gradients, or other ones on other processes.
            ShapeError: The loss is not a scalar.
        """
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad(), _parallel_models() as models:
            loss = self.closure()
        value = torch.as_tensor(unread_scalar(loss), dtype=torch.float64)
        if self.reduce is not None:
            return self._mean_of_equals(value, self.reduce)
        if all(parameter.grad is None for parameter in self.parameters):
            require_gradients(self.parameters, "the closure")
        reduce = self._reduce_of(models)
        if reduce is None:
            return value
        sums = torch.stack([value, torch.ones_like(value)]).to(self.parameters[0].device)
        reduce(sums)
        return sums[0] / sums[1]

    def _mean_of_equals(self, value: Tensor, reduce: Reduce) -> Tensor:
        """Return the mean of a loss, a scalar, over processes with the same gradients.

        Raises:
            ConfigError: Their gradients differ, or none has any; all processes raise it.
        """
        norm = _norm_of_gradients(self.parameters)
        sums = torch.stack([value.to(norm), torch.ones_like(norm), norm, norm.square()])
        reduce(sums)
        mean, _, norm, square = sums / sums[1]
        if bool(square - norm.square() > _LARGEST_VARIANCE * norm.square()):
            raise ConfigError(
                "the gradients differ between the processes that `reduce` sums over, so that each "
                "would move its parameters elsewhere.  Average them in the closure, after "
                "backward(): for p in parameters: all_reduce(p.grad); p.grad /= world_size"
            )
        if all(parameter.grad is None for parameter in self.parameters):
            require_gradients(self.parameters, "the closure")
        return mean

    def _reduce_of(self, models: Sequence[DistributedDataParallel]) -> Reduce | None:
        """Return the sum over the processes that share in the gradients; None for one alone."""
        own = {id(parameter) for parameter in self.parameters}
        for model in models:
            if any(id(parameter) in own for parameter in model.parameters()):
                return partial(dist.all_reduce, group=model.process_group)
        return dist.all_reduce if any(map(is_sharded, self.parameters)) else None

    def gauss_newton(self, vector: Sequence[Tensor]) -> list[Tensor]:  # noqa: ARG002 - protocol
        """Raise `ConfigError`: a closure has no graph to differentiate again."""
        raise ConfigError(
            "this method needs products with the curvature, which a closure cannot give.  Pass "
            "FullBatch(loader, loss)."
        )

    hessian = gauss_newton


def _norm_of_gradients(parameters: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients, a scalar of float64; 1 where each process has a part."""
    norm = torch.ones((), dtype=torch.float64, device=parameters[0].device)
    if any(map(is_sharded, parameters)):
        return norm
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = foreach_norm(gradients) if gradients else []
    return torch.stack([0 * norm, *(part.to(norm) for part in norms)]).square().sum().sqrt()


@contextmanager
def _parallel_models() -> Iterator[list[DistributedDataParallel]]:
    """Collect the models in DistributedDataParallel that are called."""
    models: list[DistributedDataParallel] = []
    if num_processes() == 1:
        yield models
        return

    def collect(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001 - the hook's signature
        if isinstance(module, DistributedDataParallel):
            models.append(module)

    hook = register_module_forward_pre_hook(collect)
    try:
        yield models
    finally:
        hook.remove()
