"""One small positive definite linear system per position, all solved at once by conjugate gradient.

Position t of a chunk has the matrix

    A_t = d_t S + sum_{i <= t} w_ti k_i k_i^T + diag(Lambda)

where S is a symmetric matrix that the whole chunk shares. No A_t is ever built: its product with a
vector is a product with S and two with the keys of the chunk, matrix products over all positions
together. Conjugate gradient (Hestenes & Stiefel 1952) is preconditioned by the diagonal of A_t
(Jacobi), so that keys whose components differ in scale take few iterations.

Derivatives are implicit: of x = A^-1 b the cotangent of b is y = A^-1 (cotangent of x), the same
solve once more, and the cotangents of the parts of A are those of -y^T A x with x and y held fixed.
No iteration is saved, so memory does not grow with their number, and as the backward pass consists
of this solve and of plain products it can be differentiated again, to any order.

Cost of a product, per position: dim^2 + 2 chunk dim multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.attention.batched_cotangents import are_batched, pull_back_one_by_one
from regard.attention.exporting import is_exporting
from regard.attention.nan_propagation import is_asynchronous
from regard.attention.readable import is_readable, is_vmapped

_ITERATIONS_BETWEEN_WAITS = 8  # on a device that Python would wait for


class Systems(NamedTuple):
    """The parts of the matrices A_t of all positions, in `num_chunks` chunks of `chunk` positions.

    Args:
        starts: S, ``[batch, heads, num_chunks, dim, dim]``, symmetric.
        decays: d, ``[batch or 1, heads or 1, num_chunks, chunk, 1]``, 0 or above.
        keys: k, ``[batch, heads, num_chunks, chunk, dim]``.
        weights: w, ``[batch or 1, heads or 1, num_chunks, chunk, chunk]``, 0 above the diagonal.
        regularization: Lambda, ``[heads, 1, 1, dim]``, positive.
    """

    starts: Tensor
    decays: Tensor
    keys: Tensor
    weights: Tensor
    regularization: Tensor

    def multiply(self, x: Tensor) -> Tensor:
        """Return A_t x_t for x ``[batch, heads, num_chunks, chunk, dim]``; without a graph."""
        product = (x @ self.starts).mul_(self.decays)
        product.add_((x @ self.keys.mT).mul_(self.weights) @ self.keys)
        return product.addcmul_(self.regularization, x)

    def diagonals(self) -> Tensor:
        """Compute the diagonal of every A_t, ``[batch, heads, num_chunks, chunk, dim]``."""
        of_starts = self.starts.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
        return self.decays * of_starts + self.weights @ self.keys.square() + self.regularization


def solve(
    systems: Systems, b: Tensor, *, num_iterations: int, tolerance: float | None = None
) -> Tensor:
    """Solve A_t x_t = b_t for every position, differentiable to any order.

    Derivatives are those of the exact solution, taken at the computed one, with as many iterations.

    Args:
        systems: The matrices.
        b: Right-hand sides, ``[batch, heads, num_chunks, chunk, dim]``; zeros give zeros.
        num_iterations: Iterations of conjugate gradient, at most, 1 or more.
        tolerance: Stop when every residual has fallen to this fraction of its right-hand side, both
            measured with component j divided by the root of entry j of the diagonal of A_t. None
            makes all iterations.

    Returns:
        x, of the shape of `b`.
    """
    if is_exporting():
        with torch.no_grad():
            return _conjugate_gradient(systems, b, num_iterations, tolerance)
    if torch.compiler.is_compiling():
        return _solve_operator(b, *systems, num_iterations, tolerance)
    return _Solve.apply(num_iterations, tolerance, b, *systems)


@torch.library.custom_op("regard::mesa_solve", mutates_args=())
def _solve_operator(
    b: Tensor,
    starts: Tensor,
    decays: Tensor,
    keys: Tensor,
    weights: Tensor,
    regularization: Tensor,
    num_iterations: int,
    tolerance: float | None,
) -> Tensor:
    """Solve in a compiled graph for b ``[batch, heads, num_chunks, chunk, dim]``."""
    systems = Systems(starts, decays, keys, weights, regularization)
    return _conjugate_gradient(systems, b, num_iterations, tolerance)


@_solve_operator.register_fake
def _(b: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _save_solution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *systems, ctx.num_iterations, ctx.tolerance = inputs
    ctx.save_for_backward(*systems, output)


def _differentiate(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, x = ctx.saved_tensors
    y = _solve_operator(cotangent.contiguous(), *tensors, ctx.num_iterations, ctx.tolerance)
    return y, *_pull_back(Systems(*tensors), x, y, ctx.needs_input_grad[1:6]), None, None


_solve_operator.register_autograd(_differentiate, setup_context=_save_solution)


class _Solve(torch.autograd.Function):
    """Implicit differentiation: every derivative is one more solve with the same matrices.

    Right-hand sides, solutions and their tangents are ``[batch, heads, num_chunks, chunk, dim]``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        num_iterations: int, tolerance: float | None, b: Tensor, *systems: Tensor
    ) -> Tensor:
        return _conjugate_gradient(Systems(*systems), b, num_iterations, tolerance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.num_iterations, ctx.tolerance, _, *systems = inputs
        ctx.save_for_backward(*systems, output)
        ctx.save_for_forward(*systems, output)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - one output
        ctx: Any, cotangent: Tensor
    ) -> tuple[Tensor | None, ...]:
        if are_batched((cotangent,)):
            return pull_back_one_by_one(lambda row: _Solve.backward(ctx, *row), (cotangent,))
        *tensors, x = ctx.saved_tensors
        systems = Systems(*tensors)
        y = solve(systems, cotangent, num_iterations=ctx.num_iterations, tolerance=ctx.tolerance)
        return None, None, y, *_pull_back(systems, x, y, ctx.needs_input_grad[3:])

    @staticmethod
    def jvp(  # pyright: ignore[reportIncompatibleMethodOverride] - the stub forgets ctx
        ctx: Any, _iterations: None, _tolerance: None, b: Tensor | None, *tangents: Tensor | None
    ) -> Tensor:
        *tensors, x = ctx.saved_tensors
        systems = Systems(*tensors)
        moved = _push_forward(systems, x, tangents)
        b = -moved if b is None else b - moved
        return solve(systems, b, num_iterations=ctx.num_iterations, tolerance=ctx.tolerance)


def _conjugate_gradient(
    systems: Systems, b: Tensor, num_iterations: int, tolerance: float | None
) -> Tensor:
    """Solve for b ``[batch, heads, num_chunks, chunk, dim]``, each position to its tolerance."""
    systems = systems._replace(starts=systems.starts.contiguous(), keys=systems.keys.contiguous())
    if is_vmapped():  # a right-hand side that is not mapped over has mapped solutions
        b = b + torch.zeros_like(systems.diagonals())
    # A right-hand side of size 1 keeps the squares of tiny cotangents from vanishing.
    size = b.abs().amax(-1, keepdim=True)
    residual = b / torch.where(size == 0, 1, size)
    inverse = systems.diagonals().reciprocal_()
    preconditioned = residual * inverse
    direction = preconditioned.clone()
    x = torch.zeros_like(residual, memory_format=torch.contiguous_format)
    squared = _dot(residual, preconditioned)
    smallest = squared * max(tolerance or 0.0, torch.finfo(b.dtype).eps) ** 2
    may_stop = tolerance is not None and is_readable(b)
    stride = _ITERATIONS_BETWEEN_WAITS if is_asynchronous(b) else 1
    for number in range(num_iterations):
        done = squared <= smallest
        # What is done does not change, so more iterations, as in a graph, give the same.
        if may_stop and number % stride == 0 and bool(done.all()):
            break
        product = systems.multiply(direction)
        step = (squared / _dot(direction, product)).masked_fill_(done, 0.0)
        x.addcmul_(step, direction)
        residual.addcmul_(step, product, value=-1)
        preconditioned = residual * inverse
        before, squared = squared, _dot(residual, preconditioned)
        beta = (squared / before).masked_fill_(done, 0.0)
        direction.mul_(beta).add_(preconditioned)
    return x.mul_(size)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Return the dot products of vectors ``[..., dim]``, ``[..., 1]``."""
    return (x * y).sum(-1, keepdim=True)


def _pull_back(
    systems: Systems, x: Tensor, y: Tensor, needs_grad: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Differentiate -y^T A x in the parts of A; x and y are ``[..., num_chunks, chunk, dim]``."""
    starts, decays, keys, weights, _ = systems
    of_x, of_y = x @ keys.mT, y @ keys.mT  # [batch, heads, num_chunks, chunk, chunk]
    formulas = (
        lambda: (x * decays).mT @ y,
        lambda: _dot(x @ starts, y),
        lambda: (weights * of_y).mT @ x + (weights * of_x).mT @ y,
        lambda: of_x * of_y,
        lambda: x * y,
    )
    return tuple(
        -formula().sum_to_size(part.shape) if needs else None
        for formula, part, needs in zip(formulas, systems, needs_grad, strict=True)
    )


def _push_forward(systems: Systems, x: Tensor, tangents: Sequence[Tensor | None]) -> Tensor:
    """Differentiate A x in the direction of the tangents of the parts of A, with x held fixed."""
    starts, decays, keys, weights, _ = systems
    of_x = x @ keys.mT  # [batch, heads, num_chunks, chunk, chunk]
    formulas = (
        lambda tangent: x @ tangent * decays,
        lambda tangent: x @ starts * tangent,
        lambda tangent: x @ tangent.mT * weights @ keys + of_x * weights @ tangent,
        lambda tangent: of_x * tangent @ keys,
        lambda tangent: tangent * x,
    )
    moved = torch.zeros_like(x)
    for formula, tangent in zip(formulas, tangents, strict=True):
        if tangent is not None:
            moved = moved + formula(tangent)
    return moved
