"""Value and first derivative of dot-product attention with the fewest operations.

Saves output and log-sum-exp like FlashAttention (Dao et al. 2022, algorithms 1 and 4), and works in
place on one block of scores at a time. It takes no bias, dropout and soft cap; these, and every
higher derivative, are computed in `blockwise/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regard.attention.blockwise.any_order import Operation
from regard.attention.blockwise.block_attention import BlockAttention
from regard.attention.blockwise.tiling import BlockInputs, BlockSlice, fold_rows, unfold_rows

_LOG2_E = math.log2(math.e)  # exp(x) = 2^(x log2 e), and powers of two are faster to compute


@dataclass(frozen=True)
class FlashBackend:
    """The shortcut for one block function.

    Args:
        function: The block function, which has the masks.
        scale: Factor on the dot products.
    """

    function: BlockAttention
    scale: float

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and lse ``[.., queries, 1]``."""
        return replace(operation, function=_Value(self), fast=None).run(tensors)

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v, ``[batch, heads, length, dim]`` each."""
        backward = Operation(
            shape=operation.shape,
            groups=operation.groups,
            function=_Gradient(self),
            inputs=operation.inputs + operation.outputs + operation.outputs,
            outputs=operation.inputs[:3],
        )
        return backward.run((*tensors, *outputs, *cotangents))

    def mask(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor | None:
        """Return the mask as numbers to add, ``[blocks or 1, rows, keys]``: 0 or minus infinity."""
        mask = self.function.mask(block_slice, inputs)
        if mask is None:
            return None
        q = inputs.q
        dtype = torch.promote_types(q.dtype, torch.float32)
        numbers = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)
        return numbers.expand(-1, q.shape[1], q.shape[2], -1).flatten(1, 2)


@dataclass(eq=False)
class _Workspace:
    """Memory for what is computed of a block, used again for the next one.

    Fresh memory of a few megabytes costs about as much as a product that fills it.
    """

    buffers: dict[tuple[str, torch.dtype], Tensor] = field(default_factory=dict)

    def scores(self, name: str, rows: Tensor, keys: Tensor, *shifts: Tensor | None) -> Tensor:
        """Multiply ``[blocks, rows, dim]`` by ``[blocks, keys, dim]``, plus shifts, float32."""
        scores = self.product(name, rows, keys.transpose(1, 2))
        scores = self.cast(name, scores, torch.promote_types(scores.dtype, torch.float32))
        for shift in shifts:
            if shift is None:
                continue
            if torch._C._are_functorch_transforms_active():  # a shift may be mapped over alone
                scores = scores + shift
            else:
                scores.add_(shift)
        return scores

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """Multiply ``[blocks, n, k]`` by ``[blocks, k, m]`` into the buffer of that name."""
        if torch._C._are_functorch_transforms_active():  # they do not allow `out`
            return torch.bmm(left, right)
        shape = (left.shape[0], left.shape[1], right.shape[2])
        return torch.bmm(left, right, out=self._buffer(name, shape, left))

    def cast(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Cast ``[blocks, n, m]`` into the buffer of that name and type."""
        if tensor.dtype == dtype or torch._C._are_functorch_transforms_active():
            return tensor.to(dtype)
        return self._buffer(name, tuple(tensor.shape), tensor.new_empty(0, dtype=dtype)).copy_(
            tensor
        )

    def _buffer(self, name: str, shape: tuple[int, ...], template: Tensor) -> Tensor:
        key = (name, template.dtype)
        if key not in self.buffers or self.buffers[key].shape != shape:
            self.buffers[key] = template.new_empty(shape)
        return self.buffers[key]


@dataclass(eq=False)
class _Value:
    """The block function of the value."""

    backend: FlashBackend
    workspace: _Workspace = field(default_factory=_Workspace)

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute ``out [blocks, heads, queries, value_dim]`` and ``lse [.., queries, 1]``."""
        inputs = self.backend.function.specs.unflatten(blocks)
        q, v = inputs.q, inputs.v
        rows, keys, values = fold_rows(q), _packed(inputs.k), _packed(v)
        rows = rows * (self.backend.scale * _LOG2_E)
        mask = self.backend.mask(block_slice, inputs)
        scores = self.workspace.scores("scores", rows, keys, mask)
        highest = scores.amax(-1, keepdim=True)
        if mask is not None:  # of a query that sees nothing: no difference of infinities
            highest.masked_fill_(highest == -torch.inf, 0.0)
        weights = scores.sub_(highest).exp2_()
        total = weights.sum(-1, keepdim=True)
        weights = self.workspace.cast("scores", weights, v.dtype)
        out = self.workspace.product("out", weights, values).div_(total)
        if mask is not None:
            out = out.masked_fill_(total == 0, 0.0)
        lse = total.log2_().add_(highest).div_(_LOG2_E)
        return unfold_rows(out, q), unfold_rows(lse, q)


@dataclass(eq=False)
class _Gradient:
    """The block function of the first derivative."""

    backend: FlashBackend
    workspace: _Workspace = field(default_factory=_Workspace)

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v from inputs, outputs and their cotangents.

        ``dV = P^T dO``, ``dS = P * (dO V^T - rowsum(dO * O) + dlse)``, ``dQ = dS K``,
        ``dK = dS^T Q``, dS times the scale.

        Returns:
            ``[blocks, heads, queries, dim]``, and ``[blocks, 1, keys, dim]`` twice.
        """
        scale = self.backend.scale
        inputs = self.backend.function.specs.unflatten(blocks[:-4])
        q = inputs.q
        out, lse, dout, dlse = (fold_rows(block) for block in blocks[-4:])
        rows, keys, values = fold_rows(q) * scale, _packed(inputs.k), _packed(inputs.v)
        mask = self.backend.mask(block_slice, inputs)
        # Where nothing is allowed, 2 to the masked scores less 0 is 0.
        shift = lse.masked_fill(lse == -torch.inf, 0.0) * -_LOG2_E
        weights = self.workspace.scores("weights", rows * _LOG2_E, keys, mask, shift).exp2_()
        delta = dlse - (dout * out).sum(-1, keepdim=True, dtype=lse.dtype)
        ds = self.workspace.scores("ds", dout, values, delta).mul_(weights)
        ds = self.workspace.cast("ds", ds, q.dtype)
        weights = self.workspace.cast("weights", weights, q.dtype)
        dq = self.workspace.product("dq", ds, keys).mul_(scale)
        dk = self.workspace.product("dk", ds.transpose(1, 2), rows)
        dv = self.workspace.product("dv", weights.transpose(1, 2), dout)
        return unfold_rows(dq, q), dk.unsqueeze(1), dv.unsqueeze(1)


def _packed(block: Tensor) -> Tensor:
    """Return ``[blocks, keys, dim]``; in half precision contiguous blocks multiply faster."""
    packed = block.squeeze(1)
    return packed if block.dtype.itemsize >= 4 else packed.contiguous()
