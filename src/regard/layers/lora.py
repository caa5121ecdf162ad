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

from regard.errors import ConfigError
from regard.layers.linear import Adapter, Linear
from regard.option_checks import require_number, require_whole

ADAPTED = ".adaptation."
"""Part of the names of the trained weights."""
_DOWN, _UP = f"{ADAPTED}down", f"{ADAPTED}up"


class LowRank(Adapter):
    """The change of one linear map.

    Args:
        in_dim: Size of its input.
        out_dim: Size of its output.
        rank: Rank of the change, 1 or more.
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

    def change(self) -> Tensor:
        """Compute ``(alpha / rank) B A``, ``[out_dim, in_dim]``."""
        return self.scale * self.up @ self.down

    def flops(self, length: int) -> int:
        """Count both maps."""
        return 2 * (self.down.numel() + self.up.numel()) * length


def add_low_rank(model: nn.Module, *, rank: int, alpha: float) -> None:
    """Adapt every linear map of a model.

    Args:
        model: Changed in place.
        rank: Rank of each change, 1 or more; at most the shorter side of the map is used.
        alpha: Factor on each change, times `rank`; above 0.

    Raises:
        ConfigError: A map cannot be adapted or is adapted already, there is none, or a number is
            out of range.
    """
    require_whole("rank", rank, 1)
    require_number("alpha", alpha, "above 0", lambda alpha: alpha > 0)
    maps: list[Linear] = []
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            if module.adaptation is not None:
                raise ConfigError(f"{name} is adapted already.  Merge its change first.")
            maps.append(module)
        elif isinstance(module, nn.Linear):
            raise ConfigError(
                f"{name} is a torch.nn.{type(module).__name__}, which cannot be adapted.  Build it "
                "as regard.layers.Linear."
            )
    if not maps:
        raise ConfigError("the model has no linear map to adapt.  Train all of its weights.")
    for module in maps:
        out_dim, in_dim = module.weight.shape
        own = min(rank, in_dim, out_dim)
        change = LowRank(in_dim, out_dim, rank=own, scale=alpha / own)
        module.adaptation = change.to(module.weight)


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
            down, up = tensors[owner + _DOWN], tensors[name]  # [rank, in_dim], [out_dim, rank]
            merged[f"{owner}.weight"] = merged[f"{owner}.weight"] + alpha / len(down) * up @ down
    return merged
