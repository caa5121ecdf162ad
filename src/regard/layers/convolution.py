"""Gated convolutions over a sequence (Dauphin et al. 2017; Gehring et al. 2017, section 3.2).

``a, b = W [x_{i-k+1}, ..., x_i] + bias;  y_i = a * sigmoid(b)``

The window is laid out as one vector, so that the convolution is one matrix product and its kernel a
matrix like any other. Cost: 4 width dim^2 operations a position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.linear import Linear


class ConvolutionCache:
    """The last inputs of a causal convolution, one fewer than its kernel is wide; counts all."""

    def __init__(self) -> None:
        self.inputs: Tensor | None = None  # [batch, kernel_width - 1, dim]
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.inputs is not None:
            self.inputs = self.inputs.index_select(0, rows)


class GatedConvolution(nn.Module):
    """A convolution to twice the size, one half of which gates the other.

    Args:
        dim: Size of input and output.
        kernel_width: Positions seen at once, 1 or more.
        is_causal: Whether a position sees only itself and those before it; else as many on either
            side, one more after it where the width is even.
        keep_rate: One minus the rate of dropout on the input, which the initial weights make up
            for (Gehring et al. 2017, section 3.5).
    """

    def __init__(
        self, dim: int, kernel_width: int, *, is_causal: bool, keep_rate: float = 1.0
    ) -> None:
        super().__init__()
        self.kernel_width = kernel_width
        self.num_before = kernel_width - 1 if is_causal else (kernel_width - 1) // 2
        # The paper's variance 4 p / (width dim), told as a factor on Glorot's.
        gain = math.sqrt(2.0 * keep_rate * (kernel_width + 1) / kernel_width)
        self.window = Linear(kernel_width * dim, 2 * dim, gain=gain, num_parts=2)

    def forward(self, x: Tensor, cache: ConvolutionCache | None = None) -> Tensor:
        """Convolve.

        Args:
            x: ``[batch, length, dim]``, zeros at padding.
            cache: Of a causal convolution: the inputs before `x`, brought up to date.

        Returns:
            Same shape as `x`.
        """
        if cache is None or cache.inputs is None:
            x = F.pad(x, (0, 0, self.num_before, self.kernel_width - 1 - self.num_before))
        else:
            x = torch.cat([cache.inputs, x], dim=1)
        length = x.shape[1] - self.kernel_width + 1
        if cache is not None:
            cache.inputs = x[:, length:].clone()  # without holding on to the others
            cache.length += length
        windows = torch.cat([x[:, at : at + length] for at in range(self.kernel_width)], dim=-1)
        value, gate = self.window(windows).chunk(2, dim=-1)
        return value * gate.sigmoid()
