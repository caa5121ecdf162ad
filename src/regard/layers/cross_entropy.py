"""Linear map and cross-entropy in one step, without ever holding all logits.

The logits of a batch are by far the largest tensor of a small Transformer, and their softmax
with its backward pass costs as much as the matrix products. Here rows are taken in chunks that stay
in cache, and the gradient is formed in the same pass as the value (the idea of Liger Kernel, Hsu
et al. 2024, and of Cut Cross-Entropy, Wijmans et al. 2024). Label smoothing after Szegedy et al.
2016: the target distribution is ``(1 - epsilon) onehot + epsilon / vocab``.

A model that copies (See, Liu & Manning 2017, equation 9) needs of its logits only the probability
of the label, to which the probability of copying the label is added: `mixture_cross_entropy`.

Cost: three matrix products of rows x dim x vocab; memory of one chunk of logits. Every derivative
of any order exists: above the first order the gradient is formed again from differentiable
operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError

_CHUNK_ELEMENTS = 1 << 22  # 8 MB of bfloat16 logits: within the last-level cache
_DEVICE_ELEMENTS = 1 << 27  # 256 MB of them on a GPU: few kernels, which are large


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

    Raises:
        ShapeError: The shapes do not fit each other.
        ConfigError: `label_smoothing` is out of range.
    """
    _check_arguments(hidden, weight, targets, label_smoothing)
    loss, plain, *_ = _LinearCrossEntropy.apply(
        hidden, weight, targets, label_smoothing, None, None
    )
    return loss, plain


def mixture_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    log_generate: Tensor,
    log_copy: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute the mean of ``-log(g softmax(hidden weight^T)_target + c)``.

    Label smoothing is that of the softmax alone: ``(1 - epsilon)`` times the value above, and
    ``epsilon`` times the mean of ``-log softmax`` over the vocabulary. So it favours neither part
    of the mixture, and without copies it is that of `linear_cross_entropy`.

    Args:
        hidden: ``[rows, dim]``, floating point; the products are computed in its type.
        weight: ``[vocab, dim]``, floating point.
        targets: ``[rows]`` class indices.
        log_generate: ``log g``, ``[rows]``, finite, float32 at least.
        log_copy: ``log c``, ``[rows]``, finite: a large negative number where c is 0.
        label_smoothing: epsilon, 0 to below 1.

    Returns:
        The loss in nats per row with smoothing (differentiable), and without smoothing (a plain
        measurement, not differentiable); scalars of float32 at least.

    Raises:
        ShapeError: The shapes do not fit each other.
        ConfigError: `label_smoothing` is out of range.
    """
    _check_arguments(hidden, weight, targets, label_smoothing)
    for name, logarithms in (("log_generate", log_generate), ("log_copy", log_copy)):
        _require_shape(name, logarithms, targets.shape)
    loss, plain, *_ = _LinearCrossEntropy.apply(
        hidden, weight, targets, label_smoothing, log_generate, log_copy
    )
    return loss, plain


def _check_arguments(
    hidden: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float
) -> None:
    """Check ``[rows, dim]``, ``[vocab, dim]``, ``[rows]`` and the smoothing of a loss."""
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"hidden has shape {list(hidden.shape)}, weight {list(weight.shape)}; expected "
            "[rows, dim] and [vocab, dim]."
        )
    _require_shape("targets", targets, hidden.shape[:1])
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {label_smoothing}")


def _require_shape(name: str, tensor: Tensor, shape: torch.Size) -> None:
    if tensor.shape != shape:
        raise ShapeError(f"{name} has shape {list(tensor.shape)}; expected {list(shape)}.")


def _log_loss(logits: Tensor, probabilities: Tensor, target: Tensor, at_target: Tensor) -> Tensor:
    """Compute the cross-entropy of rows, ``[rows, 1]``, from their softmax where it is exact."""
    at_probability = probabilities.gather(1, target)  # [rows, 1]
    is_exact = at_probability >= torch.finfo(probabilities.dtype).tiny
    is_on_cpu = logits.device.type == "cpu"
    exact = -at_probability.to(at_target.dtype).log()
    if is_on_cpu and bool(is_exact.all()):  # elsewhere the answer would be waited for
        return exact
    # A probability this small is rounded, at last to 0; the largest of a row never is.
    highest, index = logits.max(-1, keepdim=True)
    log_sum = highest.to(at_target.dtype) - probabilities.gather(1, index).to(at_target.dtype).log()
    return log_sum - at_target if is_on_cpu else torch.where(is_exact, exact, log_sum - at_target)


def _gradients(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    smoothing: float,
    log_generate: Tensor | None,
    log_copy: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Compute the gradients by differentiable operations, all logits ``[rows, vocab]`` at once."""
    rows, vocab = len(hidden), len(weight)
    weight_used = weight.to(hidden.dtype)
    logits = hidden @ weight_used.T  # [rows, vocab]
    probabilities = logits.softmax(-1)
    one_hot = torch.nn.functional.one_hot(targets, vocab).to(hidden.dtype)
    grad_generate = grad_copy = None
    if log_generate is None or log_copy is None:
        residual = (probabilities - (1 - smoothing) * one_hot - smoothing / vocab) / rows
    else:
        log_label = logits.to(log_copy.dtype).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        odds = log_generate + log_label - log_copy  # logarithm, of a label that was generated
        grad_generate = -(1 - smoothing) / rows * odds.sigmoid()
        grad_copy = -(1 - smoothing) / rows * (-odds).sigmoid()
        share = (-rows * grad_generate).to(hidden.dtype)[:, None]
        residual = (
            (share + smoothing) * probabilities - share * one_hot - smoothing / vocab
        ) / rows
    grad_weight = (residual.T @ hidden).to(weight.dtype)
    return residual @ weight_used, grad_weight, grad_generate, grad_copy


class _LinearCrossEntropy(torch.autograd.Function):
    """Value and first-order gradient in one chunked pass; see the module's docstring."""

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
        log_generate: Tensor | None,
        log_copy: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        rows, vocab = len(hidden), len(weight)
        weight_used = weight.to(hidden.dtype)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        mean_weight = weight.to(exact).mean(0)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        plain = torch.zeros_like(loss)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight)
        shares: list[tuple[Tensor, Tensor]] = []  # of a label: that it was generated, and copied
        elements = _CHUNK_ELEMENTS if hidden.device.type == "cpu" else _DEVICE_ELEMENTS
        chunk = max(1, elements // vocab)
        for start in range(0, rows, chunk):
            part = hidden[start : start + chunk]
            target = targets[start : start + chunk, None]
            logits = part @ weight_used.T  # [chunk, vocab]
            at_target = logits.gather(1, target).to(exact)
            residual = logits.softmax(-1)
            nll = label_nll = _log_loss(logits, residual, target, at_target)  # [chunk, 1]
            pull = residual.new_full(target.shape, 1 - smoothing)  # towards the target
            if log_generate is not None and log_copy is not None:
                generated = log_generate[start : start + chunk, None] - nll
                copied = log_copy[start : start + chunk, None]
                label_nll = -torch.logaddexp(generated, copied)
                share = (1 - smoothing) * (generated + label_nll).exp()
                shares.append((share, (1 - smoothing) * (copied + label_nll).exp()))
                pull = share.to(residual.dtype)
                residual *= pull + smoothing
            plain += label_nll.sum()
            if smoothing:
                uniform = at_target + nll - (part.to(exact) @ mean_weight)[:, None]
                loss += (1 - smoothing) * label_nll.sum() + smoothing * uniform.sum()
            residual.scatter_add_(1, target, -pull)
            grad_hidden[start : start + chunk] = residual @ weight_used
            grad_weight += residual.T @ part
        if smoothing:
            grad_hidden -= (smoothing * mean_weight).to(hidden.dtype)
            grad_weight -= (smoothing / vocab) * hidden.sum(0, dtype=exact).to(weight.dtype)
        loss = loss if smoothing else plain.clone()
        grad_generate = grad_copy = None
        if shares:
            of_generate, of_copy = zip(*shares, strict=True)
            grad_generate, grad_copy = (-torch.cat(p)[:, 0] / rows for p in (of_generate, of_copy))
        gradients = grad_hidden.div_(rows), grad_weight.div_(rows), grad_generate, grad_copy
        return loss / rows, plain / rows, *gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        hidden, weight, targets, ctx.smoothing, *log_probabilities = inputs
        _, plain, *gradients = output
        present = (gradient for gradient in gradients if gradient is not None)
        ctx.mark_non_differentiable(plain, *present)
        ctx.save_for_backward(hidden, weight, targets, *log_probabilities, *gradients)
        ctx.save_for_forward(hidden, weight, targets, *log_probabilities)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, log_generate, log_copy, *gradients = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _gradients(hidden, weight, targets, ctx.smoothing, log_generate, log_copy)
        of_hidden, of_weight, *of_others = (  # [rows, dim], [vocab, dim] and of the others
            None if gradient is None else gradient * grads[0].to(gradient.dtype)
            for gradient in gradients
        )
        return of_hidden, of_weight, None, None, *of_others

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, *log_probabilities = ctx.saved_tensors
        gradients = _gradients(hidden, weight, targets, ctx.smoothing, *log_probabilities)
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        of_inputs = (tangents[0], tangents[1], tangents[4], tangents[5])
        for gradient, tangent in zip(gradients, of_inputs, strict=True):
            if gradient is not None and tangent is not None:
                total = total + (gradient * tangent).sum()
        return total, None, None, None, None, None
