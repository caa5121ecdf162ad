"""Rotary positions: the formula, what it promises, and Llama's layout."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from regard.errors import ShapeError
from regard.layers.rotary import Rotary, rotate

BATCH, HEADS, LENGTH, DIM = 2, 3, 5, 6
LAYOUTS = pytest.mark.parametrize("interleaved", [False, True])
POSITIONS = torch.tensor([[0, 1, 2, 3, 4], [7, 0, -2, 100, 5]])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X = draw(BATCH, HEADS, LENGTH, DIM)


@LAYOUTS
def test_every_pair_is_turned_by_the_angle_of_its_position(interleaved):
    found = rotate(X, POSITIONS, base=50.0, interleaved=interleaved)
    for b in range(BATCH):
        for t in range(LENGTH):
            for i in range(DIM // 2):
                angle = int(POSITIONS[b, t]) * 50.0 ** (-2 * i / DIM)
                one, two = (2 * i, 2 * i + 1) if interleaved else (i, i + DIM // 2)
                x, y = X[b, :, t, one], X[b, :, t, two]
                cos, sin = math.cos(angle), math.sin(angle)
                torch.testing.assert_close(found[b, :, t, one], x * cos - y * sin)
                torch.testing.assert_close(found[b, :, t, two], x * sin + y * cos)


@LAYOUTS
@given(shift=st.integers(-10_000, 10_000), seed=st.integers(0, 99))
def test_dot_products_depend_on_the_distance_alone(interleaved, shift, seed):
    q, k = draw(1, 1, LENGTH, DIM, seed=seed), draw(1, 1, LENGTH, DIM, seed=seed + 100)
    positions = torch.arange(LENGTH)

    def scores(start):
        turned = [rotate(x, positions + start, interleaved=interleaved) for x in (q, k)]
        return turned[0] @ turned[1].transpose(-1, -2)

    torch.testing.assert_close(scores(shift), scores(0), rtol=1e-9, atol=1e-9)


def test_another_distance_gives_another_dot_product():
    q, k = draw(1, 1, 1, DIM, seed=1), draw(1, 1, 1, DIM, seed=2)
    near, far = (rotate(q, torch.tensor([p])) @ k.transpose(-1, -2) for p in (1, 2))
    assert not torch.isclose(near, far).any()


@LAYOUTS
def test_position_zero_changes_nothing(interleaved):
    assert torch.equal(rotate(X, torch.zeros(LENGTH).long(), interleaved=interleaved), X)


@LAYOUTS
def test_lengths_of_vectors_are_kept(interleaved):
    found = rotate(X, POSITIONS, interleaved=interleaved)
    torch.testing.assert_close(found.norm(dim=-1), X.norm(dim=-1))


def test_each_row_has_its_own_positions():
    found = rotate(X, POSITIONS)
    for row in range(BATCH):
        alone = rotate(X[row : row + 1], POSITIONS[row])
        torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=0)


def test_the_layouts_differ_by_the_order_of_coordinates_only():
    order = torch.tensor([0, 3, 1, 4, 2, 5])  # half-split coordinates, pair by pair
    found = rotate(X[..., order], POSITIONS, interleaved=True)
    torch.testing.assert_close(found, rotate(X, POSITIONS)[..., order], rtol=0, atol=0)


@pytest.mark.parametrize("base", [10000.0, 500000.0])
def test_it_equals_llama_in_transformers(base):
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(
        hidden_size=HEADS * 8,
        num_attention_heads=HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    q, k = draw(2, HEADS, 5, 8, seed=1, dtype=torch.float32), draw(2, 1, 5, 8, seed=2).float()
    positions = torch.tensor([[0, 1, 2, 3, 4], [9, 50, 0, 3, 120]])
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, positions)
    wanted_q, wanted_k = llama.apply_rotary_pos_emb(q, k, cos, sin)
    # Llama's angles are float32: at position 120 they are off by up to 120 * 2^-23, about 1.4e-5.
    torch.testing.assert_close(rotate(q, positions, base=base), wanted_q, rtol=0, atol=5e-5)
    torch.testing.assert_close(rotate(k, positions, base=base), wanted_k, rtol=0, atol=5e-5)


@LAYOUTS
def test_first_and_second_derivatives_are_exact(interleaved):
    x = X[:, :1].clone().requires_grad_()

    def cube(x):
        return rotate(x, POSITIONS, interleaved=interleaved).pow(3)

    assert gradcheck(cube, (x,), fast_mode=True)
    assert gradgradcheck(cube, (x,), fast_mode=True)


@LAYOUTS
def test_the_hessian_of_a_score_is_exact(interleaved):
    q, k = draw(1, 1, 1, 4, seed=1), draw(1, 1, 1, 4, seed=2)
    at = torch.tensor([3])

    def score(q, k):
        return (rotate(q, at, interleaved=interleaved) * k).sum()

    # The score is bilinear, its mixed second derivative the matrix that turns.
    (_, mixed), _ = torch.func.hessian(score, argnums=(0, 1))(q, k)
    turned = torch.einsum("ij,i->j", mixed.reshape(4, 4), q.flatten())
    torch.testing.assert_close(turned, rotate(q, at, interleaved=interleaved).flatten())


def test_jvp_vjp_and_vmap_of_it_agree_with_itself():
    def turn(x):
        return rotate(x, POSITIONS)

    direction = draw(*X.shape, seed=9)
    along = torch.func.jvp(turn, (X,), (direction,))[1]
    torch.testing.assert_close(along, turn(direction))  # linear
    back = torch.func.vjp(turn, X)[1](turn(X))[0]
    torch.testing.assert_close((back * direction).sum(), (turn(X) * along).sum())
    stacked = torch.func.vmap(turn)(torch.stack([X, direction]))
    torch.testing.assert_close(stacked, torch.stack([turn(X), turn(direction)]))


@LAYOUTS
@pytest.mark.parametrize("positions", [POSITIONS, POSITIONS[1]])
def test_a_compiled_graph_has_the_angles_as_one_operator(positions, interleaved):
    operators = []

    def backend(graph, _):
        operators.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    def turn(x):
        return rotate(x, positions, interleaved=interleaved)

    compiled = torch.compile(turn, fullgraph=True, backend=backend)
    assert torch.equal(compiled(X), turn(X))
    assert "regard.rotary_table.default" in operators
    assert not any("cos" in name or "pow" in name for name in operators)


@pytest.mark.parametrize("axis", [0, 1])
def test_compiled_code_maps_over_positions(axis):
    turn = torch.func.vmap(rotate, in_dims=(None, axis))
    rows = torch.stack([POSITIONS, POSITIONS + 3], dim=axis)
    compiled = torch.compile(turn, fullgraph=True, backend="eager")
    expected = torch.stack([rotate(X, POSITIONS), rotate(X, POSITIONS + 3)])
    assert torch.equal(compiled(X, rows), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_large_numbers_of_any_type_stay_finite_and_keep_their_type(dtype):
    x = torch.full((1, 1, 3, 4), -1e4, dtype=dtype)
    found = rotate(x, torch.tensor([0, 1, 100_000]))
    assert found.dtype == dtype
    assert torch.isfinite(found).all()


def test_far_positions_are_as_exact_as_near_ones():
    far = torch.arange(LENGTH) + 10_000_000
    x = X.float()
    torch.testing.assert_close(rotate(x, far), rotate(x.double(), far).float())


def test_the_layer_equals_the_function_and_holds_nothing():
    layer = Rotary(base=50.0, interleaved=True).bfloat16()
    assert torch.equal(layer(X, POSITIONS), rotate(X, POSITIONS, base=50.0, interleaved=True))
    assert layer.state_dict() == {}
    assert repr(layer) == "Rotary(base=50.0, interleaved=True)"


@pytest.mark.parametrize(("dim", "num_positions"), [(8, 1), (8, 6), (7, 5)])
def test_positions_that_would_be_broadcast_and_odd_sizes_are_refused(dim, num_positions):
    with pytest.raises(ShapeError) as caught:
        rotate(torch.ones(2, 3, 5, dim), torch.arange(num_positions))
    assert str(caught.value) == (
        f"x has shape [2, 3, 5, {dim}], positions [{num_positions}]; expected "
        "[batch, heads, length, dim], dim even, and [length] or [batch, length]."
    )
