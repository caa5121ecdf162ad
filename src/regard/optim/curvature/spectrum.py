"""Eigenvalues and spectral density of a matrix that is only multiplied with vectors.

The eigenvalues of Lanczos' tridiagonal matrix come near those at the matrix' ends (Golub & Van Loan
2013, section 10.1), and the first entries of its eigenvectors weigh them in a Gauss quadrature of
the spectrum (Golub & Meurant 2010). k steps cost k products and about 4 n k^2 operations, and hold
k + 1 vectors of n entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.curvature.hutchinson import random_signs
from regard.optim.curvature.lanczos import Lanczos, random_normal
from regard.optim.curvature.linear_operator import Operator, as_matvec, dtype_of
from regard.option_checks import require_number, require_whole

Which = Literal["largest", "smallest", "magnitude"]

_CHECK_EVERY = 5  # iterations between looks at the eigenvalues
_TAILS = 6.0  # standard deviations of the density beyond the outermost eigenvalues


@dataclass(frozen=True, slots=True)
class Eigenpairs:
    """Approximate eigenvalues and eigenvectors.

    Args:
        values: ``[num]``, from the chosen end of the spectrum inwards, float64.
        vectors: Vectors in columns, orthonormal, ``[n, num]``.
        bounds: ``|A v - value v|``, ``[num]``: an eigenvalue is not farther from the value.
        converged: Whether all bounds are within the tolerance.
        num_products: Products with the matrix.
    """

    values: Tensor
    vectors: Tensor
    bounds: Tensor
    converged: bool
    num_products: int


@dataclass(frozen=True, slots=True)
class SpectralDensity:
    """How the eigenvalues are spread.

    Args:
        grid: Middles of cells of equal width, ``[points]``, float64.
        density: Fraction of the eigenvalues per unit, mean over a cell, ``[points]``; its sum times
            the cells' width is 1.
        nodes: Nodes of the quadrature over all probes, ``[nodes]``.
        weights: Weights of the nodes, ``[nodes]``; their sum is 1.
            ``size * (weights * f(nodes)).sum()`` estimates the trace of f(A). A node near 0 has the
            weight of many eigenvalues there; its sign says nothing of theirs.
    """

    grid: Tensor
    density: Tensor
    nodes: Tensor
    weights: Tensor


def top_eigenvalues(
    operator: Operator,
    size: int,
    num: int = 5,
    *,
    generator: torch.Generator,
    which: Which = "largest",
    rtol: float = 1e-4,
    max_iterations: int = 100,
    dtype: torch.dtype | None = None,
) -> Eigenpairs:
    """Compute the eigenvalues at an end of the spectrum (Lanczos 1950).

    A single starting vector sees one of several equal eigenvalues; the others appear only when the
    basis can grow no further (Golub & Van Loan 2013, section 10.1).

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        size: n.
        num: How many, 1 to n.
        generator: Draws the start, on its device. Processes that share the work of a product must
            use the same seed.
        which: largest, smallest (most negative) or magnitude (largest absolute value).
        rtol: Tolerance of the bounds, relative to the largest absolute eigenvalue, above 0.
        max_iterations: Vectors that are held at most, `num` or more; `num` further products compute
            the bounds.
        dtype: Type of the vectors; None takes the operator's own, or PyTorch's default for a
            function.

    Returns:
        The pairs, the outermost first.

    Raises:
        ConfigError: An argument is out of range, or a product is not finite.
        ShapeError: The operator has another size.
    """
    keys = {"largest": Tensor.neg, "smallest": Tensor.clone, "magnitude": lambda v: -v.abs()}
    if which not in keys:
        raise ConfigError(f"unknown which {which!r}.  One of: {', '.join(keys)}")
    require_whole("num", num, 1)
    if num > size:
        raise ConfigError(f"num must be 1 to {size}, the size of the matrix, not {num}")
    require_whole(
        "max_iterations", max_iterations, num, f": every one of num={num} values takes a vector"
    )
    dtype = dtype_of(operator, dtype)
    limit = min(max_iterations, size)
    run = Lanczos(operator, random_normal(size, generator, dtype), limit, generator)
    run.extend(num)
    while True:
        krylov = run.result()
        values, vectors = krylov.eigen()
        order = keys[which](values).argsort()[:num]
        within = rtol * float(values.abs().max())
        errors = krylov.remainder * vectors[-1, order].abs()
        # Without a remainder the basis misses what its start cannot reach: repeated eigenvalues.
        has_converged = krylov.remainder > 0 and float(errors.max()) <= 0.5 * within
        num_steps = len(krylov.diagonal)
        if has_converged or num_steps == limit:
            break
        run.extend(min(_CHECK_EVERY, limit - num_steps))
    ritz = krylov.basis.mT @ vectors[:, order].to(krylov.basis)
    values, matvec = values[order], as_matvec(operator)
    pairs = zip(values.tolist(), ritz.unbind(1), strict=True)
    residuals = [torch.linalg.vector_norm(matvec(v) - value * v) for value, v in pairs]
    bounds = torch.stack(residuals).double().cpu()
    return Eigenpairs(values, ritz, bounds, bool(bounds.max() <= within), num_steps + num)


def spectral_density(
    operator: Operator,
    size: int,
    num_probes: int = 10,
    num_iterations: int = 60,
    *,
    generator: torch.Generator,
    num_points: int = 1000,
    width: float | None = None,
    dtype: torch.dtype | None = None,
) -> SpectralDensity:
    """Estimate the density of the spectrum by stochastic Lanczos quadrature.

    Golub & Meurant (2010); Ghorbani, Krishnan & Xiao (2019), algorithm 1. The nodes of every
    probe's quadrature are smoothed by a Gaussian. Costs `num_probes` times `num_iterations`
    products.

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        size: n.
        num_probes: Random vectors, 1 or more.
        num_iterations: Nodes of a probe's quadrature, 1 or more; at most n.
        generator: Draws the probes, on its device. Processes that share the work of a product must
            use the same seed.
        num_points: Points of the grid, 2 or more.
        width: Standard deviation of the Gaussian, above 0; None takes a hundredth of the range of
            the nodes, or where they are nearly one, 1e-4 of their size.
        dtype: Type of the vectors; None takes the operator's own, or PyTorch's default for a
            function.

    Returns:
        The density on a grid, with the nodes of the quadrature.

    Raises:
        ConfigError: An argument is out of range, or a product is not finite.
        ShapeError: The operator has another size.
    """
    require_whole("num_probes", num_probes, 1)
    require_whole("num_iterations", num_iterations, 1)
    require_whole("num_points", num_points, 2)
    if width is not None:
        require_number("width", width, "above 0", lambda width: width > 0)
    num_iterations = min(num_iterations, size)
    nodes, weights = [], []
    dtype = dtype_of(operator, dtype)
    for _ in range(num_probes):
        start = random_signs(size, generator, dtype)
        run = Lanczos(operator, start, num_iterations, generator)
        run.extend(num_iterations)
        values, vectors = run.result().eigen()
        nodes.append(values)
        weights.append(vectors[0] ** 2 / num_probes)
    return _smoothed(torch.cat(nodes), torch.cat(weights), num_points, width)


def _smoothed(
    nodes: Tensor, weights: Tensor, num_points: int, width: float | None
) -> SpectralDensity:
    """Spread the nodes, ``[nodes]``, over the cells of a grid by the Gaussian's distribution."""
    low, high = float(nodes.min()), float(nodes.max())
    if width is None:
        width = max(high - low, 0.01 * max(abs(low), abs(high))) / 100 or 1.0
    edges = torch.linspace(
        low - _TAILS * width, high + _TAILS * width, num_points + 1, dtype=torch.float64
    )
    below = torch.special.ndtr((edges[:, None] - nodes) / width)  # [edges, nodes]
    cell = float(edges[-1] - edges[0]) / num_points
    density = below.diff(dim=0) @ weights
    return SpectralDensity(edges[:-1] + cell / 2, density / (density.sum() * cell), nodes, weights)
