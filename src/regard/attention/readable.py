"""Whether Python may decide by the numbers of a tensor, or has only its shape and type."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor

from regard.attention.exporting import is_recording


def is_vmapped() -> bool:
    """Return whether ``torch.vmap`` maps: a tensor may then hold many."""
    if not torch._C._are_functorch_transforms_active():
        return False
    return any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ())


def has_data(x: Tensor) -> bool:
    """Return whether a tensor of any shape has numbers, not its shape alone."""
    return x.device.type != "meta" and not isinstance(x, FakeTensor)


def is_readable(x: Tensor) -> bool:
    """Return whether the numbers of a tensor of any shape may be read, perhaps after waiting.

    Not so where ``torch.compile`` traces, operators are recorded, or ``torch.vmap`` maps.
    """
    return not (torch.compiler.is_compiling() or is_recording() or is_vmapped()) and has_data(x)
