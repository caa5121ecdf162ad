"""Tensors of which every process holds a part, and their parts, without loading what shares them.

``torch.distributed.tensor`` and ``torch.distributed.fsdp`` load SymPy and take a second or two. A
process that has no `DTensor` never imports them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: object) -> TypeGuard[DTensor]:
    """Return whether a tensor is a `DTensor`, of which every process holds a part."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory; else the tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor gathered from all processes, which all call this; else the tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def is_sharded_module(module: object) -> TypeGuard[FSDPModule]:
    """Return whether a module is one of FSDP2, whose parameters processes share."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)
