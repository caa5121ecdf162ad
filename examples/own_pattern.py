"""Attend with a pattern of your own: a dilated window, as in Longformer (Beltagy et al. 2020).

    python examples/own_pattern.py

A pattern says the same in two ways. `allowed` answers for given pairs of positions; `terms` names
the structures in which pairs are found, so that the work is linear in the pairs. Everything else
follows: all methods of computation, derivatives of any order, `|` and `&`, `cost` and `show`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention import Global, MaskPattern, MaskTerm, attend


@dataclass(frozen=True)
class DilatedWindow(MaskPattern):
    """Allows every `dilation`-th key before the query, `size` of them, and the query's own.

    Args:
        size: Keys before the query, 0 or more.
        dilation: Distance between two of them, 1 or more.
    """

    size: int
    dilation: int

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        distance = queries - keys
        is_near = (distance >= 0) & (distance <= self.size * self.dilation)
        return is_near & (distance % self.dilation == 0)

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one term: a band and a stride."""
        return (MaskTerm(before=self.size * self.dilation, after=0, stride=self.dilation),)


def main() -> float:
    """Attend; return the largest difference from attention by the whole matrix."""
    pattern = DilatedWindow(size=3, dilation=2)
    pattern.check()  # `allowed` and `terms` say the same
    print(pattern.show(12))
    print(pattern.cost(4096, 4096))

    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, 4, 1000, 16, dtype=torch.float64, generator=generator)
    q.requires_grad_()
    output = attend(q, k, v, pattern=pattern | Global([0]))  # [batch, heads, length, dim]
    positions = torch.arange(1000)
    mask = (pattern | Global([0])).allowed(positions[:, None], positions[None, :])
    reference = attend(q, k, v, mask=mask)

    gradient, reference_gradient = (
        torch.autograd.grad(result.square().sum(), q)[0] for result in (output, reference)
    )
    difference = max(
        (output - reference).abs().max().item(),
        (gradient - reference_gradient).abs().max().item(),
    )
    print(f"largest difference from the whole matrix: {difference:.1e}")
    return difference


if __name__ == "__main__":
    main()
