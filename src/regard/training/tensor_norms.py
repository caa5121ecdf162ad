"""Norms of tensors, also of those of which every process holds a part (`DTensor`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from regard.optim.foreach import foreach_norm
from regard.optim.sharding import is_sharded, local_part


@torch.no_grad()
def norms_of(tensors: Sequence[Tensor], owners: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Compute the Euclidean norm of each of one or more tensors in one pass, a scalar each.

    Args:
        tensors: The tensors.
        owners: The parameters that they are parts of, where these may be shared by processes; None
            means that the tensors are not cut.

    Returns:
        The norms; of a tensor that processes share, that of the whole.
    """
    owners = tensors if owners is None else owners
    parts = [local_part(tensor) for tensor in tensors]
    norms = list(foreach_norm(parts))
    shared = [index for index, owner in enumerate(owners) if is_sharded(owner)]
    if shared:
        squares = torch.stack([norms[index].double() for index in shared]).square()
        first = owners[shared[0]]
        assert is_sharded(first)
        dist.all_reduce(squares, group=first.device_mesh.get_group())
        for index, norm in zip(shared, squares.sqrt(), strict=True):
            norms[index] = norm.to(norms[index].dtype)
    return norms
