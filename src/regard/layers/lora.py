"""Low-rank adaptation (Hu et al. 2021, "LoRA", equation 3): ``W x + (alpha / rank) B A x``.

W is frozen; A and B, of a rank much smaller than the sides of W, are trained. B begins at zero, so
that the adapted model begins as the original. Merged, the model costs what it did before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.layer import Layer
from regard.layers.linear import Linear

ADAPTED = ".adaptation."
"""Part of the names of the trained weights."""
_DOWN, _UP = f"{ADAPTED}down", f"{ADAPTED}up"


class LowRank(Layer):
    """The change of one linear map.

    Args:
        in_dim: Size of its input.
        out_dim: Size of its output.
        rank: Of the change, 1 or more.
        scale: Factor on it, ``alpha / rank``.
    """

    def __init__(self, in_dim: int, out_dim: int, *, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, in_dim))
        self.up = nn.Parameter(torch.zeros(out_dim, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # the authors' code

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, in_dim]`` (any leading axes) to ``[batch, length, out_dim]``."""
        inner = F.linear(x, self.down.to(x.dtype))
        return F.linear(inner, self.scale * self.up.to(x.dtype))

    def flops(self, length: int) -> int:
        """Count both maps."""
        return 2 * (self.down.numel() + self.up.numel()) * length


def add_low_rank(model: nn.Module, *, rank: int, alpha: float) -> None:
    """Adapt every linear map of a model.

    Args:
        model: Changed in place.
        rank: Of each change, 1 or more; at most the shorter side of the map is used.
        alpha: Factor on each change, times `rank`.
    """
    for module in list(model.modules()):
        if isinstance(module, Linear):
            out_dim, in_dim = module.weight.shape
            own = min(rank, in_dim, out_dim)
            module.adaptation = LowRank(in_dim, out_dim, rank=own, scale=alpha / own)


def merge_low_rank(tensors: Mapping[str, Tensor], *, alpha: float) -> dict[str, Tensor]:
    """Add the changes of adapted maps to their weights.

    Args:
        tensors: Weights by name, changes among them.
        alpha: Factor on each change, times its rank.

    Returns:
        The weights of the model without adaptation.
    """
    merged = {name: tensor for name, tensor in tensors.items() if not name.endswith((_DOWN, _UP))}
    for name in tensors:
        if name.endswith(_UP):
            owner = name.removesuffix(_UP)
            down, up = tensors[owner + _DOWN], tensors[name]
            merged[f"{owner}.weight"] = merged[f"{owner}.weight"] + alpha / len(down) * up @ down
    return merged
