"""The Mesa layer against its definition, solved position by position."""

import re
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from regard.attention.mesa.layer_function import MesaState, mesa
from regard.errors import ConfigError, ShapeError

BATCH, HEADS, DIM, VALUE_DIM = 2, 3, 4, 5
Q = torch.zeros(2, 3, 5, 4, dtype=torch.float64)
WRONG_SHAPES = [
    ({"q": Q[0]}, "q has shape [3, 5, 4]; expected 4 axes, [batch, heads, length, dim]."),
    ({"k": Q[:, :1]}, "k has shape [2, 1, 5, 4]; expected [2, 3, 5, 4], as q."),
    ({"k": Q.int()}, "k is torch.int32 on cpu; expected floating point on cpu."),
    (
        {"v": Q[:, :, :4]},
        "v has shape [2, 3, 4, 4]; expected [2, 3, 5, value_dim] to fit k [2, 3, 5, 4].",
    ),
    ({"v": Q.float()}, "v is torch.float32 on cpu; expected torch.float64 on cpu, as q."),
    (
        {"regularization": torch.ones(4)},
        "regularization has shape [4]; expected [3, 4], [heads, dim].",
    ),
    ({"forget": Q}, "forget has shape [2, 3, 5, 4]; expected [2, 3, 5], [batch, heads, length]."),
    ({"write": Q[0, 0]}, "write has shape [5, 4]; expected [2, 3, 5], [batch, heads, length]."),
    (
        {"initial": MesaState(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 4))},
        "initial.keys has shape [2, 3, 4, 5]; expected [2, 3, 4, 4], [batch, heads, dim, dim].",
    ),
    (
        {"initial": MesaState(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 5, 4))},
        "initial.values has shape [2, 3, 5, 4]; expected [2, 3, 4, 4], "
        "[batch, heads, value_dim, dim].",
    ),
    ({"lengths": torch.tensor([5])}, "lengths has shape [1]; expected [2], one a row."),
    ({"lengths": torch.ones(2)}, "lengths is torch.float32; expected integers."),
]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_inputs(
    length, *, batch=BATCH, heads=HEADS, dim=DIM, value_dim=VALUE_DIM
) -> tuple[Any, dict[str, Any]]:
    """Give q, k, v and, by name, regularization, forget and write gates."""
    by_position = (batch, heads, length)
    tensors = [draw(*by_position, size, seed=i) for i, size in enumerate((dim, dim, value_dim))]
    return tensors, {
        "regularization": 0.3 + draw(heads, dim, seed=3).square(),
        "forget": -draw(*by_position, seed=4).square() / 4,
        "write": draw(*by_position, seed=5).sigmoid(),
    }


def define(q, k, v, *, regularization, forget=None, write=None, h=0.0, g=0.0):
    """Solve position by position with matrices of their own; also give the last H and G."""
    forget = torch.zeros_like(q[..., 0]) if forget is None else forget
    write = torch.ones_like(q[..., 0]) if write is None else write
    outputs = []
    for t in range(q.shape[2]):
        kept, k_t = forget[:, :, t, None, None].exp(), k[:, :, t, None, :]
        h = kept * h + write[:, :, t, None, None] * k_t.mT * k_t
        g = kept * g + write[:, :, t, None, None] * v[:, :, t, :, None] * k_t
        x = torch.linalg.solve(h + torch.diag_embed(regularization), q[:, :, t])
        outputs.append((g @ x[..., None]).squeeze(-1))
    return torch.stack(outputs, dim=2), h, g


def assert_close(found, wanted, tolerance=1e-8):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 11, 64])
@pytest.mark.parametrize("length", [1, 8, 11])
def test_it_equals_the_direct_solve_whatever_the_chunks(length, chunk):
    tensors, options = draw_inputs(length)
    assert_close(mesa(*tensors, **options, chunk=chunk), define(*tensors, **options)[0])


@pytest.mark.parametrize("names", [(), ("forget",), ("write",)], ids=" ".join)
def test_without_a_gate_all_is_kept_and_all_is_written(names):
    tensors, options = draw_inputs(9)
    options = {name: options[name] for name in ("regularization", *names)}
    assert_close(mesa(*tensors, **options, chunk=4), define(*tensors, **options)[0])


def test_it_equals_the_direct_solve_with_wide_heads_and_a_long_past():
    tensors, options = draw_inputs(300, batch=1, heads=1, dim=32, value_dim=16)
    assert_close(mesa(*tensors, **options, num_iterations=60), define(*tensors, **options)[0])


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 20), chunk=st.integers(1, 24), dim=st.integers(1, 6), gated=st.booleans()
)
def test_it_equals_the_direct_solve_for_drawn_sizes(length, chunk, dim, gated):
    tensors, options = draw_inputs(length, batch=1, heads=2, dim=dim, value_dim=2)
    if not gated:
        options = {"regularization": options["regularization"]}
    assert_close(mesa(*tensors, **options, chunk=chunk), define(*tensors, **options)[0])


def test_a_gate_that_forgets_all_leaves_only_its_own_position():
    tensors, options = draw_inputs(6)
    options["forget"] = options["forget"].clone()
    options["forget"][:, :, 4] = -1000.0
    q, k, v = (x[:, :, 4:5] for x in tensors)
    write = options["write"][:, :, 4:5]
    wanted = define(q, k, v, regularization=options["regularization"], write=write)[0]
    assert_close(mesa(*tensors, **options, chunk=3)[:, :, 4:5], wanted)


def test_it_recalls_the_value_of_a_key_seen_before():
    keys, values = torch.linalg.qr(draw(1, 1, 8, 8))[0], draw(1, 1, 8, 3, seed=1)
    q = torch.cat([torch.zeros_like(keys), keys], dim=2)
    k, v = (torch.cat([x, torch.zeros_like(x)], dim=2) for x in (keys, values))
    out = mesa(q, k, v, regularization=torch.full((1, 8), 1e-9, dtype=torch.float64))
    assert_close(out[:, :, 8:], values, tolerance=1e-7)


def test_a_query_of_zeros_gives_zeros():
    (q, k, v), options = draw_inputs(5)
    q[:, :, 2] = 0.0
    assert torch.equal(mesa(q, k, v, **options)[:, :, 2], torch.zeros(BATCH, HEADS, VALUE_DIM))


def test_tiny_queries_are_solved_as_exactly_as_others():
    (q, k, v), options = draw_inputs(5)
    q, k, v = (x.float() for x in (q, k, v))
    small = mesa(q * 1e-30, k, v, **options)
    torch.testing.assert_close(small * 1e30, mesa(q, k, v, **options))


def test_a_past_that_is_empty_gives_an_empty_output():
    tensors, options = draw_inputs(0)
    assert mesa(*tensors, **options).shape == (BATCH, HEADS, 0, VALUE_DIM)


def test_going_on_from_a_state_equals_one_pass():
    tensors, options = draw_inputs(11)
    gates = ("forget", "write")
    before = {name: x[:, :, :6] if name in gates else x for name, x in options.items()}
    after = {name: x[:, :, 6:] if name in gates else x for name, x in options.items()}
    first, state = mesa(*(x[:, :, :6] for x in tensors), **before, chunk=4, return_state=True)
    second = mesa(*(x[:, :, 6:] for x in tensors), **after, chunk=4, initial=state)
    assert_close(torch.cat([first, second], dim=2), mesa(*tensors, **options), tolerance=1e-12)


def test_the_final_state_holds_h_and_g_of_the_last_position():
    tensors, options = draw_inputs(7)
    _, state = mesa(*tensors, **options, chunk=3, return_state=True)
    _, h, g = define(*tensors, **options)
    assert_close(state.keys, h, tolerance=1e-12)
    assert_close(state.values, g, tolerance=1e-12)


@pytest.mark.parametrize("num_iterations", [2, 30])
def test_generation_step_by_step_equals_one_pass_whether_solved_exactly_or_not(num_iterations):
    (q, k, v), options = draw_inputs(9)
    wanted = mesa(q, k, v, **options, num_iterations=num_iterations)
    state = MesaState(
        q.new_zeros(BATCH, HEADS, DIM, DIM), q.new_zeros(BATCH, HEADS, VALUE_DIM, DIM)
    )
    for t in range(9):
        out, state = state.step(
            q[:, :, t],
            k[:, :, t],
            v[:, :, t],
            regularization=options["regularization"],
            forget=options["forget"][:, :, t],
            write=options["write"][:, :, t],
            num_iterations=num_iterations,
        )
        assert_close(out, wanted[:, :, t], tolerance=1e-11)
        assert state.keys.shape == (BATCH, HEADS, DIM, DIM)


def test_a_state_keeps_the_rows_selected_in_their_order():
    tensors, options = draw_inputs(4)
    _, state = mesa(*tensors, **options, return_state=True)
    chosen = state.select(torch.tensor([1, 1, 0]))
    assert torch.equal(chosen.keys, state.keys[[1, 1, 0]])
    assert torch.equal(chosen.values, state.values[[1, 1, 0]])


def test_padded_positions_give_zeros_and_leave_no_trace():
    tensors, options = draw_inputs(7)
    lengths = torch.tensor([7, 4])
    padded = [x.clone() for x in tensors]
    for x in padded:
        x[1, :, 4:] = float("nan")
    out, state = mesa(*padded, **options, chunk=3, lengths=lengths, return_state=True)
    assert torch.equal(out[1, :, 4:], torch.zeros(HEADS, 3, VALUE_DIM))
    gates = ("forget", "write")
    short = {name: x[1:, :, :4] if name in gates else x for name, x in options.items()}
    wanted, alone = mesa(*(x[1:, :, :4] for x in tensors), **short, return_state=True)
    assert_close(out[1:, :, :4], wanted, tolerance=1e-12)
    assert_close(state.keys[1:], alone.keys, tolerance=1e-12)


def draw_systems():
    """Give queries, H, Lambda and the function that solves (H + Lambda) x = q by the layer."""
    q, root = draw(BATCH, HEADS, 6, 16), draw(BATCH, HEADS, 16, 16, seed=1) / 2
    h, regularization = root @ root.mT, 0.1 + draw(HEADS, 16, seed=2).square()
    # Keys of zeros add nothing to H, and with the identity as G the output is x itself.
    state = MesaState(h, torch.eye(16, dtype=q.dtype).expand_as(h))
    nothing = torch.zeros_like(q)
    solve = partial(mesa, q, nothing, nothing, regularization=regularization, initial=state)
    return q, h + torch.diag_embed(regularization), solve


def test_fewer_iterations_leave_a_larger_error():
    q, matrix, solve = draw_systems()
    wanted = torch.linalg.solve(matrix, q.mT).mT
    errors = []
    for count in (1, 2, 4, 8, 20):
        error = solve(num_iterations=count) - wanted
        # The norm that conjugate gradient lowers in every iteration.
        errors.append((error * (error @ matrix)).sum(-1).sqrt())
    assert all(bool((after < before).all()) for before, after in pairwise(errors))
    assert float(errors[0].min()) > 0.1
    assert float(errors[-1].max()) < 1e-9


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_a_tolerance_bounds_the_residual_of_every_position(tolerance):
    q, matrix, solve = draw_systems()
    scale = matrix.diagonal(dim1=-2, dim2=-1)[:, :, None].sqrt()
    residual = q - solve(tolerance=tolerance, num_iterations=100) @ matrix
    fraction = (residual / scale).norm(dim=-1) / (q / scale).norm(dim=-1)
    assert float(fraction.max()) <= tolerance
    assert float(fraction.max()) > tolerance / 100


def test_gradients_equal_those_of_the_definition():
    tensors, options = draw_inputs(7)
    inputs = [x.requires_grad_() for x in (*tensors, *options.values())]
    cotangent = draw(BATCH, HEADS, 7, VALUE_DIM, seed=9)
    found = torch.autograd.grad(mesa(*tensors, **options, chunk=3), inputs, cotangent)
    wanted = torch.autograd.grad(define(*tensors, **options)[0], inputs, cotangent)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


def of_tensors(q, k, v, regularization, forget, write, keys, values):
    """View the layer as a function of all its tensors; to output and final state."""
    out, state = mesa(
        q,
        k,
        v,
        regularization=regularization,
        forget=forget,
        write=write,
        initial=MesaState(keys, values),
        chunk=2,
        num_iterations=6,
        return_state=True,
    )
    return out, state.keys, state.values


def draw_all(length):
    """Give all tensors of a small layer, with a state."""
    tensors, options = draw_inputs(length, batch=1, heads=1, dim=2, value_dim=2)
    seen = draw(1, 1, 2, 2, seed=7)
    return [*tensors, *options.values(), seen @ seen.mT, draw(1, 1, 2, 2, seed=8)]


@pytest.mark.slow
def test_first_derivatives_in_every_tensor_are_exact():
    inputs = [x.requires_grad_() for x in draw_all(3)]
    assert gradcheck(of_tensors, inputs, check_forward_ad=True)


@pytest.mark.slow
def test_second_derivatives_in_every_tensor_are_exact():
    inputs = [x.requires_grad_() for x in draw_all(3)]
    assert gradgradcheck(of_tensors, inputs)


def test_forward_mode_and_reverse_mode_agree_under_torch_func():
    inputs = tuple(draw_all(4))
    tangents = tuple(draw(*x.shape, seed=20 + i) for i, x in enumerate(inputs))

    def loss(*tensors):
        return torch.stack([x.square().sum() for x in of_tensors(*tensors)]).sum()

    everything = tuple(range(len(inputs)))
    gradient = torch.func.grad(loss, argnums=everything)
    pushed = torch.func.jvp(loss, inputs, tangents)[1]
    pulled = sum((g * t).sum() for g, t in zip(gradient(*inputs), tangents, strict=True))
    assert_close(pushed, pulled)
    products = torch.func.jvp(gradient, inputs, tangents)[1]
    leaves = [x.clone().requires_grad_() for x in inputs]
    grads = torch.autograd.grad(loss(*leaves), leaves, create_graph=True)
    for one, other in zip(products, torch.autograd.grad(grads, leaves, tangents), strict=True):
        assert_close(one, other)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(made, torch.Tensor):
                self.numel = max(self.numel, made.numel())
        return result


def test_no_tensor_is_as_large_as_a_matrix_for_every_position():
    length, dim = 256, 32
    tensors, options = draw_inputs(length, batch=1, heads=1, dim=dim, value_dim=dim)
    inputs = [x.float().requires_grad_() for x in tensors]
    with LargestTensor() as largest:
        mesa(*inputs, **options, chunk=32, num_iterations=3).sum().backward()
    assert largest.numel <= length * 2 * dim


def count_saved(length, **options):
    """Count the numbers kept for the backward pass, and those of the largest tensor."""
    tensors, given_options = draw_inputs(length, batch=1, heads=1, dim=16, value_dim=16)
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    inputs = [x.requires_grad_() for x in tensors]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mesa(*inputs, **given_options, chunk=16, **options)
    return sum(sizes), max(sizes)


def test_what_is_kept_for_the_backward_pass_grows_linearly_and_holds_no_matrix_by_position():
    short, _ = count_saved(64)
    long, largest = count_saved(256)
    assert long <= 4 * short
    assert largest < 256 * 16 * 16


def test_what_is_kept_does_not_grow_with_the_iterations():
    assert count_saved(64, num_iterations=2) == count_saved(64, num_iterations=20)


def test_bfloat16_is_computed_in_float32():
    tensors, options = draw_inputs(50)
    halves = [x.bfloat16() for x in tensors]
    out, state = mesa(*halves, **options, return_state=True)
    assert out.dtype == torch.bfloat16
    assert state.keys.dtype == torch.float32
    wanted = define(*(x.double() for x in halves), **options)[0]
    # Half a unit in the last of the 8 places of bfloat16.
    torch.testing.assert_close(out.double(), wanted, rtol=2**-8, atol=1e-4)


def test_autocast_does_not_lower_the_precision():
    tensors, options = draw_inputs(20)
    tensors = [x.float().requires_grad_() for x in tensors]
    wanted = torch.autograd.grad(mesa(*tensors, **options).sum(), tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mesa(*tensors, **options)
    found = torch.autograd.grad(out.sum(), tensors)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_a_regularization_that_is_not_positive_gives_no_number():
    tensors, options = draw_inputs(4)
    options["regularization"][1, 2] = 0.0
    out = mesa(*tensors, **options)
    assert out[:, 1].isnan().all()
    assert out[:, 0].isfinite().all()


def test_a_key_that_is_not_a_number_is_not_hidden():
    (q, k, v), options = draw_inputs(6)
    k[:, :, 3, 0] = float("nan")
    assert mesa(q, k, v, **options)[:, :, 3:].isnan().all()


RESETS = [(reset, gate) for reset in (1, 6, 7, 8, 13) for gate in (-torch.inf, -1e6, -800.0)]


@pytest.mark.parametrize(("reset", "gate"), RESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_closed_forget_gate_resets_exactly(reset, gate, dtype):
    """Positions from a gate of 0, or nearly 0, on are as they are without those before."""
    tensors, options = draw_inputs(14)
    tensors = [tensor.to(dtype) for tensor in tensors]
    options = {name: tensor.to(dtype) for name, tensor in options.items()}
    options["forget"][:, :, reset] = gate
    leaves = [tensor.requires_grad_() for tensor in (*tensors, options["forget"])]
    whole, state = mesa(*tensors, **options, chunk=7, num_iterations=8, return_state=True)
    after = {
        name: x if name == "regularization" else x[:, :, reset:] for name, x in options.items()
    }
    alone, alone_state = mesa(
        *(x[:, :, reset:] for x in tensors), **after, chunk=7, num_iterations=8, return_state=True
    )
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14
    assert_close(whole[:, :, reset:], alone, tolerance)
    assert_close(state.values, alone_state.values, tolerance)
    slopes = torch.autograd.grad(whole[:, :, reset:].square().sum(), leaves)
    assert all(slope[:, :, :reset].abs().amax() == 0 for slope in slopes)
    assert all(slope.isfinite().all() for slope in slopes)


def test_gates_far_below_one_half_keep_their_ratios():
    """One small gate after another costs float32 no accuracy, whatever their product is."""
    tensors, options = draw_inputs(60)
    options["forget"] = options["forget"] - 30.0 * (torch.arange(60) % 3 == 0)
    found = mesa(
        *(x.float() for x in tensors), **{n: x.float() for n, x in options.items()}, chunk=64
    )
    assert_close(found.double(), define(*tensors, **options)[0], 3e-6)


@pytest.mark.parametrize(("given", "message"), WRONG_SHAPES, ids=[m[:24] for _, m in WRONG_SHAPES])
def test_a_tensor_that_does_not_fit_is_named(given, message):
    call = partial(mesa, **{"q": Q, "k": Q, "v": Q, "regularization": torch.ones(3, 4)} | given)
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        call()


def test_a_step_takes_one_position():
    state = MesaState(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    message = "k has shape [2, 3, 5, 4]; expected 3 axes, [batch, heads, dim], of one position."
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        state.step(Q[:, :, 0], Q, Q[:, :, 0], regularization=torch.ones(3, 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_iterations": 0}, "num_iterations=0: must be 1 or more."),
        ({"chunk": 0}, "chunk=0: must be 1 or more."),
        ({"tolerance": 0.0}, "tolerance=0.0: must be above 0, or None."),
    ],
)
def test_a_number_out_of_range_is_named(given, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        mesa(Q, Q, Q, regularization=torch.ones(3, 4), **given)
