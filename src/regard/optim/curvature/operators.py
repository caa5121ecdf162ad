"""Curvature matrices as operators on flat vectors, for `solve`, `lanczos` and `hutchinson`.

The matrix is never built: an operator multiplies it with a vector of all parameters, by products in
the manner of Pearlmutter (1994) for the Hessian and Schraudolph (2002) for the Gauss-Newton matrix.
A product costs one pass over the data, about as much as two gradients with the Hessian, three with
the Gauss-Newton matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.linear_cg import Operator
from regard.optim.flat_parameters import ParameterVector
from regard.optim.objectives.full_batch import FullBatch, Loss

Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Multiplies a vector in the form of tensors of the parameters' shapes, as `Objective.hessian`."""


class CurvatureOperator:
    """A product with tensors of the parameters' shapes, as one with flat vectors.

    A vector of another type than the parameters' is converted on the way in and back: an iteration
    can so run in float64 on a float32 model.

    Args:
        product: Such as `FullBatch.hessian` or `FullBatch.gauss_newton`.
        parameters: In the product's order.

    Raises:
        ConfigError: A parameter has no gradient or is sharded, or types or devices differ.

    >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> operator = CurvatureOperator(lambda vector: [3 * part for part in vector], [weight])
    >>> operator.size, operator(torch.tensor([1.0, -1.0]))
    (2, tensor([ 3., -3.]))
    """

    def __init__(self, product: Product, parameters: Iterable[Tensor]) -> None:
        listed = list(parameters)
        if not listed:
            raise ConfigError("there are no parameters.  Give at least one, such as a weight.")
        self._product, self._vector = product, ParameterVector([{"params": listed}])
        if self._vector.is_sharded:
            raise ConfigError(
                "curvature takes no sharded parameters (FSDP): products would need every "
                "parameter whole.  Use DistributedDataParallel's replication."
            )
        self.size: int = self._vector.size
        self.dtype: torch.dtype = self._vector.dtype

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply.

        Args:
            vector: ``[n]``.

        Returns:
            ``[n]``, of the vector's type.

        Raises:
            ShapeError: The vector has another size.
        """
        parts = self.split(vector.to(self.dtype))
        return self.flatten(self._product(parts)).to(vector.dtype)

    def split(self, vector: Tensor) -> list[Tensor]:
        """Cut a vector, ``[n]``, into tensors of the parameters' shapes; these are views.

        Raises:
            ShapeError: The vector has another size.
        """
        if vector.shape != (self.size,):
            raise ShapeError(
                f"the vector has shape {list(vector.shape)}; [{self.size}] is expected, an entry "
                "for every entry of the parameters"
            )
        return self._vector.scaled(vector)

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join tensors of the parameters' shapes to a vector, ``[n]``."""
        return self._vector.joined(tensors, self._vector.new())


def hessian_operator(
    loss: Loss,
    batches: Iterable[Any],
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
) -> CurvatureOperator:
    """Make an operator of the Hessian of a mean loss over micro-batches.

    Args:
        loss: Of a batch: the mean over its rows, or a sum and the number of its terms. A batch
            counts by its rows, or terms.
        batches: The same ones whenever iterated; under ``torch.distributed``, this process's part.
        parameters: With respect to which.
        model: Its dropout is off while it is evaluated.

    Raises:
        ConfigError: As of `FullBatch` and `CurvatureOperator`.
    """
    listed = list(parameters)
    objective = FullBatch(batches, loss, parameters=listed, model=model)
    return CurvatureOperator(objective.hessian, listed)


def gauss_newton_operator(
    outputs: Callable[[Any], Tensor],
    loss: Loss,
    batches: Iterable[Any],
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
) -> CurvatureOperator:
    """Make an operator of the Gauss-Newton matrix of a mean loss over micro-batches.

    Args:
        outputs: What the model computes from a batch, any shape.
        loss: ``loss(outputs(batch), batch)``, convex in the outputs; else as of `hessian_operator`.
        batches: The same ones whenever iterated; under ``torch.distributed``, this process's part.
        parameters: With respect to which.
        model: Its dropout is off while it is evaluated.

    Raises:
        ConfigError: As of `FullBatch` and `CurvatureOperator`.
    """
    listed = list(parameters)
    objective = FullBatch(batches, loss, outputs=outputs, parameters=listed, model=model)
    return CurvatureOperator(objective.gauss_newton, listed)


def vector_type(operator: Operator, dtype: torch.dtype | None) -> torch.dtype:
    """Choose the type of an operator's vectors: the one given, the operator's, or the default."""
    if dtype is not None:
        return dtype
    known = isinstance(operator, CurvatureOperator)
    return operator.dtype if known else torch.get_default_dtype()


def require_at_least(name: str, value: int, least: int, why: str = "") -> None:
    """Refuse a number that is too small.

    Raises:
        ConfigError: It is.
    """
    if value < least:
        raise ConfigError(f"{name} must be {least} or more, not {value}{why}")
