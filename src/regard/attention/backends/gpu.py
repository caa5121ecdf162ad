"""A whole call on a GPU by one kernel; its further derivatives by functions that have them all.

The kernel is PyTorch's own attention (`sdpa.py`), or FlexAttention (`flex/`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.backends import flex
from regard.attention.backends.first_order import differentiate_once
from regard.attention.backends.sdpa import sdpa_attention
from regard.attention.blockwise.combine import blockwise_attention
from regard.attention.dense import AttentionOutput, dense_attention
from regard.attention.dispatch import DENSE_BELOW_KERNELS, AttentionMethod
from regard.attention.nan_propagation import mark_queries
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern
from regard.attention.scores import DotProduct


def attend_on_gpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: MaskPattern,
    options: AttentionOptions,
    method: AttentionMethod,
    returns_lse: bool = False,
) -> AttentionOutput:
    """Compute a call by a kernel for value and gradient.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend.
        options: All else.
        method: `AttentionMethod.SDPA` or `AttentionMethod.FLEX`, which takes the call.
        returns_lse: Compute the log-sum-exp too.

    Returns:
        The output, and the log-sum-exp where it is asked for. Where no kernel can be made, both are
        computed block by block.

    Raises:
        RuntimeError: The kernel fails for another reason, such as lack of memory.
    """
    call = _Call(pattern, options, method, returns_lse)
    tensors = (q, k, v, *options.tensors())
    if torch.compiler.is_compiling():  # a compiled graph has no second derivative
        return AttentionOutput(call(*tensors)[0])
    try:
        outputs = differentiate_once(call, call.to_any_order, *tensors)
    except RuntimeError as error:
        if not call.has_no_kernel(error, *tensors):
            raise
        outputs = call.to_any_order(*tensors)
    return AttentionOutput(outputs[0], lse=outputs[1] if returns_lse else None)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call as functions of its tensors: q, k, v, then those of score and bias."""

    pattern: MaskPattern
    options: AttentionOptions
    method: AttentionMethod
    returns_lse: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute ``[batch, heads, queries, value_dim]`` by a kernel."""
        options = self.options.with_tensors(tensors)
        if self.method is AttentionMethod.SDPA and isinstance(options.score, DotProduct):
            is_causal = self.pattern.terms()[0].after == 0
            return (sdpa_attention(q, k, v, options.score, is_causal=is_causal),)
        return flex.attend(
            q, k, v, pattern=self.pattern, options=options, returns_lse=self.returns_lse
        )

    def to_any_order(self, q: Tensor, k: Tensor, v: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute the same block by block, or few pairs by the definition."""
        options = self.options.with_tensors(tensors)
        if self.method is AttentionMethod.FLEX:
            q = mark_queries(q, k)
        if self.method is AttentionMethod.SDPA and q.shape[2] * k.shape[2] < DENSE_BELOW_KERNELS:
            allowed = self.pattern.allowed(*options.positions(q, k))
            return (dense_attention(q, k, v, mask=allowed, options=options)[0],)
        result = blockwise_attention(
            *(q, k, v), pattern=self.pattern, options=options, return_lse=self.returns_lse
        )
        return (result.out,) if result.lse is None else (result.out, result.lse)

    def has_no_kernel(self, error: RuntimeError, *tensors: Tensor) -> bool:
        """Return whether an error says that no kernel was made, and remember that."""
        if self.method is not AttentionMethod.FLEX:
            return False
        return flex.remember_failure(error, tensors[0], tensors[2], self.options)
