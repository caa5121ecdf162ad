"""A function that is differentiable once, with another one for all further derivatives.

Kernels for a GPU have a first derivative and no second. `FirstOrder` keeps what their gradient
needs, as they left it; where the gradient itself is to be differentiated, it is computed from the
inputs again, by a function that has all derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

TensorFunction = Callable[..., tuple[Tensor, ...]]
"""Maps tensors to tensors."""


class OnceDifferentiable(Protocol):
    """A function of tensors such as ``[batch, heads, length, dim]``, differentiable once."""

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute it; tensors may have any shape."""
        ...

    def has_no_kernel(self, error: RuntimeError, *tensors: Tensor) -> bool:
        """Return whether an error means that it cannot be computed here, and remember that."""
        ...


def differentiate_once(
    once: OnceDifferentiable, again: TensorFunction, *tensors: Tensor
) -> tuple[Tensor, ...]:
    """Compute a function.

    Args:
        once: Computes it, differentiable once.
        again: Computes the same, differentiable to any order.
        tensors: What both take, of any shape. What is not among them has no derivative.

    Returns:
        What `once` returns.
    """
    if not torch.is_grad_enabled():
        return _compute(once, tensors)
    return _FirstOrder.apply(once, again, *tensors)


class _FirstOrder(torch.autograd.Function):
    """Its inputs are two functions and their tensors, ``[batch, heads, length, dim]`` or any."""

    @staticmethod
    def forward(
        ctx: Any,
        once: OnceDifferentiable,
        again: TensorFunction,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.once, ctx.again, ctx.graph = once, again, None
        ctx.save_for_backward(*tensors)
        if not any(ctx.needs_input_grad):
            return _compute(once, tensors)
        outputs, ctx.graph = _record(once, tensors, ctx.needs_input_grad[2:])
        return tuple(out.detach() for out in outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # raises where they were freed, or changed in place
        needs = ctx.needs_input_grad[2:]
        # Compiled kernels free what they saved: a second backward pass computes it again.
        graph, ctx.graph = ctx.graph, None
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            gradients = _pull_back(ctx.again, tensors, needs, cotangents)
        else:
            gradients = _pull_back_once(ctx, graph, tensors, cotangents)
        remaining = iter(gradients)
        return None, None, *(next(remaining) if needed else None for needed in needs)


_Graph = tuple[list[GradientEdge], list[GradientEdge]]
"""The edges of the needed tensors, and those of the outputs that were computed of them."""


def _pull_back_once(
    ctx: Any, graph: _Graph | None, tensors: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return the cotangents of the needed tensors by the kernels, where there are any."""
    needs = ctx.needs_input_grad[2:]
    inputs, outputs = graph or _record(ctx.once, tensors, needs)[1]
    try:
        return torch.autograd.grad(outputs, inputs, cotangents)
    except RuntimeError as error:
        if not ctx.once.has_no_kernel(error, *tensors):
            raise
    return _pull_back(ctx.again, tensors, needs, cotangents)


def _record(
    function: TensorFunction, tensors: tuple[Tensor, ...], needs: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], _Graph]:
    """Return what a function computes of tensors, and its graph.

    The graph holds nothing but what the operations of the function saved, which activation
    checkpointing leaves out: leaves would hold the tensors.
    """
    with torch.enable_grad():
        leaf = torch.empty(0, device=tensors[0].device, requires_grad=True)
        entered = _Enter.apply(leaf, *_needed(tensors, needs))
        remaining = iter(entered)
        inputs = (
            next(remaining) if needed else tensor.detach()
            for tensor, needed in zip(tensors, needs, strict=True)
        )
        outputs = _compute(function, tuple(inputs))
    return outputs, (
        [get_gradient_edge(x) for x in entered],
        [get_gradient_edge(x) for x in outputs],
    )


class _Enter(torch.autograd.Function):
    """Let ``[batch, heads, length, dim]``, or any, begin a graph that does not hold the tensors."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        return tuple(tensor.detach() for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:  # noqa: ARG004
        raise AssertionError("cotangents are taken before they reach the leaf")


def _pull_back(
    function: TensorFunction,
    tensors: tuple[Tensor, ...],
    needs: tuple[bool, ...],
    cotangents: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Return the cotangents of the needed tensors, differentiable where gradients are enabled."""
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: where one tensor was computed from another, its cotangent does not reach that.
        views = tuple(tensor.view_as(tensor) for tensor in tensors)
        outputs = _compute(function, views)
    return torch.autograd.grad(
        outputs, _needed(views, needs), cotangents, create_graph=is_differentiated
    )


def _compute(function: TensorFunction, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not torch.is_autocast_enabled(tensors[0].device.type):
        return function(*tensors)
    with torch.autocast(tensors[0].device.type, enabled=False):
        return function(*tensors)


def _needed(tensors: tuple[Tensor, ...], needs: tuple[bool, ...]) -> list[Tensor]:
    return [tensor for tensor, needed in zip(tensors, needs, strict=True) if needed]
