"""Gated convolutions and blocks of them (Dauphin et al. 2017; Gehring et al. 2017, section 3).

``a, b = W [x_{i-k+1}, ..., x_i] + bias;  y_i = a * sigmoid(b)``

The window is laid out as one vector, so that the convolution is one matrix product and its kernel a
matrix like any other. Blocks scale sums by sqrt(0.5), as the authors' code (fairseq) does. Cost: 4
width dim^2 operations a position, and source x dim where a block attends to a source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention import Pattern
from regard.layers.cache import PositionCounter
from regard.layers.dropout import Dropout
from regard.layers.layer import EMBEDDINGS, INPUT, Description, Flow, Layer
from regard.layers.linear import Linear
from regard.layers.seq2seq_attention import Seq2SeqAttention, Seq2SeqState
from regard.option_checks import require_number, require_whole

HALF = math.sqrt(0.5)
"""Keeps the variance of a sum of two."""


@dataclass(eq=False)
class ConvolutionCache(PositionCounter):
    """The last inputs of a causal convolution, one less than the width of its kernel."""

    inputs: Tensor | None = None  # [batch, kernel_width - 1, dim]

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        if self.inputs is not None:
            self.inputs = self.inputs.index_select(0, rows)


class GatedConvolution(Layer):
    """A convolution to twice the size, one half of which gates the other.

    Args:
        dim: Size of input and output.
        kernel_width: Positions seen at once, 1 or more.
        is_causal: Whether a position sees only itself and those before it; else the same number
            before and after it, one more after it where the width is even.
        keep_rate: One minus the rate of dropout on the input, for which the initial weights
            compensate (Gehring et al. 2017, section 3.5).
    """

    def __init__(
        self, dim: int, kernel_width: int, *, is_causal: bool, keep_rate: float = 1.0
    ) -> None:
        super().__init__()
        require_whole("kernel_width", kernel_width, 1)
        require_number("keep_rate", keep_rate, "above 0 and at most 1", lambda rate: 0 < rate <= 1)
        self.kernel_width = kernel_width
        self.num_before = kernel_width - 1 if is_causal else (kernel_width - 1) // 2
        # The paper's variance 4 p / (width dim), as a factor on Glorot's.
        gain = math.sqrt(2.0 * keep_rate * (kernel_width + 1) / kernel_width)
        self.window = Linear(kernel_width * dim, 2 * dim, init_scale=gain, num_splits=2)

    def forward(self, x: Tensor, cache: ConvolutionCache | None = None) -> Tensor:
        """Convolve.

        Args:
            x: ``[batch, length, dim]``, zeros at padding.
            cache: State of a causal convolution: the inputs before `x`; updated.

        Returns:
            Same shape as `x`.
        """
        if cache is None or cache.inputs is None:
            x = F.pad(x, (0, 0, self.num_before, self.kernel_width - 1 - self.num_before))
        else:
            x = torch.cat([cache.inputs, x], dim=1)
        length = x.shape[1] - self.kernel_width + 1
        if cache is not None:
            cache.inputs = x[:, length:].clone()  # without a reference to the others
            cache.length += length
        windows = torch.cat([x[:, i : i + length] for i in range(self.kernel_width)], dim=-1)
        value, gate = self.window(windows).chunk(2, dim=-1)
        return value * gate.sigmoid()

    def describe(self) -> Description:
        """Return the width of the kernel, before and after each position."""
        after = self.kernel_width - 1 - self.num_before
        kernel = f"kernel {self.kernel_width}: {self.num_before} before, {after} after"
        return Description("gated convolution", (kernel,))


class ConvBlock(Layer):
    """``sqrt(0.5) (x + convolution(dropout(x)))``.

    Args:
        dim: Size of input and output.
        kernel_width: Positions seen at once, 1 or more.
        dropout: On the input of the convolution.
        is_causal: Whether a position sees those before it only.
    """

    def __init__(
        self, dim: int, kernel_width: int, dropout: Dropout, *, is_causal: bool = False
    ) -> None:
        super().__init__()
        self.convolution = GatedConvolution(
            dim, kernel_width, is_causal=is_causal, keep_rate=1.0 - dropout.p
        )
        self.dropout = dropout

    def forward(
        self, x: Tensor, is_valid: Tensor | None = None, cache: ConvolutionCache | None = None
    ) -> Tensor:
        """Map positions.

        Args:
            x: ``[batch, length, dim]``.
            is_valid: Which of them are not padding, ``[batch, length, 1]``; None means all.
            cache: State of a causal block: the inputs before `x`; updated.

        Returns:
            Same shape as `x`.
        """
        dropped = self.dropout(x)
        if is_valid is not None:
            dropped = dropped.masked_fill(~is_valid, 0.0)
        return (x + self.convolution(dropped, cache)) * HALF

    def steps(self) -> list[Flow]:
        """Return the convolution and its residual sum."""
        return [Flow("convolution", (INPUT,)), Flow("sum", (INPUT, "convolution"))]

    def make_cache(self) -> ConvolutionCache:
        """Return an empty cache of a causal block."""
        return ConvolutionCache()


@dataclass(kw_only=True)
class ConvolutionalState(Seq2SeqState):
    """The state of decoding between two tokens.

    Args:
        caches: The last inputs of each decoder layer.
    """

    caches: list[ConvolutionCache] = field(default_factory=list)

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        super().select(rows)
        for cache in self.caches:
            cache.select(rows)


class ConvDecoderBlock(Layer):
    """A causal convolution, attention to the source by its output and the token, residual.

    Args:
        dim: Size of input and output.
        kernel_width: Positions seen at once, 1 or more.
        dropout: On the input of the convolution.
        pattern: Pattern of attention.
    """

    def __init__(
        self,
        dim: int,
        kernel_width: int,
        dropout: Dropout,
        pattern: Pattern,
    ) -> None:
        super().__init__()
        self.convolution = GatedConvolution(
            dim, kernel_width, is_causal=True, keep_rate=1.0 - dropout.p
        )
        self.query = Linear(dim, dim)
        self.cross_attention = Seq2SeqAttention(dim, pattern)
        self.dropout = dropout

    def forward(
        self, x: Tensor, tokens: Tensor, state: Seq2SeqState, cache: ConvolutionCache
    ) -> Tensor:
        """Map the decoder's stream.

        Args:
            x: New positions, ``[batch, length, dim]``.
            tokens: Their embeddings, the same shape.
            state: The source, and the position of the first of `x`.
            cache: The inputs before `x`; updated.

        Returns:
            Same shape as `x`.
        """
        h = self.convolution(self.dropout(x), cache)
        queries = (self.query(h) + tokens) * HALF  # d_i = W_d h_i + b_d + g_i, equation 1
        context = state.attend(self.cross_attention, queries)
        return (x + (h + context * _root_of_length(state)) * HALF) * HALF

    def steps(self) -> list[Flow]:
        """Return the convolution, attention by its output and the tokens, and the sum of all."""
        return [
            Flow("convolution", (INPUT,)),
            Flow("query", ("convolution",)),
            Flow("with tokens", (EMBEDDINGS, "query")),
            Flow("cross_attention", ("with tokens",)),
            Flow("sum", (INPUT, "convolution", "cross_attention")),
        ]


def _root_of_length(state: Seq2SeqState) -> Tensor | float:
    """Restore the variance that a mean of m vectors loses: m sqrt(1 / m), section 3.4."""
    assert state.memory is not None
    keys = state.memory[0]
    lengths = state.row_lengths
    if lengths is None:
        return math.sqrt(keys.shape[1])
    return lengths.to(keys.dtype).sqrt()[:, None, None]  # [batch, 1, 1]
