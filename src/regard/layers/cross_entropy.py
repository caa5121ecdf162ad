"""Linear map and cross-entropy in one step, without ever holding all logits.

The logits of a batch are by far the largest tensor of a small Transformer, and their softmax
with its backward pass costs as much as the matrix products. Here rows are taken in chunks that stay
in cache, and the gradient is formed in the same pass as the value (the idea of Liger Kernel, Hsu
et al. 2024, and of Cut Cross-Entropy, Wijmans et al. 2024). Label smoothing after Szegedy et al.
2016: the target distribution is ``(1 - epsilon) onehot + epsilon / vocab``.

Cost: three matrix products of rows x dim x vocab; memory of one chunk of logits. Every derivative
of any order exists: above the first order the gradient is formed again from differentiable
operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 22  # 8 MB of bfloat16 logits: within the last-level cache


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Compute the mean cross-entropy of ``hidden weight^T`` against the targets.

    Args:
        hidden: ``[rows, dim]``, floating point; the products are computed in its type.
        weight: ``[vocab, dim]``, floating point.
        targets: ``[rows]`` class indices.
        label_smoothing: epsilon, 0 to below 1.

    Returns:
        The loss in nats per row with smoothing (differentiable), and without smoothing (a plain
        measurement, not differentiable); scalars of float32 at least.
    """
    loss, plain, _, _ = _LinearCrossEntropy.apply(hidden, weight, targets, label_smoothing)
    return loss, plain


def _log_loss(logits: Tensor, probabilities: Tensor, target: Tensor, at_target: Tensor) -> Tensor:
    """Compute the cross-entropy of rows, ``[rows, 1]``, from their softmax where it is exact."""
    at_probability = probabilities.gather(1, target)
    if bool((at_probability >= torch.finfo(probabilities.dtype).tiny).all()):
        return -at_probability.to(at_target.dtype).log()
    # A probability this small is rounded, at last to 0; the largest of a row never is.
    highest, index = logits.max(-1, keepdim=True)
    log_sum = highest.to(at_target.dtype) - probabilities.gather(1, index).to(at_target.dtype).log()
    return log_sum - at_target


def _gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Compute the gradients by differentiable operations, all logits ``[rows, vocab]`` at once."""
    rows, vocab = len(hidden), len(weight)
    weight_used = weight.to(hidden.dtype)
    probabilities = (hidden @ weight_used.T).softmax(-1)
    one_hot = torch.nn.functional.one_hot(targets, vocab).to(hidden.dtype)
    residual = (probabilities - (1 - smoothing) * one_hot - smoothing / vocab) / rows
    return residual @ weight_used, (residual.T @ hidden).to(weight.dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """Value and first-order gradient in one chunked pass; see the module's docstring."""

    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, vocab = len(hidden), len(weight)
        weight_used = weight.to(hidden.dtype)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        mean_weight = weight.to(exact).mean(0)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        plain = torch.zeros_like(loss)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight)
        chunk = max(1, _CHUNK_ELEMENTS // vocab)
        for start in range(0, rows, chunk):
            part = hidden[start : start + chunk]
            target = targets[start : start + chunk, None]
            logits = part @ weight_used.T  # [chunk, vocab]
            at_target = logits.gather(1, target).to(exact)
            residual = logits.softmax(-1)
            nll = _log_loss(logits, residual, target, at_target)
            plain += nll.sum()
            if smoothing:
                uniform = at_target + nll - (part.to(exact) @ mean_weight)[:, None]
                loss += (1 - smoothing) * nll.sum() + smoothing * uniform.sum()
            residual.scatter_add_(1, target, residual.new_full(target.shape, smoothing - 1))
            grad_hidden[start : start + chunk] = residual @ weight_used
            grad_weight += residual.T @ part
        if smoothing:
            grad_hidden -= (smoothing * mean_weight).to(hidden.dtype)
            grad_weight -= (smoothing / vocab) * hidden.sum(0, dtype=exact).to(weight.dtype)
        loss = loss if smoothing else plain.clone()
        return loss / rows, plain / rows, grad_hidden.div_(rows), grad_weight.div_(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        hidden, weight, targets, ctx.smoothing = inputs
        _, plain, grad_hidden, grad_weight = output
        ctx.mark_non_differentiable(plain, grad_hidden, grad_weight)
        ctx.save_for_backward(hidden, weight, targets, grad_hidden, grad_weight)
        ctx.save_for_forward(hidden, weight, targets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets, grad_hidden, grad_weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            grad_hidden, grad_weight = _gradients(hidden, weight, targets, ctx.smoothing)
        scale = grads[0]
        return grad_hidden * scale.to(hidden.dtype), grad_weight * scale, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        grad_hidden, grad_weight = _gradients(hidden, weight, targets, ctx.smoothing)
        tangent = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        if tangents[0] is not None:
            tangent = tangent + (grad_hidden * tangents[0]).sum()
        if tangents[1] is not None:
            tangent = tangent + (grad_weight * tangents[1]).sum()
        return tangent, None, None, None
