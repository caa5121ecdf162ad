"""Eigenvalues of a matrix that is only multiplied with vectors, by Lanczos' method (1950).

After k products the matrix is tridiagonal in an orthonormal basis Q of k vectors (Golub & Van Loan
2013, section 10.1):

    A Q = Q T + beta_k q_{k+1} e_k^T

Rounding costs the basis its orthogonality as soon as an eigenvalue converges (Paige 1972), so
every vector is orthogonalised against all before it. k steps cost k products and about 4 n k^2
operations, and hold k + 1 vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.linear_operator import Operator, as_matvec, dtype_of
from regard.option_checks import require_whole

_ORTHOGONAL = 0.7  # fraction of the norm left where a vector was orthogonal (Daniel et al. 1976)
_MAX_PASSES = 4


@dataclass(frozen=True, slots=True)
class Tridiagonal:
    """A matrix in a basis of k vectors of n entries.

    Args:
        diagonal: Diagonal of T, ``[k]``, float64.
        off_diagonal: Entries of T next to its diagonal, ``[k - 1]``, float64; a zero is between the
            bases of two starts.
        remainder: beta_k; zero where the basis spans all it can reach.
        basis: Q's columns as rows, ``[k, n]``.
    """

    diagonal: Tensor
    off_diagonal: Tensor
    remainder: float
    basis: Tensor

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Compute T's eigenvalues ``[k]``, ascending, and eigenvectors in columns ``[k, k]``."""
        matrix = torch.diag(self.diagonal)
        if len(self.off_diagonal):
            matrix += torch.diag(self.off_diagonal, 1) + torch.diag(self.off_diagonal, -1)
        return torch.linalg.eigh(matrix)


class Lanczos:
    """The iteration, with its basis.

    Where the basis spans an invariant space, it continues from a new random vector.

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        start: First vector, ``[n]``, not zero.
        limit: Steps at most, 1 to n.
        generator: Draws new vectors, on any device.

    Raises:
        ConfigError: `start` is zero.
    """

    def __init__(
        self, operator: Operator, start: Tensor, limit: int, generator: torch.Generator
    ) -> None:
        self._matvec, self._generator = as_matvec(operator), generator
        self._basis = start.new_empty(limit, len(start))
        self._alphas: list[float] = []
        self._betas: list[float] = []
        norm = float(torch.linalg.vector_norm(start))
        if norm == 0:
            raise ConfigError("start is zero; a vector with a direction is expected")
        self._next = start / norm

    def result(self) -> Tridiagonal:
        """Return T and Q after one step or more."""
        return Tridiagonal(
            torch.tensor(self._alphas, dtype=torch.float64),
            torch.tensor(self._betas[:-1], dtype=torch.float64),
            self._betas[-1],
            self._basis[: len(self._alphas)],
        )

    def extend(self, num_steps: int) -> None:
        """Take further steps.

        Raises:
            ConfigError: A product is not finite.
            ShapeError: A product has another size.
        """
        for k in range(len(self._alphas), len(self._alphas) + num_steps):
            q = self._basis[k]  # [n]
            if self._betas and self._betas[-1] == 0.0:
                # A vector outside the basis, to reach repeated eigenvalues as well.
                drawn = random_normal(len(q), self._generator, q.dtype)
                vector, norm = self._orthogonal(drawn.to(q.device))
                self._next = vector / norm
            q.copy_(self._next)
            product = self._matvec(q)
            if product.shape != q.shape:
                raise ShapeError(
                    f"the operator returned shape {list(product.shape)} for {list(q.shape)}"
                )
            alpha = float(torch.dot(q, product))
            if not math.isfinite(alpha):
                raise ConfigError(
                    f"product {k + 1} with the matrix is not finite.  Check the parameters and the "
                    "data."
                )
            self._alphas.append(alpha)
            remainder, norm = self._orthogonal(product)
            scale = max(map(abs, [*self._alphas, *self._betas]))
            ends = k + 1 == len(q) or norm <= 10 * torch.finfo(q.dtype).eps * scale
            self._betas.append(0.0 if ends else norm)
            self._next = remainder / norm if norm else remainder

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, float]:
        """Return a vector, ``[n]``, less its part in the basis, ``[k, n]``, and its norm then."""
        basis = self._basis[: len(self._alphas)]
        norm = float(torch.linalg.vector_norm(vector))
        for _ in range(_MAX_PASSES):
            vector = vector - basis.mT @ (basis @ vector)
            before, norm = norm, float(torch.linalg.vector_norm(vector))
            if norm >= _ORTHOGONAL * before:
                break
        return vector, norm


def lanczos(
    operator: Operator,
    size: int,
    *,
    num_iterations: int,
    generator: torch.Generator,
    start: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tridiagonal:
    """Compute the tridiagonal form of a matrix, with full reorthogonalisation.

    Where the basis spans an invariant space early, it continues from a new random vector (Golub &
    Van Loan 2013, section 10.3).

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        size: n.
        num_iterations: k, 1 or more; at most n are done.
        generator: Draws the start, on its device. Processes that share the work of a product must
            use the same seed.
        start: Instead of a random one, ``[n]``, not zero.
        dtype: Type of the vectors; None takes the operator's own, or PyTorch's default for a
            function.

    Returns:
        T and the basis, ``[k, n]``.

    Raises:
        ConfigError: `num_iterations` is below 1, or a product is not finite.
        ShapeError: The operator, or `start`, has another size.

    >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0]))
    >>> generator = torch.Generator().manual_seed(1)
    >>> values, _ = lanczos(matrix, 3, num_iterations=3, generator=generator).eigen()
    >>> [round(float(value), 3) for value in values]
    [1.0, 2.0, 5.0]
    """
    require_whole("num_iterations", num_iterations, 1)
    dtype = dtype_of(operator, dtype)
    if start is None:
        start = random_normal(size, generator, dtype)
    if start.shape != (size,):
        raise ShapeError(f"start has shape {list(start.shape)}; [{size}] is expected")
    limit = min(num_iterations, size)
    run = Lanczos(operator, start.to(dtype), limit, generator)
    run.extend(limit)
    return run.result()


def random_normal(size: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw a vector of independent normal numbers, ``[size]``."""
    return torch.randn(size, generator=generator, device=generator.device, dtype=dtype)
