"""The last few steps and changes of gradient: what limited-memory methods know of the curvature.

`LimitedMemory.inverse_product` is the two-loop recursion of L-BFGS (Nocedal 1980; Nocedal & Wright
2006, algorithm 7.4), 4 m n operations for m pairs of n entries. `share_inside` tells how much of a
vector lies in the span of the steps (Hager & Zhang 2013, section 3: conjugate gradients have lost
their orthogonality where it is much).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Dot = Callable[[Tensor, Tensor], float]
Precondition = Callable[[Tensor], Tensor]

_LEAST_CURVATURE = 1e-16  # of s.y / (|s| |y|): below, rounding decides about its sign


class LimitedMemory:
    """Pairs of a step s and the change y of the gradient along it, the newest last.

    Args:
        num_pairs: Pairs that are kept, 1 or more.
        dot: Inner product.
        state: Where the pairs are kept; what it holds already is taken up.
    """

    def __init__(self, num_pairs: int, dot: Dot, state: dict[str, Any]) -> None:
        self._num_pairs, self._dot = num_pairs, dot
        self._steps: list[Tensor] = state.setdefault("steps", [])
        self._changes: list[Tensor] = state.setdefault("changes", [])
        self._products: list[float] = state.setdefault("products", [])  # s.y
        self._gram: list[list[float]] = state.setdefault("gram", [])  # s.s'

    def __len__(self) -> int:
        return len(self._steps)

    def clear(self) -> None:
        """Forget all pairs."""
        for kept in (self._steps, self._changes, self._products, self._gram):
            kept.clear()

    def add(self, direction: Tensor, length: float, change: Tensor) -> bool:
        """Keep a pair whose curvature is positive.

        Args:
            direction: ``[n]``.
            length: The step is `length` times `direction`.
            change: Of the gradient, ``[n]``.

        Returns:
            Whether it was kept.
        """
        along = length * self._dot(direction, change)
        sizes = length * self._dot(direction, direction) ** 0.5 * self._dot(change, change) ** 0.5
        if not along > _LEAST_CURVATURE * sizes:
            return False
        if len(self) == self._num_pairs:
            step, kept = self._steps.pop(0), self._changes.pop(0)
            self._products.pop(0)
            self._gram.pop(0)
            for row in self._gram:
                row.pop(0)
        else:
            step, kept = torch.empty_like(direction), torch.empty_like(change)
        self._steps.append(torch.mul(direction, length, out=step))
        self._changes.append(kept.copy_(change))
        self._products.append(along)
        newest = [self._dot(other, step) for other in self._steps]
        for row, entry in zip(self._gram, newest, strict=False):
            row.append(entry)
        self._gram.append(newest)
        return True

    def inverse_product(self, gradient: Tensor, precondition: Precondition | None) -> Tensor:
        """Multiply the approximate inverse Hessian with a vector.

        Args:
            gradient: ``[n]``.
            precondition: A first approximation of the inverse Hessian, symmetric and positive; None
                takes the identity. It is scaled to the newest pair.

        Returns:
            ``[n]``, a new tensor.
        """
        found = gradient.clone()
        pairs = list(zip(self._steps, self._changes, self._products, strict=True))
        shares = []
        for step, change, product in reversed(pairs):
            shares.append(self._dot(step, found) / product)
            found.add_(change, alpha=-shares[-1])
        if precondition is not None:
            found = precondition(found)
        if pairs:
            _, change, product = pairs[-1]
            image = change if precondition is None else precondition(change)
            found.mul_(product / self._dot(change, image))
        for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
            found.add_(step, alpha=share - self._dot(change, found) / product)
        return found

    def share_inside(self, vector: Tensor) -> float:
        """Return the norm of a vector's part in the span of the steps over its own, 0 to 1."""
        gram = torch.tensor(self._gram, dtype=torch.float64)  # [pairs, pairs]
        size = gram.diagonal().sqrt()
        along = torch.tensor([self._dot(step, vector) for step in self._steps], dtype=torch.float64)
        gram, along = gram / size / size.unsqueeze(1), along / size
        inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
        square = float(along @ inverse @ along)
        return (max(0.0, square) / self._dot(vector, vector)) ** 0.5
