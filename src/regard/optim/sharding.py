"""Whether tensors are shared by processes, without loading what shares them.

``torch.distributed.tensor`` and ``torch.distributed.fsdp`` load SymPy and take a second or two. A
process that has no `DTensor` never imports them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: object) -> TypeGuard[DTensor]:
    """Return whether a tensor is a `DTensor`, of which every process holds a part."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def is_sharded_module(module: object) -> TypeGuard[FSDPModule]:
    """Return whether a module is one of FSDP2, whose parameters processes share."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)
