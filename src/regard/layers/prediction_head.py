"""The head of ModernBERT (Warner et al. 2024), before a map to tokens, labels or answers."""

from __future__ import annotations

from torch import Tensor

from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.layers.norm import LayerNorm
from regard.layers.pooling import POOLER_ACTIVATIONS, PoolerActivation
from regard.settings.binding import check_type


class PredictionHead(Layer):
    """``norm(activation(W h + b))`` of any vector.

    Args:
        dense: W and b, if it has one.
        norm: Normalisation of the result.
        activation: gelu (the paper's), relu or tanh.
    """

    def __init__(
        self, dense: Linear, norm: LayerNorm, *, activation: PoolerActivation = "gelu"
    ) -> None:
        super().__init__()
        check_type(activation, PoolerActivation, "activation")
        self.dense, self.norm = dense, norm
        self.activation = activation

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[batch, dim]`` (any leading axes) to the same shape."""
        return self.norm(POOLER_ACTIVATIONS[self.activation](self.dense(hidden)))

    def describe(self) -> Description:
        """Return what it computes."""
        return Description("prediction head", (f"linear, {self.activation}, layer norm",))
