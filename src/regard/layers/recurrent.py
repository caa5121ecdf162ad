"""Long short-term memory (Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000).

``i, f, g, o = W x + U h + b;  c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c')``

On a CPU a whole sequence runs through PyTorch's fused kernel, 1.5 to 2 times as fast as the loop;
its backward pass is made of differentiable operations, so reverse derivatives of any order exist,
but no forward-mode ones. Elsewhere the fused kernel (cuDNN's) has first derivatives only, so the
cell is applied in a loop. Cost: 8 dim (in_dim + dim) operations a position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.exporting import is_exporting
from regard.attention.readable import is_vmapped
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.layers.seq2seq_attention import Seq2SeqState

_CLOSED = 1e4  # sigmoid(1e4) is 1 and sigmoid(-1e4) is 0 in every floating type


class LstmState(NamedTuple):
    """Output and memory cell of one layer, ``[batch, dim]`` each."""

    hidden: Tensor
    cell: Tensor

    def select(self, rows: Tensor) -> LstmState:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        return LstmState(self.hidden.index_select(0, rows), self.cell.index_select(0, rows))


class EncodedSource(NamedTuple):
    """What an encoder returns: outputs ``[batch, length, dim]``, and each layer's last state.

    `lengths` are the valid positions ``[batch]``, None where no row is padded.
    """

    states: Tensor
    lengths: Tensor | None
    finals: list[LstmState]


@dataclass(kw_only=True)
class RecurrentState(Seq2SeqState):
    """The state of decoding between two tokens.

    Args:
        layers: Output and cell of each decoder layer.
        fed: What the next step reads besides its token, ``[batch, dim]``.
    """

    layers: list[LstmState]
    fed: Tensor

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        super().select(rows)
        self.layers = [layer.select(rows) for layer in self.layers]
        self.fed = self.fed.index_select(0, rows)


class LstmWeights(NamedTuple):
    """W ``[4 dim, in_dim]``, U ``[4 dim, dim]`` and b ``[4 dim]`` in the type of the input."""

    input: Tensor
    recurrent: Tensor
    bias: Tensor


def lstm_cell(x: Tensor, state: LstmState, weights: LstmWeights) -> LstmState:
    """Compute the state after one step with an input ``[batch, in_dim]``."""
    gates = F.linear(x, weights.input, weights.bias) + F.linear(state.hidden, weights.recurrent)
    i, f, g, o = gates.chunk(4, dim=-1)  # PyTorch's order
    cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
    return LstmState(o.sigmoid() * cell.tanh(), cell)


class Lstm(Layer):
    """One layer in one direction.

    Args:
        in_dim: Size of an input.
        dim: Size of an output and of the cell.
        is_reversed: Whether it reads from the last position to the first.
    """

    reads_weights_of_maps = True
    has_one_graph = False

    def __init__(self, in_dim: int, dim: int, *, is_reversed: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.is_reversed = is_reversed
        self.input = Linear(in_dim, 4 * dim, num_splits=4)
        self.recurrent = Linear(dim, 4 * dim, bias=False, num_splits=4)
        assert self.input.bias is not None
        # An open forget gate carries gradients far (Jozefowicz et al. 2015, section 2.2).
        nn.init.ones_(self.input.bias.data[dim : 2 * dim])

    def weights(self, dtype: torch.dtype) -> LstmWeights:
        """Cast the weights, once for all steps of a sequence."""
        assert self.input.bias is not None
        maps = self.input.adapted_weight(), self.recurrent.adapted_weight()
        return LstmWeights(*(tensor.to(dtype) for tensor in (*maps, self.input.bias)))

    def forward(
        self, x: Tensor, state: LstmState | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, LstmState]:
        """Read a sequence.

        Args:
            x: ``[batch, length, in_dim]``.
            state: Before the first position read; None is zeros.
            lengths: Valid positions of each row, ``[batch]``, padding on the right; None means all.

        Returns:
            Outputs ``[batch, length, dim]``, undefined at padding, and the state after the last
            valid position read.
        """
        device_type = x.device.type
        if torch.is_autocast_enabled(device_type):  # which the fused kernel does not know
            x = x.to(torch.get_autocast_dtype(device_type))
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.dim)
            state = LstmState(zeros, zeros)
        state = LstmState(state.hidden.to(x.dtype), state.cell.to(x.dtype))
        weights = self.weights(x.dtype)
        if lengths is not None:
            x, weights = _hold_at_padding(x, lengths, weights)
        x = x.flip(1) if self.is_reversed else x
        with torch.autocast(device_type, enabled=False):
            has_kernel = device_type == "cpu" and not is_vmapped()
            outputs, state = (_fused if has_kernel else run_cells)(x, state, weights)
        if self.is_reversed:
            return outputs.flip(1), state
        if lengths is not None:
            last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.dim)
            state = LstmState(outputs.gather(1, last)[:, 0], state.cell)
        return outputs, state

    def describe(self) -> Description:
        """Return the sizes of input and output, and the direction."""
        sizes = f"{self.input.weight.shape[1]:,} to {self.dim:,}"
        return Description("LSTM", (sizes, "right to left") if self.is_reversed else (sizes,))


class LstmEncoderLayer(Layer):
    """One layer, its directions side by side.

    Args:
        dim: Size of input and output, which the directions share equally.
        reversals: For each direction, whether it reads from right to left.
    """

    def __init__(self, dim: int, reversals: tuple[bool, ...]) -> None:
        super().__init__()
        self.directions = nn.ModuleList(
            Lstm(dim, dim // len(reversals), is_reversed=is_reversed) for is_reversed in reversals
        )

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, LstmState]:
        """Read ``[batch, length, dim]``; return outputs of that shape, and the last state."""
        outputs, states = zip(
            *(direction(x, lengths=lengths) for direction in self.directions), strict=True
        )
        hidden, cell = (torch.cat(parts, dim=-1) for parts in zip(*states, strict=True))
        return torch.cat(outputs, dim=-1), LstmState(hidden, cell)

    def describe(self) -> Description:
        """Return the sizes of a direction, and how many there are."""
        layers = [layer for layer in self.directions if isinstance(layer, Lstm)]
        first = layers[0].describe()
        if len(layers) == 1:
            return first
        return Description("LSTM", (f"{first.facts[0]} in each of {len(layers)} directions",))


def run_cells(x: Tensor, state: LstmState, weights: LstmWeights) -> tuple[Tensor, LstmState]:
    """Apply the cell to each position of ``[batch, length, in_dim]``; return outputs and state."""
    outputs = []
    for position in x.unbind(1):
        state = lstm_cell(position, state, weights)
        outputs.append(state.hidden)
    return torch.stack(outputs, dim=1), state


def _fused(x: Tensor, state: LstmState, weights: LstmWeights) -> tuple[Tensor, LstmState]:
    """Compute what `run_cells` computes of ``[batch, length, dim]``, by PyTorch's kernel."""
    # PyTorch would write an exported graph for one length, position by position.
    compute = _lstm_operator if is_exporting() else _run_kernel
    outputs, hidden, cell = compute(x, *state, *weights)
    return outputs, LstmState(hidden, cell)


def _run_kernel(
    x: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    outputs, last_hidden, last_cell = torch.lstm(
        x,
        (hidden[None], cell[None]),
        (weight, recurrent, bias, torch.zeros_like(bias)),
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=True,
    )
    return outputs, last_hidden[0], last_cell[0]  # [batch, length, dim], [batch, dim] twice


@torch.library.custom_op("regard::lstm", mutates_args=())
def _lstm_operator(
    x: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    outputs, hidden, cell = _run_kernel(x, hidden, cell, weight, recurrent, bias)
    # [batch, length, dim], [batch, dim] twice, none a view of another
    return outputs.contiguous(), hidden.clone(), cell.clone()


@_lstm_operator.register_fake
def _(x: Tensor, hidden: Tensor, cell: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    outputs = x.new_empty(*x.shape[:2], hidden.shape[1])  # [batch, length, dim]
    return outputs, torch.empty_like(hidden), torch.empty_like(cell)


def _hold_at_padding(
    x: Tensor, lengths: Tensor, weights: LstmWeights
) -> tuple[Tensor, LstmWeights]:
    """Add an input that is 1 at padding, opens the forget gate there and closes the input gate.

    The cell keeps its value through padding: at the end it is that of the last valid position, and
    read from the right it is still the initial one, which must be zero, at the first valid one.

    Returns:
        ``[batch, length, in_dim + 1]``, and the weights for it.
    """
    is_padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]  # [batch, length]
    dim = len(weights.bias) // 4
    sizes = ((dim, -_CLOSED), (dim, _CLOSED), (2 * dim, 0.0))
    column = torch.cat([weights.input.new_full((size,), value) for size, value in sizes])
    wider = torch.cat([weights.input, column[:, None]], dim=1)
    return torch.cat([x, is_padding[..., None].to(x.dtype)], dim=2), weights._replace(input=wider)
