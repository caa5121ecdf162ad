"""PyTorch's own fused attention, as the shortcut for the patterns it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.blockwise.any_order import Operation


@dataclass(frozen=True)
class SdpaBackend:
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
            lse = lse.unsqueeze(-1).clone()  # forward-mode derivatives take no view
        else:
            out, lse = self._attend(q, k, v), q.new_zeros((*q.shape[:3], 1))
        return out, lse

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
