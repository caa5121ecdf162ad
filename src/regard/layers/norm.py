"""Layer normalisation (Ba et al. 2016) and RMS normalisation (Zhang & Sennrich 2019).

Weights are float32 over inputs of any floating type.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ShapeError
from regard.layers.layer import Description, Layer
from regard.option_checks import require_number, require_whole

NormKind = Literal["layer", "rms", "zero_centered_rms"]


class LayerNorm(Layer):
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axis.

    Args:
        dim: Size of the last axis.
        epsilon: Added to the variance, 0 or more.
        bias: Whether it has one.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(self, dim: int, epsilon: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__()
        require_whole("dim", dim, 1)
        require_number("epsilon", epsilon, "0 or more", lambda epsilon: epsilon >= 0)
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[batch, length, dim]`` (any leading axes), with statistics in float32."""
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, weight.shape, weight, bias, self.epsilon)

    @property
    def scale(self) -> Tensor:
        """What normalised numbers are multiplied by, ``[dim]``."""
        return self.weight

    def describe(self) -> Description:
        """Return its kind."""
        return Description("layer norm")


class RMSNorm(Layer):
    """``x / sqrt(mean(x^2) + epsilon) * weight`` over the last axis (equation 4 of the paper).

    Args:
        dim: Size of the last axis.
        epsilon: Added to the mean square, 0 or more.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(self, dim: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        require_whole("dim", dim, 1)
        require_number("epsilon", epsilon, "0 or more", lambda epsilon: epsilon >= 0)
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, with statistics in float32.

        Args:
            x: ``[batch, length, dim]``, with any leading axes.

        Returns:
            The same shape.

        Raises:
            ShapeError: The last axis has another size.
        """
        return self._normalize(x).to(x.dtype) * self.weight.to(x.dtype)

    @property
    def scale(self) -> Tensor:
        """What normalised numbers are multiplied by, ``[dim]``."""
        return self.weight

    def _normalize(self, x: Tensor) -> Tensor:
        """Return ``[..., dim]`` with a mean square of 1, in float32 at least."""
        if x.shape[-1:] != self.weight.shape:
            dim = len(self.weight)
            raise ShapeError(f"x has shape {list(x.shape)}; expected [..., {dim}] to fit the norm.")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return wide * (wide.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()

    def describe(self) -> Description:
        """Return its kind."""
        return Description("RMS norm")


class ZeroCenteredRMSNorm(RMSNorm):
    """``x / sqrt(mean(x^2) + epsilon) * (1 + weight)``, as Gemma has it (Gemma Team 2024).

    Its weights begin at 0, so that decay pulls them to a factor of 1.

    Args:
        dim: Size of the last axis.
        epsilon: Added to the mean square, 0 or more.
    """

    def __init__(self, dim: int, epsilon: float = 1e-5) -> None:
        super().__init__(dim, epsilon)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[batch, length, dim]`` (any leading axes), with factors in float32."""
        normal = self._normalize(x)
        return (normal * self.scale.to(normal.dtype)).to(x.dtype)

    @property
    def scale(self) -> Tensor:
        """What normalised numbers are multiplied by, ``[dim]``."""
        return 1 + self.weight

    def describe(self) -> Description:
        """Return its kind."""
        return Description("zero-centered RMS norm")


NORMS: dict[NormKind, type[LayerNorm | RMSNorm]] = {
    "layer": LayerNorm,
    "rms": RMSNorm,
    "zero_centered_rms": ZeroCenteredRMSNorm,
}
