"""Whether the Triton kernels work on a device: found by a small case, computed once."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.util import find_spec
from subprocess import SubprocessError

import torch
from torch import Tensor

from regard.attention.backends.band_shortcut import BandInputs
from regard.attention.backends.gpu_kernels import band_launch

_WITHOUT_TOOLS = (OSError, AssertionError, SubprocessError)
"""What Triton raises without a C compiler, Python's headers, or CUDA's assembler or driver."""
_MOST_NUMBERS = 128  # of a query or a value: tiles of more do not fit into the registers


def is_on_gpu(q: Tensor) -> bool:
    """Return whether a tensor of any shape is where the kernels run."""
    return q.is_cuda


@lru_cache(maxsize=64)
def works(device: torch.device, dtype: torch.dtype, dim: int, value_dim: int) -> bool:
    """Return whether the kernels can be used; warn, once, where they cannot.

    Args:
        device: Where they run.
        dtype: Of queries, keys and values.
        dim: Size of a query and of a key.
        value_dim: Size of a value.
    """
    reason = why_not(device, dtype, dim, value_dim)
    if reason is not None:
        warnings.warn(
            "second derivatives of attention, and attention in compiled graphs, are computed by "
            f"PyTorch's operators on this GPU, which is slower: {reason}.",
            stacklevel=2,
        )
    return reason is None


def why_not(device: torch.device, dtype: torch.dtype, dim: int, value_dim: int) -> str | None:
    """Return why the kernels cannot be used; None where they can.

    Args:
        device: Where they run.
        dtype: Of queries, keys and values.
        dim: Size of a query and of a key.
        value_dim: Size of a value.

    Returns:
        The reason in words. To find it the kernels are compiled, which takes seconds.

    Raises:
        OutOfMemoryError: The memory does not suffice for the small case either.
    """
    if max(dim, value_dim) > _MOST_NUMBERS:
        return f"their kernels take heads of {_MOST_NUMBERS} numbers at most"
    if find_spec("triton") is None:
        return "Triton is not installed"
    from triton.runtime.errors import TritonError  # pyright: ignore[reportMissingImports]

    try:
        with torch.inference_mode(False), torch.no_grad():
            error = _largest_error(device, dtype, dim, value_dim)
    except torch.OutOfMemoryError:  # which says nothing of the kernels
        raise
    except (TritonError, RuntimeError, *_WITHOUT_TOOLS) as failure:
        return f"{type(failure).__name__}: {str(failure).strip().partition(chr(10))[0]}"
    allowed = 2e-2 if dtype.itemsize >= 4 else 0.1  # float32 may be multiplied as TF32
    return None if error <= allowed else f"they are off by {error:.2g} on this device"


def _largest_error(device: torch.device, dtype: torch.dtype, dim: int, value_dim: int) -> float:
    """Return the largest error of value, gradient and second derivative, each by its largest."""
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cpu").to(device, dtype)

    q, g, x = draw(1, 2, 40, dim), draw(1, 2, 40, value_dim), draw(1, 2, 40, dim)
    k, y = draw(1, 1, 50, dim), draw(1, 1, 50, dim)
    v, z = draw(1, 1, 50, value_dim), draw(1, 1, 50, value_dim)
    c = draw(1, 2, 40, 1).float()
    inputs = BandInputs(q, k, v, None, None, None, 20, 3, 1, dim**-0.5)
    out, lse = band_launch.value(inputs)
    first = band_launch.gradient(inputs, out, lse, g, c)
    second = band_launch.second(inputs, g, c, (x, y, z))
    expected = _by_definition(inputs, g, c, (x, y, z))
    errors = [
        (a.double() - b).abs().max() / b.abs().max()
        for a, b in zip((out, lse, *first, *second), expected, strict=True)
    ]
    return float(torch.stack(errors).max())


def _by_definition(
    inputs: BandInputs, g: Tensor, c: Tensor, cotangents: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return what `value`, `gradient` and `second` do, in float64, of one head of keys.

    Args:
        inputs: Without lengths and segments.
        g: ``[batch, heads, queries, value_dim]``.
        c: ``[batch, heads, queries, 1]``.
        cotangents: Those of the gradient.
    """
    with torch.enable_grad():
        leaves = [x.double().requires_grad_() for x in (*inputs[:3], g, c)]
        q, k, v, g, c = leaves
        queries = torch.arange(q.shape[2], device=q.device)[:, None] + inputs.offset
        keys = torch.arange(k.shape[2], device=q.device)
        allowed = (keys >= queries - inputs.before) & (keys <= queries + inputs.after)
        scores = (q @ k.transpose(-1, -2) * inputs.scale).masked_fill(~allowed, -torch.inf)
        out, lse = scores.softmax(-1) @ v, scores.logsumexp(-1, keepdim=True)
        total = (out * g).sum() + (lse * c).sum()
        first = torch.autograd.grad(total, [q, k, v], create_graph=True)
        products = (x * y.double() for x, y in zip(first, cotangents, strict=True))
        second = torch.autograd.grad(torch.stack([x.sum() for x in products]).sum(), leaves)
    return tuple(x.detach() for x in (out, lse, *first, *second))
