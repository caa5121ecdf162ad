"""Whether operators are recorded, which is asked where the graph must serve all lengths."""

from __future__ import annotations

import torch
from torch._C._functorch import TransformType, get_interpreter_stack

_PROXY = torch._C._TorchDispatchModeKey.PROXY


def is_exporting() -> bool:
    """Return whether `torch.export` traces.

    `torch.compiler.is_exporting` is True within `torch.compile`, too, by the compiler of PyTorch
    2.11, where attention would be computed by the definition.
    """
    return torch.compiler._is_exporting_flag


def is_recording() -> bool:
    """Return whether operators are recorded or rewritten, so that only PyTorch's may be called.

    `torch.export`, `make_fx` and `torch.func.linearize` record them, `torch.func.functionalize`
    rewrites them. Numbers may not be read there, and a function with a derivative of its own has no
    place.
    """
    if torch.compiler.is_compiling():
        return is_exporting()
    if torch._C._get_dispatch_mode(_PROXY) is not None:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    transforms = get_interpreter_stack() or ()
    return any(transform.key() == TransformType.Functionalize for transform in transforms)
