"""Muon: momentum, orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

Each weight matrix moves by the nearest semi-orthogonal matrix to its momentum, so that every
direction in its space learns at the same pace. The quintic iteration ``X <- a X + b (X X^T) X + c
(X X^T)^2 X`` needs no decomposition. Matrices of one shape are taken together in batched products.
(Iterating the small Gram matrix alone would need fewer operations, but loses its positive
definiteness to rounding in bfloat16 and diverges.)

Cost a step, for a matrix of m x n with m <= n: 4 m^2 n + 2 m^3 operations an iteration. Steps are
scaled to the root mean square of an AdamW step (Liu et al. 2025, "Muon is Scalable for LLM
Training", equation 4), so that rates and weight decay are of AdamW's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from regard.errors import ShapeError

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024


def orthogonalize(matrices: Tensor, *, num_steps: int = 5) -> Tensor:
    """Bring all singular values near 1, leaving the singular vectors.

    Args:
        matrices: ``[number, rows, columns]``, floating point; computed in its type.
        num_steps: Newton-Schulz iterations, 1 or more.

    Returns:
        Same shape; singular values lie within about 0.7 to 1.2 where they were at least 0.01 of the
        largest.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices  # [number, short, long]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(num_steps):
        gram = torch.bmm(x, x.mT)  # [number, short, short]
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, factor, x, beta=a)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the weight matrices inside a network.

    Embeddings, output maps, biases and norms want another optimizer, such as AdamW.

    Args:
        params: Matrices, or groups of them; a group may set ``num_parts``, the number of maps that
        are
            stacked in the rows of each of its matrices and are orthogonalised one by one.
        lr: Learning rate, on AdamW's scale, above 0.
        momentum: Decay of the mean of gradients, 0 to below 1.
        weight_decay: Decoupled, 0 or more.
        num_steps: Newton-Schulz iterations.
        dtype: Type of the iteration's products; None takes the parameters'.

    Raises:
        ShapeError: A parameter is no matrix.
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
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ShapeError(
                        f"a parameter of shape {list(parameter.shape)} is no matrix; Muon takes "
                        "matrices only.  Give the others to AdamW."
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure`, where given, computes the loss and the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for shape, members in by_shape.items():
            updates = torch.stack([self._update(p, group["momentum"]) for p in members])
            rows = shape[0] // group["num_parts"]
            pieces = updates.view(-1, rows, shape[1])  # [members * parts, rows, columns]
            found = orthogonalize(pieces, num_steps=group["num_steps"]).reshape(updates.shape)
            scale = group["lr"] * 0.2 * math.sqrt(max(rows, shape[1]))
            shrink = 1 - group["lr"] * group["weight_decay"]
            for parameter, update in zip(members, found, strict=True):
                parameter.mul_(shrink).add_(update.to(parameter.dtype), alpha=-scale)

    def _update(self, parameter: Tensor, momentum: float) -> Tensor:
        """Bring the momentum up to date; return Nesterov's look-ahead of it."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum).to(self._dtype or parameter.dtype)
