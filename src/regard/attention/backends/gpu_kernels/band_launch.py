"""Launches of the Triton kernels: value, gradient and second derivative of a band, by tensors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from regard.attention.backends.band_shortcut import BandInputs

FAR = 1 << 29
"""The reach of a band without bound; sums with positions stay within 32 bits."""
_LARGEST_TILE = 64  # queries


def value(inputs: BandInputs) -> tuple[Tensor, Tensor]:
    """Compute the output and the log-sum-exp, float32, ``[batch, heads, queries, dim or 1]``."""
    q, v = inputs.q, inputs.v
    out = _empty_like(q, v.shape[-1], v.dtype)
    lse = q.new_empty((*q.shape[:3], 1), dtype=torch.float32)
    launch = _Launch(inputs)
    launch.for_queries("value", launch.heads(q, inputs.k, v), *launch.heads(out), lse)
    return out, lse


def gradient(
    inputs: BandInputs, out: Tensor, lse: Tensor, g: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the cotangents of q, k and v.

    Args:
        inputs: Of the value.
        out: The output, ``[batch, heads, queries, value_dim]``.
        lse: The log-sum-exp, ``[batch, heads, queries, 1]``.
        g: Cotangent of the output.
        c: Cotangent of the log-sum-exp.

    Returns:
        ``[batch, heads or kv_heads, length, dim]`` each.
    """
    q, k, v = inputs.q, inputs.k, inputs.v
    dq, dk, dv = (_empty_like(x, x.shape[-1], x.dtype) for x in (q, k, v))
    launch = _Launch(inputs)
    rows = launch.rows(_finite_log2(lse), c - _row_products(g, out))
    views = launch.heads(q, k, v, g.to(q.dtype))
    launch.for_queries("gradient_of_queries", views, rows, *launch.heads(dq))
    launch.for_keys("gradient_of_keys", views, rows, *launch.heads(dk, dv))
    return dq, dk, dv


def second(
    inputs: BandInputs, g: Tensor, c: Tensor, cotangents: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the cotangents of what the gradient is computed of.

    Args:
        inputs: Of the value.
        g: Cotangent of the output, ``[batch, heads, queries, value_dim]``.
        c: Cotangent of the log-sum-exp, ``[batch, heads, queries, 1]``.
        cotangents: Those of dq, dk and dv, of their shapes.

    Returns:
        Those of q, k, v, g and c.
    """
    q, k, v = inputs.q, inputs.k, inputs.v
    out, lse = value(inputs)
    mean = _row_products(g, out)
    of_q, of_k, of_v, of_g = (_empty_like(x, x.shape[-1], x.dtype) for x in (q, k, v, g))
    launch = _Launch(inputs, is_second=True)
    x, y, z = (cotangent.to(q.dtype) for cotangent in cotangents)
    views = launch.heads(q, k, v, g.to(q.dtype), x, y, z)
    lse, shift, mean = launch.rows(_finite_log2(lse), c - mean, mean)
    a, f = torch.empty_like(shift), torch.empty_like(shift)
    launch.for_queries(
        "second_of_queries", views, (lse, shift, mean), (*launch.heads(of_q, of_g), a, f)
    )
    launch.for_keys("second_of_keys", views, (lse, shift, a, f), launch.heads(of_k, of_v))
    return of_q, of_k, of_v, of_g, a[:, :, : q.shape[2]].to(c.dtype)


class Tiles(NamedTuple):
    """Sizes of a program.

    Args:
        held: Queries or keys that a program computes.
        read: Keys or queries that it reads at once.
        num_warps: Groups of 32 threads.
    """

    held: int
    read: int
    num_warps: int


class _Launch:
    """What the launches of one call share; `is_second` where they are of a second derivative."""

    def __init__(self, inputs: BandInputs, *, is_second: bool = False) -> None:
        # Triton is there on machines with a GPU, and is imported when it is first needed.
        from regard.attention.backends.gpu_kernels import kernels

        self._kernels = kernels
        q, k, v = inputs.q, inputs.k, inputs.v
        self._like = q
        self._batch, self._heads, queries, dim = q.shape
        self._kv_heads, keys, value_dim = k.shape[1], k.shape[2], v.shape[3]
        segments = (inputs.query_segments, inputs.key_segments)
        of_queries, of_keys = (
            None if numbers is None else numbers[:, 0, :, 0].long().contiguous()
            for numbers in segments
        )
        self._band = kernels.Band(
            queries=queries,
            whole_queries=-(-queries // _LARGEST_TILE) * _LARGEST_TILE,
            keys=keys,
            before=min(inputs.before, queries + inputs.offset),
            after=min(inputs.after, keys),
            offset=inputs.offset,
            lengths=None if inputs.lengths is None else inputs.lengths.long().contiguous(),
            query_segments=of_queries,
            key_segments=of_keys,
        )
        self._scale = inputs.scale
        self._dims = (dim, value_dim, _padded(dim), _padded(value_dim))
        # Also where the older setting was made, which refuses to be read after this one.
        precision = torch.backends.cuda.matmul.fp32_precision
        self._precision = "tf32" if precision == "tf32" else "ieee"
        self._tiles = _tiles(
            max(self._dims[2:]),
            q.dtype,
            multiplies_exactly=q.dtype.itemsize == 4 and self._precision == "ieee",
            is_second=is_second,
        )

    def heads(self, *tensors: Tensor) -> tuple[Any, ...]:
        """Return ``[batch, heads, length, dim]`` as the kernels take them."""
        readable = (x if x.stride(-1) == 1 else x.contiguous() for x in tensors)
        return tuple(self._kernels.Heads(x, *x.stride()[:3]) for x in readable)

    def rows(self, *numbers: Tensor) -> tuple[Tensor, ...]:
        """Return ``[batch, heads, queries, 1]`` with zeros for the rest of the last tile."""
        padding = (0, 0, 0, self._band.whole_queries - self._band.queries)
        return tuple(functional.pad(row, padding).contiguous() for row in numbers)

    def for_queries(self, name: str, *arguments: Any) -> None:
        """Launch a program for each tile of queries of each head."""
        held, read, _ = self._tiles
        num_programs = -(-self._band.queries // held) * self._batch * self._heads
        self._run(name, num_programs, (held, read), arguments)

    def for_keys(self, name: str, *arguments: Any) -> None:
        """Launch a program for each tile of keys of each head of keys."""
        held, read, _ = self._tiles
        num_programs = -(-self._band.keys // held) * self._batch * self._kv_heads
        self._run(name, num_programs, (read, held), arguments)

    def _run(
        self, name: str, num_programs: int, tile: tuple[int, int], arguments: tuple[Any, ...]
    ) -> None:
        """Launch a kernel with tiles of some queries and keys."""
        with torch.cuda.device_of(self._like):
            getattr(self._kernels, name)[num_programs,](
                *arguments,
                self._band,
                self._scale,
                self._heads,
                self._heads // self._kv_heads,
                DIMS=self._dims,
                TILE=tile,
                SKIPS=skips_masks(self._like.device),
                PRECISION=self._precision,
                num_warps=self._tiles.num_warps,
                num_stages=2,
            )


def skips_masks(device: torch.device) -> bool:
    """Return whether tiles without a hidden pair skip their mask: from compute capability 9.0 on.

    On earlier chips the compiler keeps more for both ways than the registers hold.
    """
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= 9


def _padded(dim: int) -> int:
    """Return the power of two, 16 or more, to which the kernels pad a dimension."""
    return max(16, 1 << (dim - 1).bit_length())


def _tiles(dim: int, dtype: torch.dtype, *, multiplies_exactly: bool, is_second: bool) -> Tiles:
    """Return the tiles that fit into the registers, and 99 KiB of shared memory.

    Every chip from compute capability 8.0 on has as much. The compiler writes what the registers do
    not hold to memory: of larger tiles up to 14 kB a thread, of these at most some 300 bytes.

    Args:
        dim: Padded size of a query or a value, the larger one.
        dtype: Of both.
        multiplies_exactly: Whether float32 is multiplied as such, not by tensor cores: each thread
            then holds whole rows, of which twice as many threads hold fewer.
        is_second: Whether two more tensors of queries and of keys are read, and two are computed.
    """
    wide = dim * dtype.itemsize
    size = _LARGEST_TILE if wide <= 128 else 32 if wide <= 256 else 16
    if multiplies_exactly:
        size = min(size, 32)
    read = max(16, size // 2) if is_second else size
    return Tiles(size, read, num_warps=8 if multiplies_exactly else 4)


def _finite_log2(lse: Tensor) -> Tensor:
    """Return log-sum-exps to base 2; 0 for a query that sees nothing, whose weights are masked."""
    return torch.where(lse == -math.inf, 0.0, lse * math.log2(math.e))


def _row_products(left: Tensor, right: Tensor) -> Tensor:
    """Multiply ``[batch, heads, queries, dim]`` row by row, into float32 ``[.., queries, 1]``."""
    return (left.float() * right.float()).sum(-1, keepdim=True)


def _empty_like(tensor: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return an empty ``[batch, heads, length, dim]`` in the order of axes of another tensor."""
    batch, heads, length, _ = tensor.shape
    if tensor.stride(1) < tensor.stride(2):
        return tensor.new_empty((batch, length, heads, dim), dtype=dtype).transpose(1, 2)
    return tensor.new_empty((batch, heads, length, dim), dtype=dtype)
