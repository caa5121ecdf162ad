"""Initial values that are drawn from a normal distribution."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def fill_normal(weight: Tensor, std: float = 1.0) -> Tensor:
    """Fill a weight with numbers of mean 0, in place; nothing is drawn on the meta device.

    There PyTorch's ``normal_`` would load its compiler first, which takes two seconds.

    Args:
        weight: Tensor of any shape.
        std: Standard deviation, 0 or more.

    Returns:
        The weight.
    """
    return weight if weight.is_meta else weight.normal_(std=std)
