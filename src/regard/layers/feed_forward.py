"""The position-wise feed-forward network (Vaswani et al. 2017, equation 2), plain or gated."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.settings.binding import check_type

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_tanh"]
ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": partial(F.gelu, approximate="tanh"),
}
GATED = {"swiglu", "geglu", "geglu_tanh"}
"""Activations of a network with gates."""


class FeedForward(Layer):
    """``W2 activation(W1 x + b1) + b2``, or gated: ``W2 (activation(W1 x) * V x)``.

    Args:
        dim: Size of input and output.
        hidden_dim: Size in between, 4 times `dim` in the paper.
        activation: ``relu`` (the paper), ``gelu`` (Hendrycks & Gimpel 2016), ``gelu_tanh`` (its
            approximation, as GPT-2 has it), ``silu`` (Elfwing et al. 2018; also called swish), or
            ``swiglu``, ``geglu`` or ``geglu_tanh`` (Shazeer 2020, equation 6, with silu, gelu or
            gelu_tanh), which are gated and stack W1 and V in one map.
        bias: Whether the maps have biases.
        output_init_scale: Factor on the initial weights of the second map.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        activation: Activation = "relu",
        bias: bool = True,
        output_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_type(activation, Activation, "activation")
        self.num_splits = 2 if activation in GATED else 1
        self.inner = Linear(
            dim, self.num_splits * hidden_dim, bias=bias, num_splits=self.num_splits
        )
        self.outer = Linear(hidden_dim, dim, bias=bias, init_scale=output_init_scale)
        self.activation = ACTIVATIONS[activation]
        self.activation_name = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, dim]`` to the same shape."""
        inner = self.inner(x)
        if self.num_splits == 1:
            return self.outer(self.activation(inner))
        activated, gate = inner.chunk(2, dim=-1)
        return self.outer(self.activation(activated) * gate)

    def describe(self) -> Description:
        """Return its sizes and its activation.

        >>> FeedForward(8, 32, activation="relu", output_init_scale=1.0).describe().facts
        ('8 to 32 to 8', 'relu')
        """
        dim, hidden_dim = self.outer.weight.shape
        sizes = f"{dim:,} to {hidden_dim:,} to {dim:,}"
        return Description("feed-forward", (sizes, self.activation_name))
