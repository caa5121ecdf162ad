"""Muon: momentum, orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

Each weight matrix moves by the nearest semi-orthogonal matrix to its momentum, so that every
direction in its space learns at the same pace. The quintic iteration ``X <- a X + b (X X^T) X + c
(X X^T)^2 X`` needs no decomposition. Matrices of one shape are taken together in batched products.
(Iterating the small Gram matrix alone would need fewer operations, but loses its positive
definiteness to rounding in bfloat16 and diverges.)

Cost a step, for a matrix of m x n with m <= n: 4 m^2 n + 2 m^3 operations an iteration, or 8 m^3
with the Gram matrix. Steps are scaled to the root mean square of an AdamW step (Liu et al. 2025,
"Muon is Scalable for LLM Training", equation 4), so that rates and weight decay are of AdamW's
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError
from regard.optim.sharding import is_sharded

_GRAM_FROM = 8  # length over width from which the Gram matrix alone is iterated
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024


def orthogonalize(matrices: Tensor, *, num_steps: int = 5) -> Tensor:
    """Compute matrices with singular values near 1 and the same singular vectors.

    Args:
        matrices: ``[num_matrices, rows, columns]``, floating point; computed in this type.
        num_steps: Newton-Schulz iterations, 1 or more.

    Returns:
        Same shape; singular values lie within about 0.7 to 1.2 where they were at least 0.01 of the
        largest.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices  # [number, short, long]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    x = _iterate_gram(x, num_steps) if _is_very_long(x) else _iterate(x, num_steps)
    return x.mT if is_tall else x


def _is_very_long(matrices: Tensor) -> bool:
    rows, columns = matrices.shape[-2:]  # of [number, rows, columns]
    return max(rows, columns) >= _GRAM_FROM * min(rows, columns)


def _iterate(x: Tensor, num_steps: int) -> Tensor:
    """Apply ``X <- a X + b (X X^T) X + c (X X^T)^2 X`` to [number, short, long]."""
    for _ in range(num_steps):
        x = torch.baddbmm(x, _polynomial(torch.bmm(x, x.mT)), x, beta=COEFFICIENTS[0])
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """Compute ``b G + c G^2``, [number, short, short]."""
    _, b, c = COEFFICIENTS
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def _iterate_gram(x: Tensor, num_steps: int) -> Tensor:
    """Return the iterate of [number, short, long], from iterating ``G = X X^T`` alone.

    Every iterate is ``Q X`` with Q a polynomial in G, and the next G is ``P^2 G`` for the factor P
    of the step, since polynomials of one matrix commute.
    """
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    gram, product = torch.bmm(x, x.mT), identity.expand(len(x), -1, -1)  # [number, short, short]
    for _ in range(num_steps):
        factor = _polynomial(gram) + COEFFICIENTS[0] * identity
        product = torch.bmm(factor, product)
        gram = torch.bmm(factor, torch.bmm(factor, gram))
    return torch.bmm(product, x)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the weight matrices inside a network.

    Biases and norms need another optimizer, such as AdamW, and so do weights with two axes that act
    entry by entry, such as biases of heads, ``[heads, dim]``.

    Args:
        params: Matrices, or groups of them; a group may set ``num_parts``, the number of maps that
            are stacked in the rows of each of its matrices and are orthogonalised one by one.
        lr: Learning rate, on AdamW's scale, above 0.
        momentum: Decay of the mean of gradients, 0 to below 1.
        weight_decay: Decoupled, 0 or more.
        num_steps: Newton-Schulz iterations, 1 or more.
        dtype: Type of the iteration's products; None takes the parameters'. Matrices at least eight
            times as long as wide always take the parameters'.

    Raises:
        ConfigError: A group has a setting of another optimizer.
        ShapeError: A parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        num_steps: int = 5,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "num_steps": num_steps,
            "num_parts": 1,
        }
        super().__init__(params, defaults)
        self._dtype = dtype

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add matrices.

        Raises:
            ConfigError: A setting of the group is unknown.
            ShapeError: A parameter is not a matrix.
        """
        unknown = sorted(set(param_group) - {"params", "param_names", *self.defaults})
        if unknown:
            raise ConfigError(
                f"Muon has no setting {unknown[0]!r} of a group.  It takes: "
                f"{', '.join(self.defaults)}"
            )
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.dim() != 2:
                self.param_groups.pop()
                raise ShapeError(
                    f"a parameter of shape {list(parameter.shape)} is not a matrix; Muon takes "
                    "matrices only.  Give the others to AdamW."
                )

    @torch.no_grad()
    def step(  # type: ignore[override] - one method instead of torch's overloads
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step.

        Args:
            closure: Computes the loss and the gradients first; None takes the present gradients.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}  # parameters and gradients
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape.setdefault(parameter.shape, []).append((parameter, parameter.grad))
        for shape, members in _in_portions(by_shape):
            lookahead = []  # Nesterov's
            for parameter, gradient in members:
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                lookahead.append(gradient.lerp(buffer, momentum))
            # A matrix that processes share is gathered: an update depends on all its entries.
            updates = torch.stack([_whole(x) for x in lookahead])  # [members, rows, columns]
            if self._dtype is not None and not _is_very_long(updates):
                updates = updates.to(self._dtype)
            rows = shape[0] // group["num_parts"]
            maps = updates.view(-1, rows, shape[1])  # [members * num_parts, rows, columns]
            updates = orthogonalize(maps, num_steps=group["num_steps"]).reshape(updates.shape)
            scale = group["lr"] * 0.2 * math.sqrt(max(rows, shape[1]))
            shrink = 1 - group["lr"] * group["weight_decay"]
            for (parameter, _), update in zip(members, updates, strict=True):
                change = _part_like(parameter, update.to(parameter.dtype))
                parameter.mul_(shrink).add_(change, alpha=-scale)


def _in_portions(
    by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]],
) -> Iterator[tuple[torch.Size, list[tuple[Tensor, Tensor]]]]:
    """Yield the members of each shape; those that processes share one by one, to save memory."""
    for shape, members in by_shape.items():
        if is_sharded(members[0][0]):
            yield from ((shape, [member]) for member in members)
        else:
            yield shape, members


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def _part_like(parameter: Tensor, update: Tensor) -> Tensor:
    """Return an update that all processes have in the layout of its parameter."""
    if not is_sharded(parameter):
        return update
    from torch.distributed.tensor import DTensor, Replicate

    mesh = parameter.device_mesh
    whole = DTensor.from_local(update, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return whole.redistribute(mesh, parameter.placements)
