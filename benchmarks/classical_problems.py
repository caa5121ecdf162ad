"""Twenty classical problems of smooth unconstrained minimization, in float64.

Each has its standard starting point. The sources, as the problems name them:

- MGH: J. J. More, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software",
  ACM Transactions on Mathematical Software 7 (1981), with the number of the problem there;
- CUTE: I. Bongartz, A. R. Conn, N. Gould, Ph. L. Toint, "CUTE: constrained and unconstrained
  testing environment", ACM Transactions on Mathematical Software 21 (1995), with the name there;
- Andrei: N. Andrei, "An unconstrained optimization test functions collection", Advanced Modeling
  and Optimization 10 (2008), with the name there;
- Dixon and Price, "Truncated Newton method for sparse unconstrained optimization using automatic
  differentiation", Journal of Optimization Theory and Applications 60 (1989).

The functions are written in the letters of the sources, with x_1 as ``x[0]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import softplus

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A function to minimize and where to start.

    Args:
        name: what the tables call it.
        fun: from ``[n]`` to a scalar, twice differentiable.
        x0: the starting point, ``[n]``, float64.
        source: where the function and the start come from.
    """

    name: str
    fun: Function
    x0: Tensor
    source: str


def chained_rosenbrock(x: Tensor) -> Tensor:
    """Sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2 over i < n; minimum 0 at 1."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def extended_rosenbrock(x: Tensor) -> Tensor:
    """Sum 100 (x_{2i} - x_{2i-1}^2)^2 + (1 - x_{2i-1})^2; minimum 0 at 1."""
    odd, even = x[0::2], x[1::2]
    return (100 * (even - odd**2) ** 2 + (1 - odd) ** 2).sum()


def extended_powell_singular(x: Tensor) -> Tensor:
    """Sum Powell's function over groups of four; minimum 0 at 0, where the Hessian is singular."""
    a, b, c, d = x.view(-1, 4).unbind(1)
    return ((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4).sum()


def dixon_price(x: Tensor) -> Tensor:
    """Sum (x_1 - 1)^2 and i (2 x_i^2 - x_{i-1})^2 over i from 2; minimum 0."""
    i = torch.arange(2, len(x) + 1, dtype=x.dtype, device=x.device)
    return (x[0] - 1) ** 2 + (i * (2 * x[1:] ** 2 - x[:-1]) ** 2).sum()


def broyden_tridiagonal(x: Tensor) -> Tensor:
    """Sum the squares of (3 - 2 x_i) x_i - x_{i-1} - 2 x_{i+1} + 1; minimum 0."""
    nothing = x.new_zeros(1)
    before, after = torch.cat((nothing, x[:-1])), torch.cat((x[1:], nothing))
    return (((3 - 2 * x) * x - before - 2 * after + 1) ** 2).sum()


def wood(x: Tensor) -> Tensor:
    """Compute Wood's function of four variables; minimum 0 at 1."""
    a, b, c, d = x.unbind()
    first = 100 * (b - a**2) ** 2 + (1 - a) ** 2
    second = 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return first + second + 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10


def trigonometric(x: Tensor) -> Tensor:
    """Sum the squares of n - sum_j cos x_j + i (1 - cos x_i) - sin x_i; minimum 0."""
    i = torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
    cosine = x.cos()
    return ((len(x) - cosine.sum() + i * (1 - cosine) - x.sin()) ** 2).sum()


def penalty_1(x: Tensor) -> Tensor:
    """Compute 1e-5 sum (x_i - 1)^2 + (sum x_i^2 - 1/4)^2."""
    return 1e-5 * ((x - 1) ** 2).sum() + ((x**2).sum() - 0.25) ** 2


def variably_dimensioned(x: Tensor) -> Tensor:
    """Compute sum (x_i - 1)^2 + s^2 + s^4 with s = sum i (x_i - 1); minimum 0 at 1."""
    i = torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
    s = (i * (x - 1)).sum()
    return ((x - 1) ** 2).sum() + s**2 + s**4


def discrete_boundary_value(x: Tensor) -> Tensor:
    """Sum the squares of 2 x_i - x_{i-1} - x_{i+1} + h^2 (x_i + t_i + 1)^3 / 2; minimum 0."""
    h = 1 / (len(x) + 1)
    t = h * torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
    nothing = x.new_zeros(1)
    before, after = torch.cat((nothing, x[:-1])), torch.cat((x[1:], nothing))
    return ((2 * x - before - after + h**2 * (x + t + 1) ** 3 / 2) ** 2).sum()


def beale(x: Tensor) -> Tensor:
    """Sum the squares of y_i - x_1 (1 - x_2^i) for i to 3; minimum 0 at (3, 1/2)."""
    i = torch.arange(1, 4, dtype=x.dtype, device=x.device)
    y = x.new_tensor([1.5, 2.25, 2.625])
    return ((y - x[0] * (1 - x[1] ** i)) ** 2).sum()


def helical_valley(x: Tensor) -> Tensor:
    """Compute 100 (x_3 - 10 theta)^2 + 100 (r - 1)^2 + x_3^2; minimum 0 at (1, 0, 0).

    theta is the angle of (x_1, x_2) in turns, between -1/4 and 3/4, and r its length.
    """
    a, b, c = x.unbind()
    theta = torch.atan2(b, a) / (2 * pi) + ((a < 0) & (b < 0)).to(x.dtype)
    return 100 * ((c - 10 * theta) ** 2 + ((a**2 + b**2).sqrt() - 1) ** 2) + c**2


def engval1(x: Tensor) -> Tensor:
    """Sum (x_i^2 + x_{i+1}^2)^2 - 4 x_i + 3 over i < n."""
    return ((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3).sum()


def arwhead(x: Tensor) -> Tensor:
    """Sum (x_i^2 + x_n^2)^2 - 4 x_i + 3 over i < n; minimum 0 at (1, ..., 1, 0)."""
    return ((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3).sum()


def fletchcr(x: Tensor) -> Tensor:
    """Sum 100 (x_{i+1} - x_i + 1 - x_i^2)^2 over i < n; minimum 0."""
    return 100 * ((x[1:] - x[:-1] + 1 - x[:-1] ** 2) ** 2).sum()


def ill_conditioned_quadratic(x: Tensor) -> Tensor:
    """Compute half of sum d_i x_i^2, with d from 1 to 1e5 in equal ratios; minimum 0 at 0."""
    d = torch.logspace(0, 5, len(x), dtype=x.dtype, device=x.device)
    return 0.5 * (d * x**2).sum()


def brown_almost_linear(x: Tensor) -> Tensor:
    """Sum the squares of x_i + sum_j x_j - (n + 1) for i < n, and of prod x_j - 1; minimum 0."""
    return ((x[:-1] + x.sum() - (len(x) + 1)) ** 2).sum() + (x.prod() - 1) ** 2


def extended_freudenstein_roth(x: Tensor) -> Tensor:
    """Sum Freudenstein and Roth's function over pairs; minima with 0 and 48.98 a pair."""
    a, b = x.view(-1, 2).unbind(1)
    first = -13 + a + ((5 - b) * b - 2) * b
    second = -29 + a + ((b + 1) * b - 14) * b
    return (first**2 + second**2).sum()


def logistic_loss(w: Tensor, rows: Tensor, signs: Tensor, decay: float) -> Tensor:
    """Compute the mean of log(1 + exp(-y_i <a_i, w>)) plus half of decay |w|^2.

    Args:
        w: weights, ``[n]``.
        rows: features a_i, ``[rows, n]``.
        signs: classes y_i, 1 or -1, ``[rows]``.
        decay: the strength of the second part, above 0.

    Returns:
        The loss, a scalar.
    """
    return softplus(-signs * (rows @ w)).mean() + 0.5 * decay * (w @ w)


def logistic_regression(n: int, num_rows: int = 500) -> Function:
    """Draw the data of a logistic regression, with features whose scales go from 1 to 0.1."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(0, -1, n, dtype=torch.float64)
    rows = torch.randn(num_rows, n, dtype=torch.float64, generator=generator) * scales
    weights = torch.randn(n, dtype=torch.float64, generator=generator)
    noise = torch.randn(num_rows, dtype=torch.float64, generator=generator)
    signs = torch.where(rows @ weights + noise > 0, 1.0, -1.0).double()
    return partial(logistic_loss, rows=rows, signs=signs, decay=1e-4)


def repeat(values: list[float], n: int) -> Tensor:
    """Repeat values until there are n."""
    return torch.tensor(values, dtype=torch.float64).repeat(n // len(values))


def count_up(n: int) -> Tensor:
    """Count from 1 to n."""
    return torch.arange(1, n + 1, dtype=torch.float64)


def boundary_value_start(n: int) -> Tensor:
    """Compute t (t - 1) at the inner points of a grid on (0, 1)."""
    t = count_up(n) / (n + 1)
    return t * (t - 1)


PROBLEMS: tuple[Problem, ...] = (
    Problem("chained Rosenbrock 100", chained_rosenbrock, repeat([-1.2, 1], 100), "CUTE, CHNROSNB"),
    Problem(
        "chained Rosenbrock 1000", chained_rosenbrock, repeat([-1.2, 1], 1000), "CUTE, CHNROSNB"
    ),
    Problem("extended Rosenbrock 1000", extended_rosenbrock, repeat([-1.2, 1], 1000), "MGH 21"),
    Problem("Powell singular 100", extended_powell_singular, repeat([3, -1, 0, 1], 100), "MGH 22"),
    Problem("Dixon-Price 100", dixon_price, repeat([1], 100), "Dixon and Price"),
    Problem("Broyden tridiagonal 500", broyden_tridiagonal, repeat([-1], 500), "MGH 30"),
    Problem("Wood 4", wood, repeat([-3, -1], 4), "MGH 14"),
    Problem("trigonometric 50", trigonometric, repeat([1 / 50], 50), "MGH 26"),
    Problem("penalty I 50", penalty_1, count_up(50), "MGH 23"),
    Problem("variably dimensioned 50", variably_dimensioned, 1 - count_up(50) / 50, "MGH 25"),
    Problem("boundary value 50", discrete_boundary_value, boundary_value_start(50), "MGH 28"),
    Problem("Beale 2", beale, repeat([1], 2), "MGH 5"),
    Problem("helical valley 3", helical_valley, torch.tensor([-1.0, 0, 0]).double(), "MGH 7"),
    Problem("Engval1 500", engval1, repeat([2], 500), "CUTE, ENGVAL1"),
    Problem("Arwhead 500", arwhead, repeat([1], 500), "CUTE, ARWHEAD"),
    Problem("Fletchcr 100", fletchcr, repeat([0], 100), "CUTE, FLETCHCR"),
    Problem("quadratic 200", ill_conditioned_quadratic, repeat([1], 200), "condition 1e5"),
    Problem("logistic regression 50", logistic_regression(50), repeat([0], 50), "drawn, seed 1"),
    Problem("Brown almost linear 10", brown_almost_linear, repeat([0.5], 10), "MGH 27"),
    Problem("Freudenstein-Roth 100", extended_freudenstein_roth, repeat([0.5, -2], 100), "Andrei"),
)
