"""Trace and diagonal of a matrix that is only multiplied with vectors, by random signs.

For z of independent signs, E[z.A z] is the trace (Hutchinson 1989) and E[z * A z] the diagonal
(Bekas, Kokiopoulou & Saad 2007). The trace by one probe has twice the sum of the squares off the
diagonal for its variance; the error falls with the root of the number of probes, each of which
costs one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.optim.curvature.linear_operator import Operator, as_matvec, dtype_of
from regard.option_checks import require_whole


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over random probes.

    Args:
        value: The trace, a scalar, or the diagonal, ``[n]``.
        standard_error: Standard error of the value, in its shape: the probes' standard deviation
            over the root of their number.
    """

    value: Tensor
    standard_error: Tensor


def hutchinson_trace(
    operator: Operator,
    size: int,
    num_probes: int = 100,
    *,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> Estimate:
    """Estimate the sum of the eigenvalues (Hutchinson 1989).

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        size: n.
        num_probes: Products, 2 or more.
        generator: Draws the probes, on its device. Processes that share the work of a product must
            use the same seed.
        dtype: Type of the probes; None takes the operator's own, or PyTorch's default for a
            function.

    Returns:
        Scalars of float64.

    Raises:
        ConfigError: There are fewer than two probes.

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> trace = hutchinson_trace(matrix, 2, 1000, generator=torch.Generator().manual_seed(1))
    >>> bool((trace.value - 5).abs() < 4 * trace.standard_error)
    True
    """
    pairs = _probes(operator, size, num_probes, generator, dtype)
    return _mean(torch.dot(z.double(), image.double()) for z, image in pairs)


def hutchinson_diagonal(
    operator: Operator,
    size: int,
    num_probes: int = 100,
    *,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> Estimate:
    """Estimate the diagonal (Bekas, Kokiopoulou & Saad 2007).

    Args:
        operator: A, symmetric: a tensor ``[n, n]``, anything with ``@``, or a function of ``[n]``.
        size: n.
        num_probes: Products, 2 or more.
        generator: Draws the probes, on its device. Processes that share the work of a product must
            use the same seed.
        dtype: Type of the probes; None takes the operator's own, or PyTorch's default for a
            function.

    Returns:
        ``[n]``, of the probes' type. Where a standard error is zero the value is exact, or nearly.

    Raises:
        ConfigError: There are fewer than two probes.
    """
    pairs = _probes(operator, size, num_probes, generator, dtype)
    return _mean(z * image for z, image in pairs)


def _probes(
    operator: Operator,
    size: int,
    num_probes: int,
    generator: torch.Generator,
    dtype: torch.dtype | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw vectors of signs and multiply them."""
    require_whole("num_probes", num_probes, 2, ": the standard error needs two")
    matvec, dtype = as_matvec(operator), dtype_of(operator, dtype)
    for _ in range(num_probes):
        signs = random_signs(size, generator, dtype)
        yield signs, matvec(signs)


def random_signs(size: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw a vector of independent signs, ``[size]``."""
    device = generator.device
    bits = torch.randint(2, (size,), generator=generator, device=device, dtype=torch.int8)
    return bits.to(dtype).mul_(2).sub_(1)


def _mean(samples: Iterator[Tensor]) -> Estimate:
    """Average in one pass (Welford 1962)."""
    mean = next(samples).clone()
    squares, count = torch.zeros_like(mean), 1
    for count, sample in enumerate(samples, 2):
        deviation = sample - mean
        mean.add_(deviation, alpha=1 / count)
        squares.addcmul_(deviation, sample - mean)
    return Estimate(mean, squares.div_(count * (count - 1)).sqrt_())
