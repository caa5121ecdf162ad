"""Optimizers of steps on batches, with their parameter groups.

Matrices, embedding tables among them, have weight decay and belong to Muon where it is chosen;
biases, norms and whatever acts entry by entry have no decay and always belong to AdamW. AdamW is
torch.optim's (Loshchilov & Hutter 2019), Muon `regard.optim`'s (Jordan et al. 2024).
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from regard.layers.layer import Layer
from regard.layers.linear import Linear
from regard.optim import Muon
from regard.training.optimizers.record import OptimizerInputs

if TYPE_CHECKING:
    from regard.training.training_config import OptimizerConfig

_SGD_RATE = 10.0  # times AdamW's rate, whose steps do not shrink with the gradient


def build_muon(inputs: OptimizerInputs) -> list[torch.optim.Optimizer]:
    """Build Muon for matrices, and AdamW for all else."""
    model, config, rate = inputs.model, inputs.config, inputs.rate
    two_axes, vectors = parameters_by_axes(model)
    entrywise = entrywise_parameters(model)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p not in entrywise], "num_parts": number}
        for number, parameters in two_axes.items()
    ]
    muon = Muon(
        groups or [{"params": []}],  # such as low-rank adapters of rank 1
        lr=rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        num_steps=config.newton_schulz_steps,
        dtype=inputs.dtype,
        sharing=inputs.sharing,
    )
    groups = [_without_decay(vectors)]
    if entrywise:  # last, so that the others have the numbers of earlier saved states
        groups.append(_without_decay(list(entrywise)))
    return [muon, _adamw(groups, config, rate * config.other_rate)]


def build_adamw(inputs: OptimizerInputs) -> list[torch.optim.Optimizer]:
    """Build AdamW for all parameters."""
    return [_adamw(_groups_by_decay(inputs.model), inputs.config, inputs.rate)]


def build_sgd(inputs: OptimizerInputs) -> list[torch.optim.Optimizer]:
    """Build stochastic gradient descent with momentum for all parameters."""
    config = inputs.config
    return [
        torch.optim.SGD(
            _groups_by_decay(inputs.model),
            lr=_SGD_RATE * inputs.rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    ]


def parameters_by_axes(
    model: nn.Module,
) -> tuple[dict[int, list[nn.Parameter]], list[nn.Parameter]]:
    """Return those of two axes by the number of maps that are stacked in them, and the vectors."""
    num_splits = {
        module.weight: module.num_splits for module in model.modules() if isinstance(module, Linear)
    }
    two_axes: dict[int, list[nn.Parameter]] = {}
    vectors = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() == 2 and min(parameter.shape) > 1:
            two_axes.setdefault(num_splits.get(parameter, 1), []).append(parameter)
        else:
            vectors.append(parameter)
    return two_axes, vectors


def entrywise_parameters(model: nn.Module) -> dict[nn.Parameter, None]:
    """Return the trained parameters of two axes that are no matrices, in the model's order."""
    declared = {
        getattr(module, name)
        for module in model.modules()
        if isinstance(module, Layer)
        for name in module.entrywise
    }
    two_axes = [p for parameters in parameters_by_axes(model)[0].values() for p in parameters]
    return {parameter: None for parameter in two_axes if parameter in declared}


def _groups_by_decay(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters in groups with and without weight decay."""
    two_axes, vectors = parameters_by_axes(model)
    entrywise = entrywise_parameters(model)
    groups: list[dict[str, Any]] = []  # in an order that saved states rely on
    for parameters in two_axes.values():
        for is_entrywise, run in groupby(parameters, entrywise.__contains__):
            members = list(run)
            groups.append(_without_decay(members) if is_entrywise else {"params": members})
    return [*groups, _without_decay(vectors)]


def _without_decay(parameters: list[nn.Parameter]) -> dict[str, Any]:
    return {"params": parameters, "weight_decay": 0.0}


def _adamw(
    groups: list[dict[str, Any]], config: OptimizerConfig, rate: float
) -> torch.optim.Optimizer:
    betas, decay = (config.beta1, config.beta2), config.weight_decay
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=1e-9, weight_decay=decay, fused=True)
