"""Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EVERY = 4  # steps between updates: the average costs as much memory traffic as the optimizer


class ExponentialMovingAverage:
    """An average of a model's parameters over the last steps.

    Args:
        model: Whose parameters are averaged.
        decay: Weight of the old average in a step's update, 0 to below 1; 0 copies the parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self.decay = decay
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the parameters after `step` steps, 1 or more.

        Early in a run the average follows faster: it spans at most a tenth of the steps so far.
        """
        if self.decay == 0:
            for name, parameter in self._parameters.items():
                self.tensors[name].copy_(parameter)
            return
        if step % _EVERY:
            return
        decay = min(self.decay, 1 - 10 / (step + 10)) ** _EVERY
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter, 1 - decay)
