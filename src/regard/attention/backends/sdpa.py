"""PyTorch's own fused attention, for full and causal patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.patterns.mask_algebra import MaskTerm
from regard.attention.scores import DotProduct, dim_scale

if TYPE_CHECKING:  # a step of decoding needs neither
    from regard.attention.blockwise.any_order import Operation
    from regard.attention.options import AttentionOptions

_FEW_PAIRS = 128 * 128  # of a query and a key: cuDNN saves less than its plan takes
_CALLS_BEFORE_PLAN = 64  # of a shape: some steps of a model with several layers
_MOST_SHAPES = 4096
_LONGEST_GRID = 65_535  # along its second and third axis, of any NVIDIA GPU


@dataclass(frozen=True)
class SdpaBackend:
    """Value and first derivative by `scaled_dot_product_attention`.

    Args:
        is_causal: Whether query i sees the keys up to i, or all.
        scale: Factor on the dot products.
    """

    is_causal: bool
    scale: float

    @staticmethod
    def takes(term: MaskTerm, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions) -> bool:
        """Return whether it computes a term alone; q, k, v are ``[batch, heads, length, dim]``."""
        is_square = options.query_offset == 0 and q.shape[2] == k.shape[2]
        return (
            (term == MaskTerm() or (term == MaskTerm(after=0) and is_square))
            and (options.mask is None and options.lengths is None and options.segments is None)
            and q.shape[-1] == v.shape[-1]
            and _has_fused_kernel(q, k)
            # It has no batching rule for `torch.func` transforms.
            and not torch._C._are_functorch_transforms_active()
        )

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute output ``[batch, heads, queries, value_dim]`` and, on a CPU, log-sum-exp."""
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
        with torch.enable_grad():  # [batch, heads, length, dim]
            q, k, v = (tensor.detach().requires_grad_() for tensor in tensors)
            return torch.autograd.grad(self._attend(q, k, v), (q, k, v), cotangents[0])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over ``[batch, heads, length, dim]``; keys may have fewer heads."""
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=self.is_causal, scale=self.scale, enable_gqa=True
        )


def _has_fused_kernel(q: Tensor, k: Tensor) -> bool:
    """Return whether a kernel takes these types and heads: without one, all scores would be held.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
    """
    if q.device.type == "cpu":
        return q.shape[1] == k.shape[1]
    if not fits_grid(q):
        return False  # they end in an error (PyTorch, issue 142228)
    if q.dtype in (torch.bfloat16, torch.float16):
        return True
    return q.shape[1] == k.shape[1] and q.dtype != torch.float64


def fits_grid(q: Tensor) -> bool:
    """Return whether kernels for a GPU that count rows and heads by its grid take them.

    Args:
        q: ``[batch, heads, queries, dim]``.
    """
    return max(q.shape[:2]) <= _LONGEST_GRID


def sdpa_attention(
    q: Tensor, k: Tensor, v: Tensor, score: DotProduct, *, is_causal: bool
) -> Tensor:
    """Compute plain full or causal attention, differentiable once.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, dim]``.
        score: Has the scale.
        is_causal: Whether query i sees the keys up to i, or all.

    Returns:
        ``[batch, heads, queries, dim]``.
    """
    scale = dim_scale(q) if score.scale is None else score.scale
    is_grouped = q.shape[1] != k.shape[1]
    if not (torch.compiler.is_compiling() or _plan_pays(q, k, is_causal=is_causal)):
        return attend_without_plan(q, k, v, is_causal=is_causal, scale=scale, enable_gqa=is_grouped)
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
    )


_calls: Counter[tuple[object, ...]] = Counter()
"""Calls of the last shapes."""


def _plan_pays(q: Tensor, k: Tensor, *, is_causal: bool) -> bool:
    """Return whether cuDNN saves more than its plan takes: a training step's shape that returns.

    A sentence, a prompt or a document has hardly ever the length of the one before.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        is_causal: Whether query i sees the keys up to i, or all.
    """
    is_short = q.shape[2] * k.shape[2] < _FEW_PAIRS
    if is_short or torch.is_inference_mode_enabled() or not q.is_cuda:
        return False
    if torch.are_deterministic_algorithms_enabled():
        return False  # a run that is resumed would count again, and take other kernels
    if len(_calls) > _MOST_SHAPES:
        _calls.clear()
    shape = q.device, q.dtype, q.shape, k.shape, is_causal, torch.is_grad_enabled()
    _calls[shape] += 1
    return _calls[shape] > _CALLS_BEFORE_PLAN


def attend_without_plan(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Compute PyTorch's attention where the next call may have other lengths: without cuDNN.

    On an H100, PyTorch prefers cuDNN from 2.11 on, which makes a plan for each new shape: 30 ms of
    the processor and up to half a second, where a step of decoding takes a few milliseconds.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, dim]``.
        **options: Those of ``scaled_dot_product_attention``.

    Returns:
        ``[batch, heads, queries, dim]``.
    """
    if not (q.is_cuda and torch.backends.cuda.cudnn_sdp_enabled()):
        return F.scaled_dot_product_attention(q, k, v, **options)
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        return F.scaled_dot_product_attention(q, k, v, **options)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)
