"""One optimizer step: loss, gradient, clipping, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec
import torch
from torch import Tensor, nn

from regard.errors import ConfigError, ShapeError
from regard.optim import SCHEDULES, Muon
from regard.optim.matrix_sharing import MatrixSharing
from regard.optim.sharding import is_sharded, local_part
from regard.training.optimizers import record_of
from regard.training.optimizers.on_batches import entrywise_parameters, parameters_by_axes
from regard.training.optimizers.record import OptimizerInputs
from regard.training.stability_monitor import gradient_norms
from regard.training.training_config import OptimizerConfig


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """The loss of a batch.

    Args:
        loss: Scalar to minimise, mean over tokens, differentiable.
        nll: Cross-entropy in nats per token without smoothing, a scalar for people to read.
        num_tokens: Number of tokens that the two are means of.
    """

    loss: Tensor
    nll: Tensor
    num_tokens: int


LossFunction: TypeAlias = Callable[[Any, Any], Loss]
"""Computes the loss of a model on a batch; each task has its own types of model and of batch."""


@runtime_checkable
class RowwiseLoss(Protocol):
    """A loss that is known for each row of a batch, ``[batch, length]``; of tokens or labels."""

    def __call__(self, model: Any, batch: Any) -> Loss:
        """Compute the loss of a batch."""
        ...

    def row_losses(self, model: Any, batch: Any) -> tuple[Tensor, int]:
        """Compute the loss of each row of a batch.

        Returns:
            The sums over the tokens of each row, ``[batch]``, float32 at least, differentiable; and
            the number of tokens by which all of them are divided, `Loss.num_tokens`.
        """
        ...

    def logits(self, model: Any, batch: Any) -> Tensor:
        """Compute the logits of a batch, of shape ``[predictions, classes]``."""
        ...


class StepOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a training step.

    Args:
        loss: Of the batch, before the step; of all rows, after it, where the step sees all.
        gradient_norm: Of the whole gradient, before clipping.
        gradient_norms: Of each parameter's gradient, before clipping, ``[parameters]``.
    """

    loss: Loss
    gradient_norm: float
    gradient_norms: Tensor


class TrainStep(Protocol):
    """Takes the training steps of a run."""

    model: nn.Module
    config: OptimizerConfig

    @property
    def num_passes(self) -> float:
        """Passes over the data that the last step took; 0 where it saw one batch."""
        ...

    @property
    def plan_stride(self) -> int:
        """Number of steps of the first plan that a step now replaces."""
        ...

    @property
    def stop_reason(self) -> str:
        """Why no further step can be taken; empty where one can."""
        ...

    @property
    def learning_rate(self) -> float | None:
        """The rate of the last step, of the first parameters; None where the method has none."""
        ...

    @property
    def loss_function(self) -> LossFunction:
        """Computes the loss of a batch."""
        ...

    def step(self, batch: Any, progress: float) -> StepOutput:
        """Take one step.

        Args:
            batch: Of the training data.
            progress: Fraction of the run that is done, 0 to 1.

        Returns:
            The loss and the gradient's norms.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a later session needs, by name."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        ...


class BatchGradient(Protocol):
    """Computes the gradient of a batch.

    Args:
        sum_seconds: Spent so far on sums over shards that need not be in a fixed order.
    """

    sum_seconds: float

    @property
    def loss_function(self) -> LossFunction:
        """Computes the loss of a batch."""
        ...

    def __call__(self, batch: Any) -> Loss:
        """Compute the loss of a batch, and its gradient into ``grad`` of the parameters."""
        ...


def build_optimizers(
    model: nn.Module,
    config: OptimizerConfig,
    dtype: torch.dtype,
    sharing: MatrixSharing | None = None,
) -> list[torch.optim.Optimizer]:
    """Build the optimizers of a model, each with its parameter groups.

    Args:
        model: Whose parameters are trained.
        config: With a learning rate set.
        dtype: Type of products that the optimizer computes.
        sharing: The processes that share Muon's updates; None computes all of them here.

    Returns:
        One optimizer, or two.

    Raises:
        ConfigError: The optimizer takes no steps on batches, or no learning rate is set.
    """
    build = record_of(config.name).on_batches
    if build is None:
        raise ConfigError(f"optimizer.name={config.name}: takes no steps on batches.")
    if config.learning_rate is None:
        raise ConfigError(f"optimizer.learning_rate=none: {config.name} needs one, above 0.")
    return build(OptimizerInputs(model, config, config.learning_rate, dtype, sharing))


def on_host(loss: Loss, norms: Tensor, total: Tensor) -> tuple[Loss, Tensor, float]:
    """Return the figures of a step in main memory, copied from a device at once.

    Args:
        loss: Of the batch.
        norms: Of the gradients, ``[parameters]``.
        total: Of the whole gradient.

    Returns:
        The loss with its cross-entropy there, the norms, and that of the whole gradient.
    """
    if total.device.type == "cpu":
        return loss, norms, float(total)
    figures = torch.cat([norms, torch.stack([total, loss.nll.detach().to(total)])]).cpu()
    return msgspec.structs.replace(loss, nll=figures[-1]), figures[:-2], float(figures[-2])


class MiniBatchStep:
    """Takes optimizer steps on batches.

    Args:
        model: To be trained, in training mode.
        loss_function: Computes the loss of a batch.
        config: Of the optimizer.
        dtype: Type of products that the optimizer computes.
        compute_gradient: Computes the loss of a batch, and its gradient into ``grad`` of the
            parameters, together with other processes; None computes it here.
        sharing: The processes that share Muon's updates; None computes all of them here.
    """

    num_passes = 0.0
    plan_stride = 1
    stop_reason = ""

    def __init__(
        self,
        model: nn.Module,
        loss_function: LossFunction,
        config: OptimizerConfig,
        dtype: torch.dtype = torch.float32,
        compute_gradient: BatchGradient | None = None,
        sharing: MatrixSharing | None = None,
    ) -> None:
        self.model, self.loss_function, self.config = model, loss_function, config
        self._gradient = compute_gradient
        if compute_gradient is not None:
            self.loss_function = compute_gradient.loss_function
        self.optimizers = build_optimizers(model, config, dtype, sharing)
        self._parameters = list(model.parameters())
        self._schedule = SCHEDULES[config.schedule]
        self._peaks = [[g["lr"] for g in optimizer.param_groups] for optimizer in self.optimizers]

    @property
    def learning_rate(self) -> float | None:
        """The rate of the last step, of the first parameters."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    @property
    def sum_seconds(self) -> float:
        """Spent so far on sums over shards that need not be in a fixed order."""
        return 0.0 if self._gradient is None else self._gradient.sum_seconds

    def step(self, batch: Any, progress: float) -> StepOutput:
        """Take one step.

        Args:
            batch: Argument of the loss function, or of `compute_gradient`.
            progress: Fraction of the run that is done, 0 to 1; sets the learning rate.

        Returns:
            The loss before the step and the gradient's norms before clipping. Where either is not
            finite no weight has been changed.
        """
        loss = self._backward(batch) if self._gradient is None else self._gradient(batch)
        norms = gradient_norms(self._parameters)
        total = torch.linalg.vector_norm(norms)
        # What is looked at comes in one transfer: the step waits for its device here alone.
        loss, norms, norm = on_host(loss, norms, total)
        if math.isfinite(norm) and math.isfinite(float(loss.nll)):
            self._clip(total)
            factor = self._schedule(progress, self.config.warmup)
            for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                optimizer.step()
        return StepOutput(loss=loss, gradient_norm=norm, gradient_norms=norms)

    def _clip(self, norm: Tensor) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not any(is_sharded(gradient) for gradient in gradients):
            nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, norm, foreach=True)
            return
        factor = min(1.0, self.config.clip / (float(norm) + 1e-6))  # as PyTorch's
        for gradient in gradients:
            local_part(gradient).mul_(factor)

    def _backward(self, batch: Any) -> Loss:
        loss = self.loss_function(self.model, batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.loss.backward()
        return loss

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the optimizers by ``optimizer index.parameter index.name``."""
        return {
            f"{number}.{index}.{name}": value
            for number, optimizer in enumerate(self.optimizers)
            for index, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ShapeError: A tensor is of a parameter of another shape.
        """
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                owner, index, name = key.split(".", 2)
                if int(owner) == number:
                    state.setdefault(int(index), {})[name] = value
            if isinstance(optimizer, Muon):
                state = self._without_entrywise(state)
            _check_shapes(optimizer, state)
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _without_entrywise(
        self, state: dict[int, dict[str, Tensor]]
    ) -> dict[int, dict[str, Tensor]]:
        """Return Muon's saved state without parameters that it had in earlier versions."""
        entrywise = entrywise_parameters(self.model)
        all_maps = [p for maps in parameters_by_axes(self.model)[0].values() for p in maps]
        matrices = [index for index, p in enumerate(all_maps) if p not in entrywise]
        if max(state, default=0) < len(matrices):
            return state
        return {new: state[old] for new, old in enumerate(matrices) if old in state}


def _check_shapes(
    optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Raise ShapeError where a tensor is neither a number nor of the shape of its parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entries in state.items():
        shape = parameters[index].shape
        for name, value in entries.items():
            if value.dim() and value.shape != shape:
                raise ShapeError(
                    f"{name} of parameter {index} has shape {list(value.shape)}, not {list(shape)}"
                )
