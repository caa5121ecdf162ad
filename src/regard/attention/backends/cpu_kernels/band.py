"""The kernels of band.cpp as operators of PyTorch: tensors in, tensors out, without derivatives.

As operators they are known to what traces, batches or fakes tensors, which a bare call is not.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.attention.backends.cpu_kernels import loading

STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
"""Types that the kernels read and write, with their numbers in band.h."""

FAR = 1 << 40
"""The reach of a band without bound: further than any position."""

_Strides = ctypes.c_int64 * 3


class _Inputs(NamedTuple):
    """What both operators take, in this order.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        lengths: Valid keys of each row, ``[batch]``.
        query_segments: ``[batch, 1, queries, 1]``.
        key_segments: ``[batch, 1, keys, 1]``.
        before: Keys that are seen before a query.
        after: Keys that are seen after it.
        offset: Position of query 0.
        scale: Factor on the dot products.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: Tensor | None
    query_segments: Tensor | None
    key_segments: Tensor | None
    before: int
    after: int
    offset: int
    scale: float


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
    """One call of a kernel: what it reads and writes, kept alive until it is done."""

    def __init__(self, given: _Inputs) -> None:
        q, k, v = given.q, given.k, given.v
        self.wide = torch.promote_types(q.dtype, torch.float32)
        self._band = _Band(
            batch=q.shape[0],
            heads=q.shape[1],
            kv_heads=k.shape[1],
            queries=q.shape[2],
            keys=k.shape[2],
            dim=q.shape[3],
            value_dim=v.shape[3],
            before=given.before,
            after=given.after,
            offset=given.offset,
            storage=STORAGE[q.dtype],
            num_threads=torch.get_num_threads(),
            scale=given.scale,
        )
        self._kept: list[Tensor] = []
        self.put_heads(q=q, k=k, v=v)
        integer = torch.int64 if self.wide == torch.float64 else torch.int32
        self._put_integers("lengths", given.lengths, torch.int64)
        self._put_integers("query_segments", given.query_segments, integer)
        self._put_integers("key_segments", given.key_segments, integer)

    def _put_integers(self, name: str, tensor: Tensor | None, dtype: torch.dtype) -> None:
        if tensor is not None:
            self.put(**{name: tensor.to(dtype)})

    def put(self, **tensors: Tensor) -> None:
        """Give tensors by the names of their fields, their numbers side by side."""
        for name, tensor in tensors.items():
            self._give(name, tensor.contiguous())

    def put_heads(self, **tensors: Tensor) -> None:
        """Give tensors ``[batch, heads, length, dim]``, in any order of the first three axes."""
        for name, tensor in tensors.items():
            readable = tensor if tensor.stride(-1) == 1 else tensor.contiguous()
            self._give(name, readable)
            setattr(self._band, f"{name}_strides", _Strides(*readable.stride()[:3]))

    def _give(self, name: str, tensor: Tensor) -> None:
        self._kept.append(tensor)
        setattr(self._band, name, tensor.data_ptr())

    def run(self, name: str) -> None:
        """Run a kernel."""
        if getattr(loading.load_fastest(), name)(ctypes.byref(self._band)) != 0:
            raise MemoryError("attention: no memory for the tiles of its threads")


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    given = _Inputs(*inputs)
    call, q, v = _Call(given), given.q, given.v
    out = _laid_out_as(q, v.shape[-1], v.dtype)
    lse = torch.empty((*q.shape[:3], 1), dtype=call.wide)
    call.put_heads(out=out)
    call.put(lse=lse)
    call.run("regard_band_forward")
    return out, lse


def _backward(
    out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor]:
    given = _Inputs(*inputs)
    call, q, k, v = _Call(given), given.q, given.k, given.v
    dq = _laid_out_as(q, q.shape[-1], q.dtype)
    dk, dv = (_laid_out_as(tensor, tensor.shape[-1], call.wide) for tensor in (k, v))
    call.put_heads(out=out, dout=dout, dq=dq, dk=dk, dv=dv)
    call.put(lse=lse, dlse=dlse)
    call.run("regard_band_backward")
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _laid_out_as(like: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Make room for ``[batch, heads, length, dim]`` in the order of axes of another tensor.

    What projections gave as ``[batch, length, heads, dim]`` is then taken back without a copy.
    """
    batch, heads, length, _ = like.shape
    if like.stride(1) < like.stride(2):
        strides = (length * heads * dim, dim, heads * dim, 1)
    else:
        strides = (heads * length * dim, length * dim, dim, 1)
    return torch.empty_strided((batch, heads, length, dim), strides, dtype=dtype)


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
