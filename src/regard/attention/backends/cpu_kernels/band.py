"""The kernels of band.cpp as operators of PyTorch: tensors in, tensors out, without derivatives.

Operators take tensors that are traced or batched (``is_grads_batched`` of ``torch.autograd.grad``),
which a bare call of a kernel does not.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from regard.attention.backends.band_shortcut import BandInputs
from regard.attention.backends.cpu_kernels import loading
from regard.attention.options import number_segments

STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
"""Types that the kernels read and write, with their numbers in band.h."""

FAR = 1 << 40
"""The reach of a band without bound: more than any position."""

_Strides = ctypes.c_int64 * 3


class _Band(ctypes.Structure):
    """The `Band` of band.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("dim", "value_dim", "before", "after", "offset")),
        *((name, ctypes.c_int64) for name in ("storage", "num_threads")),
        ("scale", ctypes.c_double),
        *((f"{name}_strides", _Strides) for name in ("q", "k", "v", "out")),
        *((f"{name}_strides", _Strides) for name in ("dout", "dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "lse")),
        *((name, ctypes.c_void_p) for name in ("lengths", "query_segments", "key_segments")),
        *((name, ctypes.c_void_p) for name in ("dout", "dlse", "dq", "dk", "dv")),
    )


class _Call:
    """One call of a kernel: its inputs and outputs, kept alive until it is done."""

    def __init__(self, inputs: BandInputs) -> None:
        q, k, v = inputs.q, inputs.k, inputs.v
        self.wide = torch.promote_types(q.dtype, torch.float32)
        self._band = _Band(
            batch=q.shape[0],
            heads=q.shape[1],
            kv_heads=k.shape[1],
            queries=q.shape[2],
            keys=k.shape[2],
            dim=q.shape[3],
            value_dim=v.shape[3],
            before=inputs.before,
            after=inputs.after,
            offset=inputs.offset,
            storage=STORAGE[q.dtype],
            num_threads=torch.get_num_threads(),
            scale=inputs.scale,
        )
        self._alive: list[Tensor] = []
        self.set_heads(q=q, k=k, v=v)
        if inputs.lengths is not None:
            self.set_contiguous(lengths=inputs.lengths.to(torch.int64))
        if inputs.query_segments is not None and inputs.key_segments is not None:
            integer = torch.int64 if self.wide == torch.float64 else torch.int32
            segments = (inputs.query_segments[:, 0, :, 0], inputs.key_segments[:, 0, :, 0])
            narrow = tuple(numbers.to(integer) for numbers in segments)
            is_exact = (
                torch.equal(x.long(), y.long()) for x, y in zip(narrow, segments, strict=True)
            )
            if not all(is_exact):  # some need more than 32 bits
                narrow = tuple(numbers.to(integer) for numbers in number_segments(*segments))
            self.set_contiguous(query_segments=narrow[0], key_segments=narrow[1])

    def set_contiguous(self, **tensors: Tensor) -> None:
        """Set fields of the `Band` to tensors, made contiguous."""
        for name, tensor in tensors.items():
            readable = tensor.contiguous()
            self._alive.append(readable)
            setattr(self._band, name, readable.data_ptr())

    def set_heads(self, **tensors: Tensor) -> None:
        """Set fields to ``[batch, heads, length, dim]``, in any order of the first three axes."""
        for name, tensor in tensors.items():
            readable = tensor if tensor.stride(-1) == 1 else tensor.contiguous()
            self._alive.append(readable)
            setattr(self._band, name, readable.data_ptr())
            setattr(self._band, f"{name}_strides", _Strides(*readable.stride()[:3]))

    def run(self, name: str) -> None:
        """Run a kernel."""
        if getattr(loading.load_fastest(), name)(ctypes.byref(self._band)) != 0:
            raise MemoryError("attention: no memory for the tiles of its threads")


def _forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs = BandInputs(*arguments)
    call, q, v = _Call(inputs), inputs.q, inputs.v
    out = _empty_like(q, v.shape[-1], v.dtype)
    lse = torch.empty((*q.shape[:3], 1), dtype=call.wide, device="cpu")
    call.set_heads(out=out)
    call.set_contiguous(lse=lse)
    call.run("regard_band_forward")
    return out, lse  # [batch, heads, queries, value_dim], [batch, heads, queries, 1]


def _backward(
    out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = BandInputs(*arguments)
    call, q, k, v = _Call(inputs), inputs.q, inputs.k, inputs.v
    dq = _empty_like(q, q.shape[-1], q.dtype)
    dk, dv = (_empty_like(tensor, tensor.shape[-1], call.wide) for tensor in (k, v))
    call.set_heads(out=out, dout=dout, dq=dq, dk=dk, dv=dv)
    call.set_contiguous(lse=lse, dlse=dlse)
    call.run("regard_band_backward")
    return dq, dk.to(k.dtype), dv.to(v.dtype)  # [batch, heads or kv_heads, length, dim]


def _empty_like(tensor: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return an empty ``[batch, heads, length, dim]`` in the order of axes of another tensor.

    What a projection gave as ``[batch, length, heads, dim]`` is then returned without a copy.
    """
    batch, heads, length, _ = tensor.shape
    if tensor.stride(1) < tensor.stride(2):
        strides = (length * heads * dim, dim, heads * dim, 1)
    else:
        strides = (heads * length * dim, length * dim, dim, 1)
    return torch.empty_strided((batch, heads, length, dim), strides, dtype=dtype, device="cpu")


_SCHEMA = (
    "Tensor q, Tensor k, Tensor v, Tensor? lengths, Tensor? query_segments, Tensor? key_segments, "
    "int before, int after, int offset, float scale"
)
_operators = torch.library.Library("regard", "FRAGMENT")
_operators.define(f"band_forward({_SCHEMA}) -> (Tensor, Tensor)")
_operators.define(
    "band_backward(Tensor out, Tensor lse, Tensor dout, Tensor dlse, "
    f"{_SCHEMA}) -> (Tensor, Tensor, Tensor)"
)
_operators.impl("band_forward", _forward, "CPU")
_operators.impl("band_backward", _backward, "CPU")
