"""The recurrent layer: PyTorch's kernel, the loop, padding, both directions."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from regard.layers.recurrent import (
    Lstm,
    LstmEncoderLayer,
    LstmState,
    _fused,
    lstm_cell,
    run_cells,
)

LENGTHS = torch.tensor([5, 2, 1])


def build(**changes):
    torch.manual_seed(0)
    return Lstm(3, 4, **changes).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(layer):
    """Make torch's own module with the weights of a layer."""
    module = nn.LSTM(3, 4, batch_first=True).double()
    with torch.no_grad():
        module.weight_ih_l0.copy_(layer.input.weight)
        module.weight_hh_l0.copy_(layer.recurrent.weight)
        module.bias_ih_l0.copy_(layer.input.bias)
        module.bias_hh_l0.zero_()
    return module


def test_it_computes_what_torchs_module_does():
    layer, x = build(), draw(3, 5, 3)
    state = LstmState(draw(3, 4, seed=2), draw(3, 4, seed=3))
    outputs, final = layer(x, state)
    expected, (hidden, cell) = reference(layer)(x, (state.hidden[None], state.cell[None]))
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(final, LstmState(hidden[0], cell[0]))


# bfloat16: 8 bits of mantissa, rounded at other places in the kernel than in the loop.
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 0.01)],
)
def test_the_kernel_and_the_loop_agree(dtype, tolerance):
    layer, x = build().to(dtype), draw(3, 5, 3).to(dtype)
    state = LstmState(draw(3, 4, seed=2).to(dtype), draw(3, 4, seed=3).to(dtype))
    kernel, kernel_final = _fused(x, state, layer.weights(dtype))
    loop, loop_final = run_cells(x, state, layer.weights(dtype))
    torch.testing.assert_close(kernel, loop, rtol=0, atol=tolerance)
    torch.testing.assert_close(kernel_final, loop_final, rtol=0, atol=tolerance)


def test_the_state_carries_on():
    layer, x = build(), draw(3, 5, 3)
    outputs, final = layer(x)
    first, state = layer(x[:, :2])
    second, state = layer(x[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), outputs)
    torch.testing.assert_close(state, final)


def test_a_cell_takes_one_step_of_it():
    layer, x = build(), draw(3, 1, 3)
    outputs, final = layer(x)
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    state = lstm_cell(x[:, 0], LstmState(zeros, zeros), layer.weights(torch.float64))
    torch.testing.assert_close(state.hidden, outputs[:, 0])
    torch.testing.assert_close(state, final)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_padded_rows_are_read_as_if_alone(is_reversed):
    layer, x = build(is_reversed=is_reversed), draw(3, 5, 3)
    outputs, final = layer(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, state = layer(x[row : row + 1, :length])
        torch.testing.assert_close(outputs[row : row + 1, :length], alone, rtol=0, atol=1e-15)
        torch.testing.assert_close(final.hidden[row : row + 1], state.hidden, rtol=0, atol=1e-15)
        torch.testing.assert_close(final.cell[row : row + 1], state.cell, rtol=0, atol=1e-15)


def test_a_row_without_any_valid_position_has_a_finite_state():
    outputs, final = build()(draw(2, 3, 3), lengths=torch.tensor([3, 0]))
    assert torch.isfinite(outputs).all()
    assert torch.equal(final.cell[1], torch.zeros(4, dtype=torch.float64))


def test_both_directions_equal_torchs_packed_sequences():
    torch.manual_seed(0)
    layer = LstmEncoderLayer(6, (False, True)).double()
    module = nn.LSTM(6, 3, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for direction, suffix in zip(layer.directions, ("l0", "l0_reverse"), strict=True):
            getattr(module, f"weight_ih_{suffix}").copy_(direction.input.weight)
            getattr(module, f"weight_hh_{suffix}").copy_(direction.recurrent.weight)
            getattr(module, f"bias_ih_{suffix}").copy_(direction.input.bias)
            getattr(module, f"bias_hh_{suffix}").zero_()
    x = draw(3, 5, 6)
    outputs, final = layer(x, LENGTHS)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True)
    found, (hidden, cell) = module(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(found, batch_first=True)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(outputs[row, :length], expected[row, :length])
    torch.testing.assert_close(final, LstmState(*(torch.cat([*t], dim=-1) for t in (hidden, cell))))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_first_and_second_derivatives_are_right(lengths):
    torch.manual_seed(0)
    layer = Lstm(2, 2).double()
    x = draw(3, 5, 2).requires_grad_()
    weights = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]

    def read(x, *weights):
        names = [name for name, _ in layer.named_parameters()]
        outputs, final = torch.func.functional_call(
            layer, dict(zip(names, weights, strict=True)), (x,), {"lengths": lengths}
        )
        return outputs[:, :1], *final

    assert gradcheck(read, (x, *weights))
    assert gradgradcheck(read, (x, *weights))


def test_the_kernels_second_derivatives_in_float32_are_those_of_the_loop():
    layer, x = build().float(), draw(3, 5, 3).float()
    zeros = torch.zeros(3, 4)
    found = []
    for read in (_fused, run_cells):
        parameters = list(layer.parameters())
        outputs, final = read(x, LstmState(zeros, zeros), layer.weights(torch.float32))
        loss = outputs.cos().sum() + final.cell.square().sum()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        found.append(torch.autograd.grad(sum((g**3).sum() for g in gradients), parameters))
    for kernel, loop in zip(*found, strict=True):
        torch.testing.assert_close(kernel, loop, rtol=1e-4, atol=1e-5)


def test_the_forget_gate_begins_open():
    assert build().input.bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
