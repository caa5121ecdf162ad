"""What maps, records or batches a call gives what calls one by one give.

Lengths are on both sides of the thresholds where the method changes: the definition, and block by
block from 512 x 512 pairs on.
"""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from regard.attention import (
    Alibi,
    Causal,
    Global,
    Local,
    RandomBlocks,
    RelativeWindow,
    Strided,
    attend,
)
from regard.attention.mesa.layer_function import mesa
from regard.errors import ConfigError

LONG = 512
PATTERNS = [Causal(), Local(3, 0) | Global([0]), Strided(9) & Causal()]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def draw_inputs(length, *leading):
    return [draw(*leading, 1, 2, length, 2, seed=seed) for seed in range(3)]


def one_by_one(compute, *inputs):
    return torch.stack([compute(*rows) for rows in zip(*inputs, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_jvp_of_a_map_equals_a_map_of_jvps(pattern):
    inputs, tangents = draw_inputs(LONG, 2), draw_inputs(LONG, 2)[::-1]

    def compute(q, k, v):
        return attend(q, k, v, pattern=pattern)

    def push(*inputs):
        return torch.func.jvp(torch.vmap(compute), tuple(inputs), tuple(tangents))[1]

    def push_one(inputs, tangents):
        return torch.func.jvp(compute, inputs, tangents)[1]

    expected = torch.vmap(push_one)(tuple(inputs), tuple(tangents))
    torch.testing.assert_close(push(*inputs), expected)


MAPPED = {
    "mask": draw(2, LONG, LONG) > -0.5,
    "lengths": torch.tensor([[LONG - 1], [2]]),
    "segments": torch.stack([torch.arange(LONG) // size for size in (3, 200)])[:, None],
}


@pytest.mark.parametrize("pattern", PATTERNS[:2], ids=str)
@pytest.mark.parametrize("name", MAPPED)
def test_what_limits_the_pairs_may_be_mapped_over_alone(name, pattern):
    q, k, v = draw_inputs(LONG)

    def gradient(limit):
        options = {name: (limit, limit) if name == "segments" else limit}

        def value(k):
            return attend(q, k, v, pattern=pattern, **options).square().sum()

        return torch.func.grad(value)(k)

    mapped = MAPPED[name]
    torch.testing.assert_close(torch.vmap(gradient)(mapped), one_by_one(gradient, mapped))


def test_positions_of_keys_may_be_mapped_over():
    q, k, v = draw_inputs(6)
    positions = torch.stack([torch.arange(6), torch.arange(6).flip(0)])

    def compute(positions):
        return attend(q, k, v, pattern=Strided(2) & Causal(), key_positions=positions)

    torch.testing.assert_close(torch.vmap(compute)(positions), one_by_one(compute, positions))


def test_random_blocks_are_the_same_in_a_map():
    q, k, v = draw_inputs(11, 2)
    pattern = RandomBlocks(2, 2, seed=7)  # not drawn before: tables are kept

    def compute(q, k, v):
        return attend(q, k, v, pattern=pattern)

    torch.testing.assert_close(torch.vmap(compute)(q, k, v), one_by_one(compute, q, k, v))


def test_a_pattern_by_lengths_that_are_mapped_over_is_refused():
    q, k, v = draw_inputs(6, 2)

    def value(q, lengths):
        return attend(q, k[0], v[0], pattern=RelativeWindow(0.5, 0.5), lengths=lengths).sum()

    with pytest.raises(ConfigError, match=r"which torch.vmap over them cannot read.*resolve\("):
        torch.vmap(torch.func.grad(value))(q, torch.tensor([[3], [6]]))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's own
def test_a_regularization_of_the_mesa_layer_may_be_mapped_over_alone():
    q, k, v = draw_inputs(5)

    def compute(regularization):
        return mesa(q, k, v, regularization=regularization)

    many = draw(2, 2, 2).exp()
    torch.testing.assert_close(torch.vmap(compute)(many), one_by_one(compute, many))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # PyTorch's own
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_linearized_call_gives_the_jvp(pattern):
    q, k, v = draw_inputs(130)
    bias = Alibi(draw(2))

    def compute(q):
        return attend(q, k, v, pattern=pattern, bias=bias)

    out, push = torch.func.linearize(compute, q)
    expected = torch.func.jvp(compute, (q,), (k,))
    torch.testing.assert_close((out, push(k)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_recorded_operators_are_pytorchs_alone(mode):
    inputs = draw_inputs(130)

    def compute(q, k, v):
        return attend(q, k, v, pattern=Local(3, 0) | Global([0]))

    graph = make_fx(compute, tracing_mode=mode)(*inputs)
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert "aten.bmm.default" in called
    assert not any(name.startswith("regard") for name in called), called
    torch.testing.assert_close(graph(*inputs), compute(*inputs))


@pytest.mark.parametrize("length", [5, 130])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_functionalized_call_is_the_same(pattern, length):
    q, k, v = draw_inputs(length)

    def compute(q):
        return attend(q, k, v, pattern=pattern)

    torch.testing.assert_close(torch.func.functionalize(compute)(q), compute(q))


def test_weights_of_a_long_sparse_pattern_are_dense_in_a_transform():
    q, k, v = draw_inputs(LONG)

    def weights(q):
        return attend(q, k, v, pattern=Local(3, 0), return_weights=True)[1]

    expected = weights(q)
    assert expected.is_sparse
    mapped = torch.vmap(weights)(torch.stack([q, k]))
    torch.testing.assert_close(mapped[0], expected.to_dense())
    assert torch.func.jvp(weights, (q,), (k,))[1].abs().max() > 0.01
