"""One vector for a sequence of states."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.resolve_lengths import lengths_on_device
from regard.layers.linear import Linear
from regard.settings.binding import check_type

Pooling = Literal["first", "mean"]
"""The vector of a sequence: the state of its first position, or the mean of all."""

PoolerActivation = Literal["tanh", "relu", "gelu"]
POOLER_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "gelu": F.gelu}


class Pooler(Linear):
    """``activation(W h + b)`` of the vector of a sequence.

    Args:
        dim: Size of the states.
        activation: tanh (Devlin et al. 2019), relu or gelu.
    """

    def __init__(self, dim: int, activation: PoolerActivation = "tanh") -> None:
        check_type(activation, PoolerActivation, "activation")
        super().__init__(dim, dim)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch.nn.Linear
        """Map ``[batch, dim]`` to the same shape."""
        return POOLER_ACTIVATIONS[self.activation](super().forward(input))


def mean_of_valid(hidden: Tensor, lengths: Tensor | None) -> Tensor:
    """Average over the positions that are not padding.

    Args:
        hidden: ``[batch, length, dim]``.
        lengths: Valid positions of each row, ``[batch]``, in main memory or where the states are;
            None means all. An empty row gives 0.

    Returns:
        ``[batch, dim]``.

    >>> mean_of_valid(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]))
    tensor([[2.]])
    """
    if lengths is None:
        return hidden.mean(1)
    lengths = lengths_on_device(lengths, hidden.device)
    is_valid = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    summed = (hidden * is_valid[..., None]).sum(1)
    return summed / lengths.clamp(min=1)[:, None].to(hidden.dtype)
