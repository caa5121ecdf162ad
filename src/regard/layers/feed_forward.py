"""The position-wise feed-forward network (Vaswani et al. 2017, equation 2)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.linear import Linear

Activation = Literal["relu", "gelu"]
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class FeedForward(nn.Module):
    """``W2 activation(W1 x + b1) + b2``.

    Args:
        dim: Size of input and output.
        hidden_dim: Size in between, 4 times `dim` in the paper.
        activation: ``relu`` (the paper) or ``gelu`` (Hendrycks & Gimpel 2016).
        output_gain: Factor on the initial weights of the second map.
    """

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation, output_gain: float
    ) -> None:
        super().__init__()
        self.inner = Linear(dim, hidden_dim)
        self.outer = Linear(hidden_dim, dim, gain=output_gain)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, dim]`` to the same shape."""
        return self.outer(self.activation(self.inner(x)))
