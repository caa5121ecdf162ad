"""The compiled kernels as the shortcut for a band of dot-product attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.attention.backends.band_shortcut import BandShortcut, has_memory
from regard.attention.backends.cpu_kernels import band, loading
from regard.attention.blockwise.any_order import Operation


class Fused(BandShortcut):
    """Value and first derivative of one band in one call each."""

    far = band.FAR

    @staticmethod
    def takes(tensors: Sequence[Tensor]) -> bool:
        """Return whether the kernels can read these q, k, v, ``[batch, heads, length, dim]``."""
        return loading.load_fastest() is not None and all(
            tensor.device.type == "cpu" and tensor.dtype in band.STORAGE and has_memory(tensor)
            for tensor in tensors[:3]
        )

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and lse ``[.., queries, 1]``."""
        return torch.ops.regard.band_forward(*self.inputs(tensors))

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v, ``[batch, heads, length, dim]`` each."""
        return torch.ops.regard.band_backward(*outputs, *cotangents, *self.inputs(tensors))
