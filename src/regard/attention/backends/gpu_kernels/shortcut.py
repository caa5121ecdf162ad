"""The Triton kernels as shortcuts of a band of dot-product attention, up to its second derivative.

Third and higher derivatives are computed block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.attention.backends.band_shortcut import BandShortcut, has_memory
from regard.attention.backends.gpu_kernels import applicability, band_launch
from regard.attention.blockwise.any_order import Operation

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class BandKernels(BandShortcut):
    """Value and first derivative of one band."""

    far = band_launch.FAR

    @staticmethod
    def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Return whether the kernels read these, ``[batch, heads or kv_heads, length, dim]``."""
        return (
            applicability.is_on_gpu(q)
            and q.dtype in _DTYPES
            and all(map(has_memory, (q, k, v)))
            and applicability.works(q.device, q.dtype, q.shape[-1], v.shape[-1])
        )

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and lse ``[.., queries, 1]``."""
        if not all(map(has_memory, tensors)):
            return operation.run(tensors)
        return band_launch.value(self.inputs(tensors))

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v, ``[batch, heads, length, dim]`` each."""
        if not all(map(has_memory, (*tensors, *cotangents))):
            return _pull_back(operation, (0, 1, 2), tensors, cotangents)
        out, lse = outputs
        g, c = cotangents
        return band_launch.gradient(self.inputs(tensors), out, lse, g, c)

    def vjp(self, indices: tuple[int, ...]) -> BandGradientKernels:
        """Return the shortcut of the cotangents of some of q, k and v."""
        return BandGradientKernels(self, indices)


def _pull_back(
    operation: Operation,
    indices: tuple[int, ...],
    tensors: Sequence[Tensor],
    cotangents: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Compute the cotangents of some inputs, of any shape, block by block, also of batches."""
    return replace(operation, fast=None).vjp(indices).run((*tensors, *cotangents))


@dataclass(frozen=True)
class BandGradientKernels:
    """The gradient of a band and its first derivative; its inputs end with g and c.

    Args:
        value: What it is the gradient of.
        indices: Which of 0 (q), 1 (k) and 2 (v) it computes the cotangents of, in order.
    """

    value: BandKernels
    indices: tuple[int, ...]

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute cotangents, ``[batch, heads or kv_heads, length, dim]``."""
        if not all(map(has_memory, tensors)):
            return operation.run(tensors)
        inputs = self.value.inputs(tensors[:-2])
        out, lse = band_launch.value(inputs)
        g, c = tensors[-2:]
        gradients = band_launch.gradient(inputs, out, lse, g, c)
        return tuple(gradients[i] for i in self.indices)

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:
        """Compute the cotangents of q, k and v, then of others None, and last of g and c."""
        count, of_others = len(tensors), [None] * (len(tensors) - 5)
        if not all(map(has_memory, (*tensors, *cotangents))):
            indices = (0, 1, 2, count - 2, count - 1)
            *of_qkv, of_g, of_c = _pull_back(operation, indices, tensors, cotangents)
            return *of_qkv, *of_others, of_g, of_c
        by_index = dict(zip(self.indices, cotangents, strict=True))
        x, y, z = (by_index.get(i, torch.zeros_like(tensors[i])) for i in range(3))
        inputs = self.value.inputs(tensors[:-2])
        g, c = tensors[-2:]
        *of_qkv, of_g, of_c = band_launch.second(inputs, g, c, (x, y, z))
        return *of_qkv, *of_others, of_g, of_c
