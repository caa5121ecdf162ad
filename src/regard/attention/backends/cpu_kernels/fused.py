"""The compiled kernels as the shortcut for a band of dot-product attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.backends.cpu_kernels import band, loading
from regard.attention.blockwise.any_order import Operation
from regard.attention.blockwise.tiling import BlockInputs, TileSpec


@dataclass(frozen=True)
class Fused:
    """Value and first derivative of one band in one call each.

    Args:
        scale: Factor on the dot products.
        before: The band reaches back to ``j >= i - before``; None without bound.
        after: The band reaches ahead to ``j <= i + after``; None without bound.
        offset: Position of query 0.
        specs: The names of the tensors.
    """

    scale: float
    before: int | None
    after: int | None
    offset: int
    specs: BlockInputs[TileSpec]

    @staticmethod
    def takes(tensors: Sequence[Tensor]) -> bool:
        """Return whether the kernels can read these q, k, v, ``[batch, heads, length, dim]``."""
        return (
            loading.load_fastest() is not None
            and all(
                tensor.device.type == "cpu"
                and tensor.dtype in band.STORAGE
                and type(tensor) in (Tensor, torch.nn.Parameter)
                and torch._C._has_storage(tensor)  # not so within `torch.func` transforms
                for tensor in tensors[:3]
            )
        )

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and lse ``[.., queries, 1]``."""
        return torch.ops.regard.band_forward(*self._inputs(tensors))

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v, ``[batch, heads, length, dim]`` each."""
        return torch.ops.regard.band_backward(*outputs, *cotangents, *self._inputs(tensors))

    def _inputs(self, tensors: Sequence[Tensor]) -> band.BandOperatorInputs:
        """Return what the kernels take, of q, k and v ``[batch, heads, length, dim]`` first."""
        inputs = self.specs.unflatten(tensors)
        return band.BandOperatorInputs(
            q=inputs.q,
            k=inputs.k,
            v=inputs.v,
            lengths=inputs.lengths,
            query_segments=inputs.query_segments,
            key_segments=inputs.key_segments,
            before=band.FAR if self.before is None else self.before,
            after=band.FAR if self.after is None else self.after,
            offset=self.offset,
            scale=self.scale,
        )
