"""Value and first derivative of dot-product attention with the fewest operations.

Saves output and log-sum-exp, as FlashAttention (Dao et al. 2022, algorithms 1 and 4), and works in
place on one block of scores at a time. Needs neither bias nor dropout nor soft cap; all else, and
every higher derivative, is `blockwise.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.block import NOTHING, BlockAttention
from regard.attention.blockwise import Operation
from regard.attention.roles import Place

_LOG2_E = math.log2(math.e)  # exp(x) = 2^(x log2 e), and powers of two are faster to compute


@dataclass(frozen=True)
class FirstOrder:
    """The shortcut for one block function.

    Args:
        function: Whose masks apply.
        scale: Factor on the dot products.
    """

    function: BlockAttention
    scale: float

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and lse ``[.., queries, 1]``."""
        return replace(operation, function=self._forward, fast=None).run(tensors)

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v."""
        backward = Operation(
            layout=operation.layout,
            groups=operation.groups,
            function=self._backward,
            inputs=operation.inputs + operation.outputs + operation.outputs,
            outputs=operation.inputs[:3],
        )
        return backward.run((*tensors, *outputs, *cotangents))

    def _forward(self, place: Place, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute ``out [blocks, heads, queries, value_dim]`` and ``lse [.., queries, 1]``."""
        q, k, v, *others = blocks
        rows, keys, values = _rows(q) * (self.scale * _LOG2_E), k.squeeze(1), v.squeeze(1)
        mask = self._mask(place, others, q)
        scores = self._scores(rows, keys, mask)
        highest = scores.amax(-1, keepdim=True)
        weights = scores.sub_(highest).exp2_()
        total = weights.sum(-1, keepdim=True)
        out = torch.bmm(weights.to(v.dtype), values).div_(total)
        lse = total.log2_().add_(highest).div_(_LOG2_E)
        if mask is not None:
            sees_nothing = lse < NOTHING / 2
            out = out.masked_fill_(sees_nothing, 0.0)
            lse = lse.masked_fill_(sees_nothing, NOTHING)
        return _blocks(out, q), _blocks(lse, q)

    def _backward(self, place: Place, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v from inputs, outputs and their cotangents.

        ``dV = P^T dO``, ``dS = P * (dO V^T - rowsum(dO * O) + dlse)``, ``dQ = dS K``,
        ``dK = dS^T Q``, dS times the scale.
        """
        q, k, v, *others = blocks[:-4]
        out, lse, dout, dlse = (_rows(block) for block in blocks[-4:])
        rows, keys, values = _rows(q), k.squeeze(1), v.squeeze(1)
        mask = self._mask(place, others, q)
        # Where nothing is allowed, 2 to the masked scores less 0 is 0.
        shift = lse.masked_fill(lse == NOTHING, 0.0) * -_LOG2_E
        shift = shift if mask is None else mask + shift
        weights = self._scores(rows * (self.scale * _LOG2_E), keys, shift).exp2_()
        delta = dlse - (dout * out).sum(-1, keepdim=True, dtype=lse.dtype)
        ds = self._scores(dout, values, delta).mul_(weights).to(q.dtype)
        dq = torch.bmm(ds, keys).mul_(self.scale)
        dk = torch.bmm(ds.transpose(1, 2), rows).mul_(self.scale)
        dv = torch.bmm(weights.to(q.dtype).transpose(1, 2), dout)
        return _blocks(dq, q), dk.unsqueeze(1), dv.unsqueeze(1)

    @staticmethod
    def _scores(rows: Tensor, keys: Tensor, shift: Tensor | None) -> Tensor:
        """Multiply ``[blocks, rows, dim]`` by ``[blocks, keys, dim]``, plus a shift, float32."""
        transposed = keys.transpose(1, 2)
        if shift is None:
            scores = torch.bmm(rows, transposed)
            return scores.to(torch.promote_types(scores.dtype, torch.float32))
        shape = (rows.shape[0], rows.shape[1], keys.shape[1])
        if rows.dtype == shift.dtype:
            return torch.baddbmm(shift.expand(shape), rows, transposed)
        return torch.bmm(rows, transposed).to(shift.dtype).add_(shift)

    def _mask(self, place: Place, others: list[Tensor], q: Tensor) -> Tensor | None:
        """Lay the mask out as numbers to add, ``[blocks or 1, rows, keys]``: 0, or NOTHING."""
        mask = self.function.mask(place, others)
        if mask is None:
            return None
        dtype = torch.promote_types(q.dtype, torch.float32)
        numbers = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, NOTHING)
        return numbers.expand(-1, q.shape[1], q.shape[2], -1).flatten(1, 2)


@dataclass(frozen=True)
class Library:
    """PyTorch's own fused attention, for full and causal patterns without anything else.

    Args:
        is_causal: Whether query i sees the keys up to i, or all.
        scale: Factor on the dot products.
    """

    is_causal: bool
    scale: float

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the output; the second one is what the library wants back on a CPU."""
        q, k, v = tensors
        if q.device.type == "cpu":
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, self.is_causal, scale=self.scale
            )
            return out, lse.unsqueeze(-1)
        return self._attend(q, k, v), q.new_zeros((*q.shape[:3], 1))

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of q, k and v; off the CPU the value is computed again."""
        out, lse = outputs
        if out.device.type == "cpu":
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                cotangents[0],
                *tensors,
                out,
                lse.squeeze(-1),
                0.0,
                self.is_causal,
                scale=self.scale,
            )
        with torch.enable_grad():
            q, k, v = (tensor.detach().requires_grad_() for tensor in tensors)
            return torch.autograd.grad(self._attend(q, k, v), (q, k, v), cotangents[0])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=self.is_causal, scale=self.scale, enable_gqa=True
        )


def _rows(block: Tensor) -> Tensor:
    """Fold the heads that share keys into the rows: ``[blocks, heads * queries, dim]``."""
    return block.flatten(1, 2)


def _blocks(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `_rows`: ``[blocks, heads, queries, dim]``."""
    return rows.unflatten(1, like.shape[1:3])
