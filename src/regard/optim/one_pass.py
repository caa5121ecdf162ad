"""What PyTorch compiles so that a GPU reads each vector once; its operators read two for a product.

To compile takes two seconds, once for all lengths: it is left out for vectors of fewer than a
million entries, which stay in a GPU's cache, and where nothing can be compiled. The compiler also
tries which way to add is the fastest, so that two processes may round a sum in two ways: it is left
out where several decide by the same sums, and where a run must repeat its bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_FEWEST = 1 << 20  # entries
_failures: set[torch.device] = set()


def in_one_pass(function: Callable[..., Any], *arguments: Tensor | float) -> Any:
    """Compute a function of vectors by a kernel of its own.

    Args:
        function: Of PyTorch's operators alone.
        *arguments: Vectors ``[n]``, of which the first says where it is computed, and numbers.

    Returns:
        What `function` returns; None, with nothing done, where it is not compiled.
    """
    vector = arguments[0]
    if not (isinstance(vector, Tensor) and pays(vector)) or vector.device in _failures:
        return None
    from torch._dynamo.exc import TorchDynamoException

    try:
        return _compiled(function)(*arguments)
    except TorchDynamoException as error:
        _failures.add(vector.device)
        cause = getattr(error, "inner_exception", error)
        reason = str(cause).strip().partition("\n")[0]
        warnings.warn(
            "inner products of an optimizer are computed one by one on this GPU, which is slower: "
            f"PyTorch cannot compile them ({type(cause).__name__}: {reason}).",
            stacklevel=2,
        )
        return None


def pays(vector: Tensor) -> bool:
    """Return whether a vector, ``[n]``, is on a GPU and long, and any rounding of a sum will do."""
    is_shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    must_repeat = is_shared or torch.are_deterministic_algorithms_enabled()
    return vector.is_cuda and vector.numel() >= _FEWEST and not must_repeat


@lru_cache(maxsize=8)
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        return torch.compile(function, dynamic=True, fullgraph=True)
    except RuntimeError as error:  # not for this version of Python, or without its lock
        raise TorchDynamoException(str(error)) from error
