"""Curvature matrices as operators on flat vectors, for linear solves, Lanczos and Hutchinson.

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
from regard.optim.flat_parameters import FlatParameters
from regard.optim.objectives.full_batch import BatchLoss, FullBatch

TensorsMatVec = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Multiplies a vector given as tensors of the parameters' shapes, such as `FullBatch.hessian`."""


class CurvatureOperator:
    """A symmetric matrix of ``[n, n]`` for n parameters, multiplied by ``operator @ vector``.

    A vector of another type than the parameters' is converted on the way in and back, so that an
    iteration can run in float64 on a float32 model.

    Args:
        matvec: Such as `FullBatch.hessian` or `FullBatch.gauss_newton`.
        parameters: In the order of the tensors that `matvec` takes.

    Raises:
        ConfigError: A parameter has no gradient or is sharded, or types or devices differ.

    >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> operator = CurvatureOperator(lambda vector: [3 * part for part in vector], [weight])
    >>> operator.shape, operator @ torch.tensor([1.0, -1.0])
    ((2, 2), tensor([ 3., -3.]))
    """

    def __init__(self, matvec: TensorsMatVec, parameters: Iterable[Tensor]) -> None:
        listed = list(parameters)
        if not listed:
            raise ConfigError("there are no parameters.  Give at least one, such as a weight.")
        self._matvec, self._flat = matvec, FlatParameters([{"params": listed}])
        if self._flat.is_sharded:
            raise ConfigError(
                "curvature takes no sharded parameters (FSDP): products would need every "
                "parameter whole.  Use DistributedDataParallel's replication."
            )
        self.size: int = self._flat.size
        self.shape: tuple[int, int] = (self.size, self.size)
        self.dtype: torch.dtype = self._flat.dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"

    def __matmul__(self, vectors: Tensor, /) -> Tensor:
        """Multiply.

        Args:
            vectors: ``[n]``, or k of them in columns, ``[n, k]``: k products.

        Returns:
            The shape and type of `vectors`.

        Raises:
            ShapeError: `vectors` has another number of rows, or is no tensor of floating point.
        """
        _require_floating_point(vectors)
        if vectors.dim() != 2:
            return self.matvec(vectors)
        columns = [self.matvec(column) for column in vectors.unbind(1)]
        return torch.stack(columns, dim=1) if columns else torch.zeros_like(vectors)

    def matvec(self, vector: Tensor) -> Tensor:
        """Multiply with one vector.

        Args:
            vector: ``[n]``.

        Returns:
            ``[n]``, of the vector's type.

        Raises:
            ShapeError: The vector has another size, or is no tensor of floating point.
        """
        _require_floating_point(vector)
        with torch.inference_mode(False), torch.no_grad():  # the former has no derivatives
            parts = self.unflatten(vector.to(self.dtype, copy=True))
            product = self.flatten(self._matvec(parts))
        return product.to(vector.dtype)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return a vector, ``[n]``, as tensors of the parameters' shapes; these are views.

        Raises:
            ShapeError: The vector has another size.
        """
        if vector.shape != (self.size,):
            raise ShapeError(
                f"the vector has shape {list(vector.shape)}; [{self.size}] is expected, an entry "
                "for every entry of the parameters"
            )
        return self._flat.unflatten(vector)

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return tensors of the parameters' shapes as a vector, ``[n]``."""
        return self._flat.flatten(tensors, self._flat.zeros())


def _require_floating_point(vector: object) -> None:
    """Raise ShapeError for what is no vector ``[n]``, or ``[n, k]``, of real numbers."""
    if not isinstance(vector, Tensor):
        raise ShapeError(
            f"the vector is of type {type(vector).__name__}; a tensor is expected, such as "
            "torch.as_tensor(vector)."
        )
    if not vector.is_floating_point():
        raise ShapeError(
            f"the vector is {vector.dtype}; floating point is expected, as the product is returned "
            "in the vector's type."
        )


def hessian_operator(
    loss: BatchLoss,
    batches: Iterable[Any],
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
) -> CurvatureOperator:
    """Return the Hessian, ``[n, n]``, of a mean loss over micro-batches (Pearlmutter 1994).

    Args:
        loss: ``loss(batch)``: the mean over the batch's rows, or a sum and the number of its terms.
            A batch is weighted by its rows, or terms.
        batches: The same ones whenever iterated; under ``torch.distributed``, this process's part.
        parameters: The parameters of the derivatives.
        model: Its dropout is off while it is evaluated.

    Raises:
        ConfigError: `FullBatch` refuses the batches, or `CurvatureOperator` the parameters.
    """
    listed = list(parameters)
    objective = FullBatch(batches, loss, parameters=listed, model=model)
    return CurvatureOperator(objective.hessian, listed)


def gauss_newton_operator(
    outputs: Callable[[Any], Tensor],
    loss: BatchLoss,
    batches: Iterable[Any],
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
) -> CurvatureOperator:
    """Return the Gauss-Newton matrix, ``[n, n]``, of a mean loss (Schraudolph 2002).

    Args:
        outputs: The model's outputs for a batch, any shape.
        loss: ``loss(outputs(batch), batch)``, convex in the outputs; it returns what that of
            `hessian_operator` returns.
        batches: The same ones whenever iterated; under ``torch.distributed``, this process's part.
        parameters: The parameters of the derivatives.
        model: Its dropout is off while it is evaluated.

    Raises:
        ConfigError: `FullBatch` refuses the batches, or `CurvatureOperator` the parameters.
    """
    listed = list(parameters)
    objective = FullBatch(batches, loss, outputs=outputs, parameters=listed, model=model)
    return CurvatureOperator(objective.gauss_newton, listed)
