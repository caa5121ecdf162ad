"""MesaNet: its layer against a direct solve, the knob at inference, what it keeps."""

from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from regard.errors import ConfigError, ShapeError
from regard.layers.attention_config import AttentionConfig
from regard.layers.mesa_layer import MesaMixer, MesaSolver, ShortConvolution, gated_linear_attention
from regard.models.mesanet.model import MesaNet, MesaNetConfig

VOCAB = 20
SMALL = MesaNetConfig(num_layers=2, dim=16, num_heads=2, hidden_dim=24, dropout=0.0)
EXACT = MesaSolver(num_iterations=60, tolerance=1e-14)


def build(**changes):
    torch.manual_seed(0)
    model = MesaNet(msgspec.structs.replace(SMALL, **changes), VOCAB).double().eval()
    model.compute_dtype = torch.float64
    return model


def make_mixer(solver: MesaSolver | None = EXACT, *, conv_width=4) -> Any:
    torch.manual_seed(0)
    mixer = MesaMixer(
        12, 3, solver=solver, conv_width=conv_width, regularization_min=0.25, output_init_scale=1.0
    )
    with torch.no_grad():
        for parameter in mixer.parameters():  # away from the values it starts with
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer.double().eval()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def define(mixer, x, *, solves=True):
    """Compute the layer from its formulas, position by position, with matrices of their own."""
    batch, length, dim = x.shape
    heads, width = mixer.num_heads, mixer.convolution.width
    projected = x @ mixer.query_key_value.weight.T
    before = torch.cat([x.new_zeros(batch, width - 1, 2 * dim), projected[..., : 2 * dim]], dim=1)
    weight = mixer.convolution.weight
    gates = torch.sigmoid(x @ mixer.gates.weight.T + mixer.gates.bias)
    H = G = x.new_zeros(batch, heads, dim // heads, dim // heads)
    rows = []
    for t in range(length):
        qk = (before[:, t : t + width] * weight).sum(1)
        qk = (qk * torch.sigmoid(qk)).view(batch, 2, heads, dim // heads)
        q, k = (qk / (qk.square().sum(-1, keepdim=True) + 1e-6).sqrt()).unbind(1)
        v = projected[:, t, 2 * dim :].view(batch, heads, -1)
        forget, write = gates[:, t].view(batch, 2, heads, 1, 1).unbind(1)
        H = forget * H + write * k[..., :, None] * k[..., None, :]
        G = forget * G + write * v[..., :, None] * k[..., None, :]
        if solves:
            q = torch.linalg.solve(H + torch.diag_embed(mixer.regularization), q)
        o = (G @ q[..., None])[..., 0]
        o = o / (o.square().mean(-1, keepdim=True) + mixer.norm.epsilon).sqrt()
        rows.append((o * mixer.norm.weight).flatten(1))
    return torch.stack(rows, dim=1) @ mixer.output.weight.T


def assert_close(found, wanted, tolerance=1e-8):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@settings(max_examples=8, deadline=None)
@given(length=st.integers(1, 70), conv_width=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_whole_layer_equals_a_direct_solve_at_every_position(length, conv_width, seed):
    mixer, x = make_mixer(conv_width=conv_width), draw(2, length, 12, seed=seed)
    with torch.no_grad():
        assert_close(mixer(x), define(mixer, x))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 130])
def test_without_a_solver_the_layer_is_gated_linear_attention(length):
    mixer, x = make_mixer(None), draw(2, length, 12)
    with torch.no_grad():
        assert_close(mixer(x), define(mixer, x, solves=False), tolerance=1e-12)


def test_gradients_of_the_layer_are_those_of_the_direct_solve():
    mixer, x = make_mixer(), draw(2, 9, 12)
    along = draw(2, 9, 12, seed=1)
    found = torch.autograd.grad((mixer(x) * along).sum(), list(mixer.parameters()))
    wanted = torch.autograd.grad((define(mixer, x) * along).sum(), list(mixer.parameters()))
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("solver", [EXACT, None])
def test_padding_gives_the_outputs_of_shorter_rows(solver):
    mixer, x = make_mixer(solver), draw(2, 8, 12)
    padded = mixer(x, lengths=torch.tensor([8, 5]))
    assert_close(padded[:1], mixer(x[:1]), tolerance=1e-12)
    assert_close(padded[1:, :5], mixer(x[1:, :5]), tolerance=1e-12)


def test_lengths_and_a_cache_are_refused():
    mixer = make_mixer()
    with pytest.raises(ShapeError) as caught:
        mixer(draw(2, 3, 12), lengths=torch.tensor([3, 2]), cache=mixer.make_cache())
    assert str(caught.value) == ("lengths and cache do not go together: give rows of equal length.")


def test_gated_linear_attention_continues_from_its_state():
    q, k, v = (draw(2, 3, 10, 4, seed=seed) for seed in range(3))
    forget, write = -draw(2, 3, 10, seed=3).square(), draw(2, 3, 10, seed=4).sigmoid()
    whole, last = gated_linear_attention(q, k, v, forget=forget, write=write)
    parts, state = [], None
    for cut in (slice(0, 4), slice(4, 5), slice(5, 10)):
        q_, k_, v_, forget_, write_ = (x[:, :, cut] for x in (q, k, v, forget, write))
        out, state = gated_linear_attention(q_, k_, v_, forget=forget_, write=write_, initial=state)
        parts.append(out)
    assert_close(torch.cat(parts, dim=2), whole, tolerance=1e-12)
    assert_close(state, last, tolerance=1e-12)


@pytest.mark.parametrize("gate", [-torch.inf, -1e6])
@pytest.mark.parametrize("reset", [63, 64, 65])
def test_gated_linear_attention_forgets_all_by_a_closed_gate(gate, reset):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 70, 4, generator=generator) for _ in range(3))
    forget, write = torch.full((1, 2, 70), -0.01), torch.ones(1, 2, 70)
    forget[:, :, reset] = gate
    whole, state = gated_linear_attention(q, k, v, forget=forget, write=write)
    alone, alone_state = gated_linear_attention(
        *(x[:, :, reset:] for x in (q, k, v)),
        forget=forget[:, :, reset:],
        write=write[:, :, reset:],
    )
    torch.testing.assert_close(whole[:, :, reset:], alone, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(state, alone_state, rtol=1e-6, atol=2e-6)


def test_more_iterations_at_inference_come_nearer_to_the_direct_solve():
    model = build(dim=32, num_heads=1, regularization_min=0.01)
    for mixer in model.mixers:  # keys far from orthogonal: hard systems
        torch.nn.init.constant_(mixer.raw_regularization, -8.0)
    ids = torch.randint(1, VOCAB, (2, 48), generator=torch.Generator().manual_seed(1))
    iterations = (1, 5, 10, 20, 40)
    with torch.no_grad():
        results = []
        for solver in (EXACT, *(MesaSolver(num_iterations=n, tolerance=0.0) for n in iterations)):
            for mixer in model.mixers:
                mixer.inference_solver = solver
            results.append(model(ids))
    exact, *others = results
    errors = [float((logits - exact).norm() / exact.norm()) for logits in others]
    assert errors[0] > 0.01
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_a_smaller_tolerance_at_inference_comes_nearer_to_the_direct_solve():
    ids = torch.randint(1, VOCAB, (2, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = build(eval_iterations=60, eval_tolerance=1e-14)(ids)
        found = [build(eval_tolerance=tolerance)(ids) for tolerance in (1e-1, 1e-3, 1e-6)]
    errors = [float((logits - exact).norm()) for logits in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]


def test_iterations_of_inference_are_not_those_of_training():
    model, plain = build(eval_iterations=1, eval_tolerance=0.0), build()
    ids = torch.arange(1, 13)[None]
    assert not torch.allclose(model(ids), plain(ids))
    assert torch.equal(model.train()(ids), plain.train()(ids))


@pytest.mark.parametrize(
    "changes",
    [{"solver": "none"}, {"conv_width": 1}, {"num_heads": 1}, {"tolerance": 0.1}],
    ids=str,
)
def test_reading_on_from_a_state_equals_the_whole_pass(changes):
    model = build(**changes)
    ids = torch.randint(1, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    whole, state = model(ids), model.init_state()
    assert_close(model.decode_step(ids[:, :4], state), whole[:, 3], tolerance=1e-10)
    for place in range(4, 9):
        logits = model.decode_step(ids[:, place : place + 1], state)
        assert_close(logits, whole[:, place], tolerance=1e-10)


def count_kept(state):
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() // tensor.itemsize
        for cache in state.caches
        for tensor in (cache.keys, cache.values, cache.convolution.inputs)
    }
    return sum(storages.values())


def test_what_is_kept_does_not_grow_with_the_text():
    model = build()
    state, sizes = model.init_state(), []
    with torch.no_grad():
        for length in (3, 1, 1, 200, 1):
            model.decode_step(torch.full((2, length), 5), state)
            sizes.append(count_kept(state))
    # H and G of 2 heads and 3 inputs of queries and keys, by row and layer.
    assert sizes == [2 * 2 * (2 * 2 * 8 * 8 + 3 * 2 * 16)] * 5
    assert len(state) == 206


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def test_no_tensor_has_a_matrix_for_every_position():
    mixer = MesaMixer(
        64,
        1,
        solver=MesaSolver(num_iterations=2),
        conv_width=4,
        regularization_min=0.25,
        output_init_scale=1.0,
    )
    with LargestTensor() as made:
        mixer(torch.randn(1, 256, 64)).sum().backward()
    assert made.largest < 256 * 64 * 64 // 16


def test_a_short_convolution_sees_as_many_positions_as_it_is_wide():
    convolution = ShortConvolution(1, 3)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[100.0], [10.0], [1.0]]))
    found = convolution(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]))
    assert found.flatten().tolist() == [1.0, 12.0, 123.0, 234.0]


def test_heads_remember_for_spans_from_long_to_short():
    mixer: Any = build(num_heads=4).mixers[0]
    gates = torch.sigmoid(mixer.gates.bias[:4])
    spans = (1 / (1 - gates)).tolist()
    assert spans == pytest.approx([1024.0, 256.0, 64.0, 16.0], rel=1e-4)


def test_the_regularization_begins_at_one_and_stays_above_its_least():
    mixer, _ = build(regularization_min=0.4).mixers
    assert_close(mixer.regularization, torch.ones(2, 8, dtype=torch.float64), tolerance=1e-6)
    torch.nn.init.constant_(mixer.raw_regularization, -1e4)
    assert_close(mixer.regularization, torch.full((2, 8), 0.4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "given"),
    [("pattern", "local:8"), ("decoder", "full"), ("encoder", "full"), ("cross", "local:8")],
)
def test_a_pattern_of_attention_is_refused(name, given):
    with pytest.raises(ConfigError) as caught:
        MesaNet(SMALL, VOCAB, AttentionConfig(**{name: given}))
    assert str(caught.value) == (
        f"attention.{name}={given}: mesanet has no attention.  "
        "Leave it out; its cost is linear in the length."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 15}, "dim must be a multiple of num_heads (2), not 15"),
        ({"conv_width": 0}, "conv_width must be 1 or more, not 0"),
        ({"num_iterations": 0}, "num_iterations must be 1 or more, not 0"),
        ({"eval_iterations": 0}, "eval_iterations must be 1 or more, not 0"),
        ({"tolerance": -1.0}, "tolerance must be at least 0 and below 1, not -1.0"),
        ({"eval_tolerance": 1.0}, "eval_tolerance must be at least 0 and below 1, not 1.0"),
        (
            {"regularization_min": 0.0},
            "regularization_min must be above 0 and below 1, not 0.0",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(changes, message):
    with pytest.raises(ValueError) as caught:
        MesaNetConfig(**{"dim": 16, "num_heads": 2} | changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({}, "2 layers, d=16, 2 heads, ff 24, conjugate gradient 30 to 1e-05"),
        (
            {"tolerance": 0.0, "eval_iterations": 8},
            "2 layers, d=16, 2 heads, ff 24, conjugate gradient 30, at inference 8",
        ),
        ({"solver": "none"}, "2 layers, d=16, 2 heads, ff 24, gated linear attention"),
    ],
)
def test_the_summary_tells_how_far_it_solves(changes, summary):
    config = msgspec.structs.replace(SMALL, **changes)
    assert config.summary(AttentionConfig()) == summary


def test_the_bytes_of_attention_are_those_that_are_kept():
    model = build(num_layers=1, dim=64, num_heads=2).float()
    (mixer,) = model.mixers
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        is_pair = tensor.shape[-2:] == (64, 64) and tensor.dim() > 2
        if is_pair or tensor.shape[-2:] in ((32, 32), (64, 32)):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = mixer(torch.randn(2, 512, 64))
    predicted = model.attention_bytes(AttentionConfig(), 512)
    assert out.requires_grad
    assert 0.5 * predicted < sum(kept.values()) / (2 * 512) < 2 * predicted
