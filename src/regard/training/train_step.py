"""One optimizer step: loss, gradient, clipping, update.

AdamW is torch.optim's (Loshchilov & Hutter 2019), Muon our own (Jordan et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from regard.layers.linear import Linear
from regard.optim import SCHEDULES, Muon
from regard.training.stability_monitor import gradient_norms
from regard.training.training_config import OptimizerConfig

B = TypeVar("B")
_SGD_RATE = 10.0  # times AdamW's rate, whose steps do not shrink with the gradient


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What an objective returns.

    Args:
        loss: Scalar to minimise, mean over tokens, differentiable.
        nll: Cross-entropy in nats per token without smoothing, a scalar for people to read.
        num_tokens: Number of tokens it is the mean of.
    """

    loss: Tensor
    nll: Tensor
    num_tokens: int


Objective = Callable[[nn.Module, B], Loss]


class Stepping(Protocol):
    """What the loop wants of steps."""

    model: nn.Module
    config: OptimizerConfig

    @property
    def gradient_norms(self) -> Tensor | None:
        """Of each parameter at the last step, ``[parameters]``."""
        ...

    @property
    def num_passes(self) -> float:
        """Passes over the data that the last step took; 0 where it saw one batch."""
        ...

    @property
    def pace(self) -> int:
        """Steps of the first plan that a step now stands for."""
        ...

    @property
    def has_ended(self) -> str:
        """Why no further step can be taken; empty where one can."""
        ...

    @property
    def objective(self) -> Objective:
        """Computes the loss of a batch."""
        ...

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:
        """Take one step; return the loss and the gradient's norm."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Collect what a later session needs."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        ...


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Build the optimizers of a model, one or two, each with its parameter groups.

    Matrices, embedding tables among them, have weight decay and are Muon's where Muon is chosen;
    biases and norms have no decay and are always AdamW's.

    Args:
        model: Whose parameters are trained.
        config: With a learning rate set.
        dtype: Type of products that the optimizer computes.
    """
    assert config.learning_rate is not None
    rate = config.learning_rate
    parts = {
        id(module.weight): module.num_splits
        for module in model.modules()
        if isinstance(module, Linear)
    }
    matrices: dict[int, list[nn.Parameter]] = {}
    others = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() == 2 and min(parameter.shape) > 1:
            matrices.setdefault(parts.get(id(parameter), 1), []).append(parameter)
        else:
            others.append(parameter)
    groups = [{"params": weights, "num_parts": number} for number, weights in matrices.items()]
    plain: list[dict] = [{"params": others, "weight_decay": 0.0}]
    if config.name == "muon":
        muon = Muon(
            groups,
            lr=rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            num_steps=config.newton_schulz_steps,
            dtype=dtype,
        )
        return [muon, _adamw(plain, config, rate * config.other_rate)]
    decayed = [{"params": group["params"]} for group in groups]
    if config.name == "sgd":
        momentum, decay = config.momentum, config.weight_decay
        return [
            torch.optim.SGD(
                decayed + plain, lr=_SGD_RATE * rate, momentum=momentum, weight_decay=decay
            )
        ]
    return [_adamw(decayed + plain, config, rate)]


def _adamw(groups: list[dict], config: OptimizerConfig, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups,
        lr=rate,
        betas=(config.beta1, config.beta2),
        eps=1e-9,
        weight_decay=config.weight_decay,
        fused=True,
    )


class Stepper:
    """Takes optimizer steps.

    Args:
        model: To be trained, in training mode.
        objective: Computes the loss of a batch.
        config: Of the optimizer.
        dtype: Type of products that the optimizer computes.
    """

    num_passes = 0.0
    pace = 1
    has_ended = ""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        config: OptimizerConfig,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.objective = objective
        self.config = config
        self.optimizers = build_optimizers(model, config, dtype)
        self.gradient_norms: Tensor | None = None
        """Of each parameter at the last step, before clipping, ``[parameters]``."""
        self._parameters = list(model.parameters())
        self._schedule = SCHEDULES[config.schedule]
        self._peaks = [[g["lr"] for g in optimizer.param_groups] for optimizer in self.optimizers]

    def step(self, batch: object, progress: float) -> tuple[Loss, float]:
        """Take one step.

        Args:
            batch: What the objective takes.
            progress: Share of the run that is done, 0 to 1; sets the learning rate.

        Returns:
            The loss before the step and the gradient's norm before clipping. Where either is not
            finite no weight has been changed.
        """
        found = self.objective(self.model, batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        found.loss.backward()
        self.gradient_norms = gradient_norms(self._parameters)
        total = torch.linalg.vector_norm(self.gradient_norms)
        norm = float(total)
        if math.isfinite(norm) and math.isfinite(float(found.nll)):
            nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, total, foreach=True)
            self._update(progress)
        return found, norm

    def _update(self, progress: float) -> None:
        share = self._schedule(progress, self.config.warmup)
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Collect the optimizers' tensors by a name of their place."""
        return {
            f"{place}.{index}.{key}": value
            for place, optimizer in enumerate(self.optimizers)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` collected."""
        for place, optimizer in enumerate(self.optimizers):
            entries: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                owner, index, key = name.split(".", 2)
                if int(owner) == place:
                    entries.setdefault(int(index), {})[key] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": entries, "param_groups": groups})
