"""Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

The initial weights have no part in it, after the bias correction of Adam (Kingma & Ba 2015,
section 3): the weights of the steps sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from regard.optim.foreach import foreach_lerp_
from regard.optim.sharding import local_part, whole_tensor
from regard.option_checks import require_number

_EVERY = 4  # steps between updates: the average costs as much memory traffic as the optimizer
_NEGLIGIBLE = 1e-16  # weight of the initial parameters, below the precision of float64


class ExponentialMovingAverage:
    """An average of a model's parameters over the last steps.

    Args:
        model: Whose parameters are averaged.
        decay: Weight of the old average in a step's update, 0 to below 1; 0 copies the parameters.

    Raises:
        ConfigError: `decay` is out of range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        require_number("decay", decay, "at least 0 and below 1", lambda decay: 0 <= decay < 1)
        self.decay = decay
        self.step = 0
        """Steps taken so far; to be set where `tensors` come from a checkpoint."""
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }
        """The state: the average after the last update, which was at most three steps ago."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the parameters after `step` steps, 1 or more.

        Early in a run the average follows faster: it spans at most a tenth of the steps so far.
        """
        self.step = step
        if self.decay != 0 and step % _EVERY:
            return
        fraction = self._new_fraction(_EVERY)
        averages = [local_part(self.tensors[name]) for name in self._parameters]
        parameters = [local_part(parameter.detach()) for parameter in self._parameters.values()]
        foreach_lerp_(averages, parameters, fraction)

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Return the average over all steps so far, those since the last update among them.

        The state stays as it is, so that a run does not depend on when its average is looked at.
        """
        num_steps = self.step % _EVERY
        if num_steps == 0 or self.decay == 0:
            return self.tensors
        fraction = self._new_fraction(num_steps)
        return {
            name: self.tensors[name].lerp(parameter, fraction)
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def whole_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `weights` one by one, gathered from processes that hold a part each.

        All of these processes go through them together.
        """
        for name, tensor in self.weights().items():
            yield name, whole_tensor(tensor)

    def _new_fraction(self, num_steps: int) -> float:
        """Return the part of the parameters now in an average updated after `num_steps` steps."""
        if self.decay == 0:
            return 1.0
        decay = self._step_decay(self.step) ** num_steps
        # (1 - decay) / (1 - decay * initial) where `initial` is the weight of the initial ones.
        return (1 - decay) / (1 - decay * self._initial_weight(self.step - num_steps))

    def _step_decay(self, step: int) -> float:
        return min(self.decay, 1 - 10 / (step + 10))

    def _initial_weight(self, step: int) -> float:
        """Return the weight of the initial parameters before correction, after `step` steps."""
        weight = 1.0
        for updated in range(_EVERY, step + 1, _EVERY):
            weight *= self._step_decay(updated) ** _EVERY
            if weight < _NEGLIGIBLE:
                return 0.0
        return weight
