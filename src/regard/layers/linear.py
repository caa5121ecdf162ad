"""A linear map that computes in the type of its input and keeps its weights in their own.

Mixed precision without autocast: parameters stay float32 for the optimizer, activations are
bfloat16, and each weight is rounded once where it is used; the gradient comes back in float32.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.layer import Description, Layer, describe_linear
from regard.option_checks import require_number, require_whole


class Adapter(Layer, ABC):
    """Computes a change of a linear map from the map's input, such as `LowRank`."""

    @abstractmethod
    def change(self) -> Tensor:
        """Return the change of the weight, ``[out_dim, in_dim]``."""


class Linear(Layer, nn.Linear):
    """``y = x W^T + b``.

    Args:
        in_dim: Size of the last axis of the input.
        out_dim: Size of the last axis of the output.
        bias: Whether to add a bias.
        init_scale: Factor on the initial weights, which are uniform in Glorot's bounds
            ``sqrt(6 / (in + out))`` (Glorot & Bengio 2010, equation 16); 0 or more.
        num_splits: Number of maps stacked in the output (3 for query, key and value); each part is
            initialised as if it stood alone.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        bias: bool = True,
        init_scale: float = 1.0,
        num_splits: int = 1,
    ) -> None:
        require_whole("in_dim", in_dim, 0)
        require_whole("out_dim", out_dim, 1)
        require_whole("num_splits", num_splits, 1)
        require_number("init_scale", init_scale, "0 or more", lambda scale: scale >= 0)
        if out_dim % num_splits:
            raise ConfigError(f"out_dim={out_dim}: must be a multiple of num_splits={num_splits}.")
        self.num_splits, self.init_scale = num_splits, init_scale
        nn.Linear.__init__(self, in_dim, out_dim, bias)
        self.adaptation: Adapter | None = None
        """Changes the map (`regard.layers.lora`), where set."""

    def reset_parameters(self) -> None:
        """Draw the initial weights."""
        bound = self.init_scale * math.sqrt(
            6.0 / (self.in_features + self.out_features // self.num_splits)
        )
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch.nn.Linear
        """Map ``[batch, length, in_dim]`` (any leading axes) to ``[batch, length, out_dim]``."""
        dtype = input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        y = F.linear(input, self.weight.to(dtype), bias)
        return y if self.adaptation is None else y + self.adaptation(input)

    def adapted_weight(self) -> Tensor:
        """Return W with its change, ``[out_dim, in_dim]``: layers that multiply by W take this."""
        return self.weight if self.adaptation is None else self.weight + self.adaptation.change()

    def describe(self) -> Description:
        """Return the sizes of input and output."""
        return describe_linear(self.weight)

    def flops(self, length: int) -> int:
        """Count the map, and its adaptation where it has one."""
        return 2 * self.weight.numel() * length + super().flops(length)


def use_plain_linears(model: nn.Module) -> None:
    """Replace every `Linear` of a model by a `torch.nn.Linear` with the same weights.

    Some tools, such as ``torch.ao.quantization.quantize_dynamic``, look for that class and for no
    subclass of it. Layers that read the weights of their maps (`Lstm`) keep them.

    Args:
        model: Changed in place; its weights stay where and of what type they are.

    Raises:
        ConfigError: A map is adapted, which a plain one cannot express.
    """
    for name, parent in list(model.named_modules()):
        if isinstance(parent, Layer) and parent.reads_weights_of_maps:
            continue
        for child_name, child in parent.named_children():
            if type(child) is not Linear:
                continue
            if child.adaptation is not None:
                raise ConfigError(f"{name}.{child_name} is adapted.  Merge its change first.")
            with torch.device("meta"):
                has_bias = child.bias is not None
                plain = nn.Linear(child.in_features, child.out_features, bias=has_bias)
            plain.weight, plain.bias = child.weight, child.bias
            plain.train(child.training)
            setattr(parent, child_name, plain)
