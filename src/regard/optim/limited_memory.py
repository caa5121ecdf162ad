"""The last few steps and changes of gradient: what limited-memory methods know of the curvature.

With the steps as rows of S, the changes as rows of Y, the oldest first, R the upper triangle of
S Y^T, D its diagonal, and gamma P the first approximation of the inverse Hessian, that of limited
memory BFGS (Nocedal 1980) is in compact form (Byrd, Nocedal & Schnabel 1994, theorem 2.2)

    H g = gamma P u + S^T R^-T (D w - gamma Y P u)      with  w = R^-1 S g,  u = g - Y^T w

which is what the two-loop recursion computes pair by pair. Here S and Y are matrices, and each is
read twice: 4 passes over m vectors of n entries. A new pair's products with the others are found in
the pass that multiplies S with g, so there are 5 m n multiplications. 2 m vectors are held.

`fraction_in_span` is how much of a vector lies in the span of the steps (Hager & Zhang 2013,
section 3: conjugate gradients have lost their orthogonality where it is much).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.optim.flat_parameters import linear_combination

Dots = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Multiplies every row of ``[m, n]`` with each of k vectors, ``[n]``: ``[m, k]`` in float64."""
Precondition = Callable[[Tensor], Tensor]

MATRICES = "products", "gram"
"""Names of small matrices of float64 in the state, which a saved state has as lists."""
_MIN_CURVATURE = 1e-16  # of s.y / (|s| |y|): below, rounding decides about its sign


@dataclass(eq=False)
class CurvaturePair:
    """A direction d, the change y of the gradient along it, and their inner products.

    Args:
        direction: d, ``[n]``.
        change: y, ``[n]``.
        d_d: d.d.
        d_y: d.y.
        y_y: y.y.
    """

    direction: Tensor
    change: Tensor
    d_d: float
    d_y: float
    y_y: float


class LimitedMemory:
    """Pairs of a step s and the change y of the gradient along it, in rows of ``[pairs, n]``.

    Args:
        num_pairs: Pairs that are kept, 1 or more.
        dots: Inner products of every row of a matrix with several vectors.
        state: Holds the pairs; earlier ones stay, unless they were for another number of pairs.
    """

    def __init__(self, num_pairs: int, dots: Dots, state: dict[str, Any]) -> None:
        self._num_pairs, self._dots, self._state = num_pairs, dots, state
        self._order: list[int] = state.setdefault("order", [])  # rows of the pairs, oldest first
        # Rows whose y has not been multiplied with all s, and whose s has not.
        self._new_changes: list[int] = state.setdefault("new_changes", [])
        self._new_steps: list[int] = state.setdefault("new_steps", [])
        # A vector, and its products with the steps, [pairs].
        self._last: tuple[Tensor, Tensor] | None = None
        if "steps" in state and len(state["steps"]) != num_pairs:
            self.clear()
            del state["steps"], state["changes"]
        for name in MATRICES:  # of a saved state
            if isinstance(state.get(name), list):
                device = state["steps"].device if "steps" in state else None
                state[name] = torch.tensor(state[name], dtype=torch.float64, device=device)

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        """Drop all pairs."""
        for rows in (self._order, self._new_changes, self._new_steps):
            rows.clear()
        self._last = None

    def add(self, pair: CurvaturePair, step_size: float) -> bool:
        """Add a pair whose curvature is positive; the oldest one is dropped where all are taken.

        Args:
            pair: Direction of the step, and change of the gradient.
            step_size: The step is `step_size` times the direction.

        Returns:
            Whether it was added.
        """
        s_y = step_size * pair.d_y
        if not s_y > _MIN_CURVATURE * step_size * (pair.d_d * pair.y_y) ** 0.5:
            return False
        state, limit = self._state, self._num_pairs
        if "steps" not in state:
            shape = limit, len(pair.direction)
            state["steps"] = pair.direction.new_zeros(shape)
            state["changes"] = pair.direction.new_zeros(shape)
            for name in MATRICES:
                state[name] = state["steps"].new_zeros((limit, limit), dtype=torch.float64)
        row = self._order.pop(0) if len(self) == limit else len(self)
        torch.mul(pair.direction, step_size, out=state["steps"][row])
        state["changes"][row].copy_(pair.change)
        state["products"][row, row] = s_y
        state["change_square"] = pair.y_y
        self._order.append(row)
        for new in (self._new_changes, self._new_steps):
            new[:] = [*(index for index in new if index != row), row]
        self._last = None
        return True

    def quasi_newton_direction(
        self, gradient: Tensor, precondition: Precondition | None, out: Tensor
    ) -> Tensor:
        """Compute ``-H g``. There must be a pair.

        Args:
            gradient: g, ``[n]``.
            precondition: A first approximation of the inverse Hessian, symmetric and positive; None
                takes the identity. It is scaled to the newest pair.
            out: Receives the direction, ``[n]``.

        Returns:
            `out`.
        """
        steps, changes = self._rows("steps"), self._rows("changes")
        s_g = self._products_with_steps(gradient, needs_gram=False)
        triangle = self._in_age_order("products").triu()
        w = torch.linalg.solve_triangular(triangle, s_g.unsqueeze(1), upper=True)[:, 0]
        linear_combination(gradient, torch.ones_like(w[0]), changes, self._by_row(-w), out)  # u
        # gamma fits the first approximation to the newest pair.
        newest = self._order[-1]
        if precondition is None:
            square: Tensor | float = self._state["change_square"]
        else:
            change = self._state["changes"][newest]
            square = self._dots(change.unsqueeze(0), [precondition(change)])[0, 0]
        scale = self._state["products"][newest, newest] / square
        image = out if precondition is None else precondition(out)
        rest = triangle.diagonal() * w
        rest = rest - scale * self._by_age(self._dots(changes, [image])[:, 0])
        weights = torch.linalg.solve_triangular(triangle.T, rest.unsqueeze(1), upper=False)[:, 0]
        return linear_combination(image, -scale, steps, self._by_row(-weights), out)

    def fraction_in_span(self, vector: Tensor) -> float:
        """Return the norm of a vector's part in the span of the steps over its own, 0 to 1."""
        along = self._products_with_steps(vector, needs_gram=True)
        square = self._dots(vector.unsqueeze(0), [vector])
        # In one transfer from a device: pinv would wait for it.
        table = torch.cat([self._in_age_order("gram"), along.unsqueeze(0)]).cpu()
        gram, along = table[:-1], table[-1]
        size = gram.diagonal().sqrt()
        gram, along = gram / size / size.unsqueeze(1), along / size
        inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
        in_span = float(along @ inverse @ along)
        return (max(0.0, in_span) / float(square)) ** 0.5

    def _rows(self, name: str) -> Tensor:
        """Return those rows of a matrix that are taken, ``[pairs, n]``."""
        return self._state[name][: len(self)]

    def _in_age_order(self, name: str) -> Tensor:
        """Return a matrix of inner products in the order of age, ``[pairs, pairs]``."""
        size, first = len(self), self._order[0]
        return self._state[name][:size, :size].roll((-first, -first), (0, 1))

    # Rows are taken in turn, so that the order of age is that of the rows from the oldest on.

    def _by_age(self, entries: Tensor) -> Tensor:
        """Put an entry of every row, ``[pairs]``, into the order of age."""
        return entries.roll(-self._order[0])

    def _by_row(self, entries: Tensor) -> Tensor:
        """Put entries in the order of age, ``[pairs]``, into that of the rows."""
        return entries.roll(self._order[0])

    def _products_with_steps(self, vector: Tensor, *, needs_gram: bool) -> Tensor:
        """Multiply all steps with a vector, and with the new pairs: ``[pairs]`` in order of age."""
        new_changes, new_steps = self._new_changes, self._new_steps if needs_gram else []
        if self._last is not None and self._last[0] is vector and not (new_changes or new_steps):
            return self._by_age(self._last[1])
        columns = [self._state["changes"][row] for row in new_changes]
        columns += [self._state["steps"][row] for row in new_steps]
        computed = self._dots(self._rows("steps"), [*columns, vector])  # [pairs, columns + 1]
        self._last = vector, computed[:, -1]
        size, products, gram = len(self), self._state["products"], self._state["gram"]
        for column, new in enumerate(new_changes):
            own = products[new, new].clone()  # of the step that was taken, not of its rounding
            products[:size, new] = computed[:, column]
            products[new, new] = own
        for column, new in enumerate(new_steps, len(new_changes)):
            gram[:size, new] = gram[new, :size] = computed[:, column]
        new_changes.clear()
        new_steps.clear()
        return self._by_age(self._last[1])
