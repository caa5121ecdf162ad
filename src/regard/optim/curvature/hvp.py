"""Hessian-vector and Gauss-Newton-vector products, without the matrices (Pearlmutter 1994).

A vector is a sequence of tensors of the parameters' shapes. `Hessian` and `GaussNewton` keep the
graph of one evaluation and multiply many vectors with it: a product costs about two gradients with
the Hessian, three with the Gauss-Newton matrix (Schraudolph 2002).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError

_COMPILED = re.compile(r"does not currently support double backward|non-empty donated buffers")
_NO_DERIVATIVE = re.compile(r"derivative for (\S+) is not implemented")


class Hessian:
    """The matrix of second derivatives of a scalar, of shape ``[n, n]``.

    Args:
        loss: Scalar with its graph.
        parameters: The parameters of the derivatives.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        with torch.enable_grad():
            self.gradient: list[Tensor] = _differentiate(
                loss.reshape(()), self._parameters, None, create_graph=True
            )

    def matvec(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Return the product with a vector, both tensors of the parameters' shapes.

        Raises:
            ConfigError: An operator in the graph has no second derivative.
            ShapeError: The tensors have other shapes than the parameters.
        """
        _require_shapes(vector, self._parameters)
        return vector_jacobian_product(self.gradient, self._parameters, vector)


class GaussNewton:
    """J^T H J, of shape ``[n, n]``: J the Jacobian of outputs, H the Hessian of a loss of them.

    Positive semi-definite where the loss is convex in the outputs: cross-entropy and squares are.

    Args:
        outputs: With their graph, any shape.
        loss: Loss of the outputs, a scalar.
        parameters: The parameters of the derivatives.
    """

    def __init__(
        self, outputs: Tensor, loss: Callable[[Tensor], Tensor], parameters: Sequence[Tensor]
    ) -> None:
        self._parameters, self._outputs = list(parameters), outputs
        with torch.enable_grad():
            # J v is the derivative of J^T u with respect to u, which J^T u is linear in.
            self._seed = torch.zeros_like(outputs, requires_grad=True)
            self._pulled = _differentiate(outputs, self._parameters, self._seed, create_graph=True)
            self._point = outputs.detach().requires_grad_()
            self._slope = _differentiate(
                loss(self._point).reshape(()), [self._point], None, create_graph=True
            )

    def matvec(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Return the product with a vector, both tensors of the parameters' shapes.

        Raises:
            ConfigError: An operator in the graph has no second derivative.
            ShapeError: The tensors have other shapes than the parameters.
        """
        _require_shapes(vector, self._parameters)
        (j_v,) = vector_jacobian_product(self._pulled, [self._seed], vector)
        (h_j_v,) = vector_jacobian_product(self._slope, [self._point], [j_v])
        return _differentiate(self._outputs, self._parameters, h_j_v, create_graph=False)


def _require_shapes(vector: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    """Raise ShapeError where a vector is not one tensor of its shape for each parameter."""
    shapes, expected = ([list(x.shape) for x in tensors] for tensors in (vector, parameters))
    if shapes != expected:
        raise ShapeError(f"the vector has shapes {shapes}; expected {expected}, as the parameters.")


def vector_jacobian_product(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Compute J^T v, J ``[n, m]`` the Jacobian of outputs; those without a graph are constant."""
    pairs = [(o, v) for o, v in zip(outputs, vector, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    moving, weights = zip(*pairs, strict=True)
    return _differentiate(moving, inputs, weights, create_graph=False)


def _differentiate(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Tensor | Sequence[Tensor] | None,
    *,
    create_graph: bool,
) -> list[Tensor]:
    """Differentiate; inputs that are frozen have derivatives of zero."""
    moving = [tensor for tensor in inputs if tensor.requires_grad]
    try:
        products = torch.autograd.grad(
            outputs,
            moving,
            weights,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    except RuntimeError as error:
        if _COMPILED.search(str(error)):
            raise ConfigError(
                "a model compiled by torch.compile has no second derivative, so there are no "
                "products with the curvature.  Compute them with the model before compilation."
            ) from error
        match = _NO_DERIVATIVE.search(str(error))
        if match is None:
            raise
        raise ConfigError(
            f"{match[1]} has no second derivative in PyTorch, so there are no products with the "
            "curvature.  If it is PyTorch's attention: call the model within "
            "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), or compute "
            "attention by regard.attention.attend.  Hugging Face models: load with "
            "attn_implementation='eager'."
        ) from error
    remaining = iter(products)
    return [next(remaining) if t.requires_grad else torch.zeros_like(t) for t in inputs]
