"""Conjugate gradient for linear systems, and its form inside a trust region.

`conjugate_gradient_solve` is Hestenes & Stiefel's (1952; Nocedal & Wright 2006, algorithm 5.3):
A x = b for a symmetric positive A that is only multiplied with vectors. `steihaug` minimises a
model g.p + p.A p / 2 within a radius, for any symmetric A (Steihaug 1983; Nocedal & Wright,
algorithm 7.2). Both cost one product and five inner products or updates an iteration, and hold five
vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.linear_operator import MatVec, Operator, as_matvec
from regard.optim.flat_parameters import inner_product

Dot = Callable[[Tensor, Tensor], float]
Inner = Callable[[Tensor, Tensor], Tensor]


def plain_dot(first: Tensor, second: Tensor) -> float:
    """Compute an inner product, summed in float64."""
    return float(inner_product(first, second))


@dataclass(eq=False)
class RelativeProgress:
    """Martens' end of the inner iteration (2010, section 4.4).

    Ends at iteration i where the model has decreased over the last k = max(10, i / 10) iterations
    by less than ``k epsilon`` of its value.

    Args:
        epsilon: Above 0.
    """

    epsilon: float = 5e-4

    def __call__(self, models: list[float]) -> bool:
        """Return whether to end, from the model's value after every iteration so far."""
        num_iterations = len(models)
        span = max(10, num_iterations // 10)
        if num_iterations <= span or not models[-1] < 0:
            return False
        return (models[-1] - models[-1 - span]) / models[-1] < span * self.epsilon


@dataclass(frozen=True, slots=True)
class LinearSolution:
    """What conjugate gradient found.

    Args:
        x: The solution, ``[n]``.
        residuals: ``|b - A x| / |b|`` before the first iteration and after each.
        models: ``x.A x / 2 - b.x`` after each iteration.
        converged: Whether the last residual is within the tolerance.
        negative_curvature: A direction d with ``d.A d <= 0`` at which the iteration ended, ``[n]``.
    """

    x: Tensor
    residuals: list[float]
    models: list[float] = field(default_factory=list)
    converged: bool = False
    negative_curvature: Tensor | None = None

    @property
    def num_iterations(self) -> int:
        """Products with the matrix, without those for an initial guess and to check a solution."""
        return len(self.residuals) - 1


def conjugate_gradient_solve(
    operator: Operator,
    b: Tensor,
    *,
    x0: Tensor | None = None,
    preconditioner: Operator | None = None,
    rtol: float = 1e-8,
    max_iterations: int | None = None,
    stop: Callable[[list[float]], bool] | None = None,
    dot: Dot = plain_dot,
) -> LinearSolution:
    """Solve A x = b by conjugate gradient (Hestenes & Stiefel 1952).

    Args:
        operator: A, symmetric and positive: a tensor ``[n, n]``, anything with ``@``, or a function
            of ``[n]``.
        b: Right side, ``[n]``.
        x0: First x, ``[n]``; None is zero.
        preconditioner: An approximation of A's inverse, ``[n, n]``, symmetric and positive.
        rtol: Tolerance of the residual's norm, relative to b's.
        max_iterations: Iterations at most; None allows ten times n.
        stop: Ends early, by the models so far, such as `RelativeProgress`.
        dot: Inner product, for vectors that are spread over processes.

    Returns:
        The solution with its history, not converged where rounding allows no more. Where A is not
        positive along a direction, the solution so far and that direction.

    Raises:
        ConfigError: The preconditioner is not positive, or the right side not finite.
        ShapeError: `b` is not a vector.

    >>> matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    >>> b = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> solution = conjugate_gradient_solve(matrix, b)
    >>> [round(float(entry), 4) for entry in solution.x], solution.num_iterations
    ([0.0909, 0.6364], 2)
    """
    if b.dim() != 1:
        raise ShapeError(f"b has shape {list(b.shape)}; a vector is expected")
    matvec, precondition = as_matvec(operator), _preconditioning(preconditioner)
    x, residual = torch.zeros_like(b), b.clone()
    if x0 is not None:
        x = x0.clone()
        residual = b - matvec(x)
    size = math.sqrt(dot(b, b)) or 1.0
    residuals, models = [math.sqrt(dot(residual, residual)) / size], []
    limit = 10 * b.numel() if max_iterations is None else max_iterations
    direction, strength, negative = torch.zeros_like(x), math.inf, None
    checked = math.inf  # the last residual that was computed, not carried along
    while residuals[-1] > rtol and len(models) < limit:
        image = precondition(residual)
        before, strength = strength, dot(residual, image)
        if not strength > 0:
            raise ConfigError(
                f"r.P r is {strength:.3g} for the residual r and the preconditioner P; P must be "
                "symmetric and positive, and the right side finite."
            )
        direction.mul_(strength / before).add_(image)
        product = matvec(direction)
        curvature = dot(direction, product)
        if not 0 < curvature < math.inf:
            negative = direction if curvature <= 0 else None
            break
        x.add_(direction, alpha=strength / curvature)
        residual.sub_(product, alpha=strength / curvature)
        residuals.append(math.sqrt(dot(residual, residual)) / size)
        models.append(-0.5 * (dot(x, b) + dot(x, residual)))
        if stop is not None and stop(models):
            break
        if residuals[-1] <= rtol:
            # The residual that is carried along drifts from the true one, by rounding.
            residual = b - matvec(x)
            residuals[-1] = math.sqrt(dot(residual, residual)) / size
            if not residuals[-1] < 0.5 * checked:
                break
            checked, strength = residuals[-1], math.inf
    return LinearSolution(x, residuals, models, residuals[-1] <= rtol, negative)


def _preconditioning(preconditioner: Operator | None) -> MatVec:
    return (lambda vector: vector) if preconditioner is None else as_matvec(preconditioner)


@dataclass(frozen=True, slots=True)
class TrustRegionStep:
    """A step within a trust region.

    Args:
        step: p, ``[n]``.
        model: g.p + p.A p / 2, at most 0.
        num_iterations: Products with the matrix.
        is_on_boundary: Whether the radius was reached.
        negative_curvature: Whether a direction of negative curvature was followed.
        norm: Norm of the step from where the iteration began, in the norm of the preconditioner's
            inverse.
    """

    step: Tensor
    model: float
    num_iterations: int
    is_on_boundary: bool
    negative_curvature: bool
    norm: float


class _Point(NamedTuple):
    """A step p of the inner iteration, and the numbers that decide about the next.

    Args:
        step: p, ``[n]``.
        residual: Minus the model's gradient at p, ``[n]``.
        image: The preconditioner's product with it, ``[n]``.
        model: g.p + p.A p / 2.
        strength: Inner product of `residual` and `image`.
    """

    step: Tensor
    residual: Tensor
    image: Tensor
    model: float
    strength: float


@dataclass
class _Region:
    """Norms in the preconditioner's inverse M, with no product (Nocedal & Wright, 7.2).

    Args:
        radius: Of the region.
        along: d.M d of the direction d.
        across: p.M d.
        square: p.M p.
    """

    radius: float
    along: float
    across: float = 0.0
    square: float = 0.0

    def square_after(self, length: float) -> float:
        """Return p.M p after a step along the direction."""
        return self.square + 2 * length * self.across + length * length * self.along

    def last_length(self, strength: float, curvature: float, *, is_first: bool) -> float:
        """Return how far to go along the last direction: to the boundary, where there is one."""
        if math.isinf(self.radius):
            # The model is unbounded: the best known is the step so far, or downhill.
            return strength / (abs(curvature) or strength) if is_first else 0.0
        # t >= 0 with square + 2 t across + t^2 along = radius^2
        missing = max(0.0, self.radius * self.radius - self.square)
        root = math.sqrt(self.across * self.across + self.along * missing)
        return (root - self.across) / self.along

    def turn(self, length: float, ratio: float, strength: float) -> None:
        """Move p along the direction, whose place the next one takes."""
        self.across = ratio * (self.across + length * self.along)
        self.along = strength + ratio * ratio * self.along


@dataclass(frozen=True)
class _Model:
    """The model g.p + p.A p / 2, and how its numbers are computed.

    Args:
        gradient: g, ``[n]``.
        precondition: Multiplies with the preconditioner.
        inner: Inner product, a scalar.
    """

    gradient: Tensor
    precondition: MatVec
    inner: Inner

    def point(self, step: Tensor, residual: Tensor, *more: Tensor) -> tuple[_Point, list[float]]:
        """Return a point, and more scalars that are read with its own."""
        image, inner = self.precondition(residual), self.inner
        scalars = [inner(step, residual), inner(step, self.gradient), inner(residual, image), *more]
        by_residual, by_gradient, strength, *values = torch.stack(scalars).tolist()
        model = -0.5 * (by_residual - by_gradient)
        return _Point(step, residual, image, model, strength), values

    def move(self, point: _Point, direction: Tensor, product: Tensor, length: float) -> _Point:
        """Return the point after a step along a direction, in the memory of the one before."""
        point.step.add_(direction, alpha=length)
        point.residual.sub_(product, alpha=length)
        return self.point(point.step, point.residual)[0]

    def try_move(
        self, point: _Point, direction: Tensor, product: Tensor
    ) -> tuple[float, _Point | None]:
        """Return the curvature d.A d, and on a device the point at the minimum along d.

        There all numbers that a product decides about come in one transfer.
        """
        curvature = self.inner(direction, product)
        if curvature.device.type == "cpu":
            return float(curvature), None
        length = point.strength / curvature
        moved, (number,) = self.point(
            point.step + length * direction, point.residual - length * product, curvature
        )
        return number, moved


def steihaug(
    matvec: MatVec,
    gradient: Tensor,
    radius: float,
    *,
    x0: Tensor | None = None,
    preconditioner: MatVec | None = None,
    rtol: float = 0.1,
    max_iterations: int = 250,
    stop: Callable[[list[float]], bool] | None = None,
    inner: Inner = inner_product,
) -> TrustRegionStep:
    """Minimise g.p + p.A p / 2 within a radius (Steihaug 1983).

    Args:
        matvec: Multiplies a vector, ``[n]``, with A, symmetric, ``[n, n]``.
        gradient: g, ``[n]``.
        radius: Largest norm of the step, above 0; infinite for none.
        x0: A direction, ``[n]``; the iteration starts at the model's minimum along it where it
            descends. Only without a radius; one product more. None starts at zero.
        preconditioner: An approximation of the inverse of A, symmetric and positive; the radius is
            measured in the norm of its inverse.
        rtol: Tolerance of the model's gradient, relative to g.
        max_iterations: Products at most.
        stop: Ends early, by the models so far.
        inner: Inner product, a scalar of float64.

    Returns:
        The step with its value of the model.
    """
    model = _Model(gradient, _preconditioning(preconditioner), inner)
    point, _ = model.point(torch.zeros_like(gradient), gradient.neg())
    end, models = rtol**2 * point.strength, []
    start = None if x0 is None else _minimize_along(matvec, gradient, x0, inner)
    if start is not None:
        point, _ = model.point(*start)
        models.append(0.5 * float(inner(point.step, gradient)))
    direction, region = point.image.clone(), _Region(radius, along=point.strength)
    while point.strength > end and len(models) < max_iterations:
        product = matvec(direction)
        curvature, moved = model.try_move(point, direction, product)
        length = point.strength / curvature if curvature > 0 else math.inf
        if not curvature > 0 or region.square_after(length) >= radius * radius:
            length = region.last_length(point.strength, curvature, is_first=not models)
            last = model.move(point, direction, product, length)
            return TrustRegionStep(
                last.step,
                last.model,
                len(models) + 1,
                is_on_boundary=not math.isinf(radius),
                negative_curvature=not curvature > 0,
                norm=math.sqrt(max(0.0, region.square_after(length))),
            )
        before = point.strength
        point = moved or model.move(point, direction, product, length)
        region.square = region.square_after(length)
        models.append(point.model)
        if stop is not None and stop(models):
            break
        ratio = point.strength / before
        region.turn(length, ratio, point.strength)
        direction.mul_(ratio).add_(point.image)
    norm = math.sqrt(max(0.0, region.square))
    return TrustRegionStep(
        point.step, models[-1] if models else 0.0, len(models), False, False, norm
    )


def _minimize_along(
    matvec: MatVec, gradient: Tensor, direction: Tensor, inner: Inner
) -> tuple[Tensor, Tensor] | None:
    """Return step and residual, ``[n]``, at the model's minimum along a direction; None without."""
    slope = inner(gradient, direction)
    if slope.device.type == "cpu" and not slope < 0:
        return None
    product = matvec(direction)
    slope, curvature = torch.stack([slope, inner(direction, product)]).tolist()
    if not slope < 0 or not 0 < curvature < math.inf:
        return None
    length = -slope / curvature
    return direction * length, product.mul(-length).sub_(gradient)
