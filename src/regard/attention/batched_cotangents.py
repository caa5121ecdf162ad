"""Many cotangents at once: ``torch.autograd.grad(..., is_grads_batched=True)``.

Those of `torch.autograd` (also of ``torch.autograd.functional`` with ``vectorize=True``, and of
``torch.autograd.gradcheck``) do not use `torch.vmap`: few views have a rule there, and no function
with a derivative of its own. So a backward pass computes them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

Backward = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
"""Maps cotangents of outputs to cotangents of inputs."""


def are_batched(cotangents: Sequence[Tensor]) -> bool:
    """Return whether some of these tensors, of any shape, hold many."""
    return any(map(is_legacy_batchedtensor, cotangents))


def pull_back_one_by_one(
    backward: Backward, cotangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Compute a backward pass for each of many cotangents.

    Args:
        backward: Computes it for one.
        cotangents: Of any shape; each holds the same number, or one.

    Returns:
        Cotangents that hold as many.
    """
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    remove, add = torch.ops.aten._remove_batch_dim, torch.ops.aten._add_batch_dim
    batched = next(filter(is_legacy_batchedtensor, cotangents))
    number = remove(batched, level, 1, 0).shape[0]  # [number, ...]
    rows = zip(*(remove(cotangent, level, number, 0) for cotangent in cotangents), strict=True)
    results = zip(*map(backward, rows), strict=True)  # of each input
    return tuple(
        add(torch.stack([row for row in of_input if row is not None]), 0, level)
        if of_input[0] is not None
        else None
        for of_input in results
    )
