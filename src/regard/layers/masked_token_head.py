"""The head that predicts masked tokens (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.feed_forward import ACTIVATIONS
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.layers.norm import LayerNorm
from regard.settings.binding import check_type

HeadActivation = Literal["relu", "gelu", "gelu_tanh"]


class MaskedTokenHead(Layer):
    """``norm(activation(W h + b)) E^T + c``: logits of the token, E the table of tokens.

    Args:
        dim: Size of the states.
        vocab_size: Number of token ids.
        norm: Normalisation of what is compared with the table.
        activation: gelu (the paper's), gelu_tanh or relu.
        table_dim: Size of the rows of the table; None is `dim`.
        bias: Whether W has a bias, b.
        output_bias: Whether logits have one, c.
    """

    def __init__(
        self,
        dim: int,
        vocab_size: int,
        norm: LayerNorm,
        *,
        activation: HeadActivation = "gelu",
        table_dim: int | None = None,
        bias: bool = True,
        output_bias: bool = True,
    ) -> None:
        super().__init__()
        check_type(activation, HeadActivation, "activation")
        self.dense = Linear(dim, table_dim or dim, bias=bias)
        self.norm = norm
        self.vocab_size = vocab_size
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if output_bias else None
        self.activation = ACTIVATIONS[activation]
        self.activation_name = activation

    def forward(self, hidden: Tensor, table: Tensor) -> Tensor:
        """Map ``[batch, length, dim]`` (any leading axes) to ``[batch, length, vocab]``."""
        x = self.norm(self.activation(self.dense(hidden)))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, table.to(x.dtype), bias)

    def describe(self) -> Description:
        """Return what it computes before the table of tokens."""
        facts = (f"linear, {self.activation_name}, layer norm", "table of tokens")
        return Description("masked-token head", facts, out_dim=self.vocab_size)

    def flops(self, length: int) -> int:
        """Count its map and the product with the table, ``[vocab, dim]``."""
        return super().flops(length) + 2 * self.vocab_size * len(self.dense.weight) * length
